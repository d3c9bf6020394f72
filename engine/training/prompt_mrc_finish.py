"""From trained weights to a checkpoint of Prompt-bioMRC: thresholds from valid, figures from test, model card."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.encoders import load_tokenizer
from engine.evaluation.calibration import brier, expected_calibration_error
from engine.evaluation.spans import ALL, SpanFigures, measure
from engine.models.prompt_mrc.checkpoint import write_checkpoint
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.learner import MrcLearner
from engine.models.prompt_mrc.soft_words import soft_words
from engine.models.prompt_mrc.templates import source
from engine.sources.labelled import lost_mentions
from engine.sources.labelled.splits import TEST, VALID
from engine.training.loop import Worker
from engine.training.prompt_mrc import (
    Corpus,
    DataConfig,
    Finding,
    by_record,
    device_called,
    findings,
    load_corpus,
    marked_mentions,
    members_of,
    parameters,
    prepared,
    restore,
    spent_of,
    tensors_of,
    tuned,
)
from engine.training.state import read_state, write_curve

Say = Callable[[str], None]
CARD_METRICS = ("precision", "recall", "f1", "overlap_f1", "iou_f1", "char_f1", "start_accuracy", "end_accuracy", "index_both")


@dataclass(frozen=True)
class Outcome:
    """What a model did on a split: figures, what it found, and how its scores of found spans hold (`ece`, `brier`)."""

    figures: SpanFigures
    found: list[Finding]
    ece: float | None
    brier: float | None


def outcome(trained: MrcLearner, corpus: Corpus, split: str = TEST, rounds: int = 1000) -> Outcome:
    """Measures a learner, thresholds as they stand, on a split."""
    members = members_of(corpus, split)
    gold = marked_mentions(corpus, members, trained.network.config.types)
    found = findings(trained, corpus, members)
    return Outcome(measure(gold, by_record(found, list(gold)), rounds), found, *scores(found, gold))


def scores(found: Sequence[Finding], gold: Mapping[str, Sequence[Any]]) -> tuple[float | None, float | None]:
    """Expected calibration error (15 bins) and Brier score (0 to 1) of found spans' scores, right being exact."""
    if not found:
        return None, None
    prob = np.array([each.score for each in found])
    right = np.array([each.mention in set(gold[each.record_id]) for each in found])
    # Two classes: the squared distance counts once for each, half of it is that of the score.
    half = brier(np.stack([1 - prob, prob], 1), right.astype(int)) / 2
    return expected_calibration_error(prob, right), half


def finish(
    settings: Mapping[str, Any], state: Path, output: Path, *, command: str, say: Say, device: str = "auto"
) -> dict[str, Any]:
    """Writes the checkpoint folder `output` and returns the figures of its card.

    Args:
        settings: as `engine.training.prompt_mrc.learner` takes them. state: folder with the state of the training loop.
        command: what reproduces the model, for the card. device: see `device_called`.
    """
    corpus = load_corpus(DataConfig(**settings["data"]))
    trained, kept = prepared(settings, corpus, Worker(device=device_called(device)))
    tensors, curve = read_state(state)
    restore(trained, tensors)
    say(f"tuning thresholds on {len(members_of(corpus, VALID)):,} valid texts")
    valid = tuned(trained)
    say(f"measuring on {len(members_of(corpus, TEST)):,} test texts")
    measured = outcome(trained, corpus)
    lost, mentions = lost_mentions(corpus.documents, corpus.types)
    spent = spent_of(corpus, trained)
    marked = {name: getattr(spent, name) for name in ("snapped", "unread", "repeated", "overlapping")}
    figures: dict[str, Any] = {
        "types": list(trained.network.config.types),
        "examples": corpus.counts(),
        "broken": {
            "texts": corpus.broken.texts,
            "count": corpus.broken.count,
            "reasons": {each.kind: each.count for each in corpus.broken.reasons},
        },
        "in_pieces": {"lost": lost, "mentions": mentions},
        "marked": {**marked, "coordinated": corpus.coordinated},
        "parameters": parameters(trained),
        "decoding": trained.decoding.to_json(),
        "valid_f1": valid,
        "test": plain(measured.figures),
        "confusion": [[marked, said, count] for (marked, said), count in sorted(measured.figures.confusion.items())],
        "calibration": {"ece": measured.ece, "brier": measured.brier},
        "curve": curve,
    }
    card = model_card(figures, trained.network.config, command)
    told = {"valid_f1": valid, "test_f1": measured.figures["f1"]}
    figures["digest"] = write_checkpoint(output, trained.network.config, tensors_of(trained, kept), trained.decoding, card, told)
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    write_curve(output, curve)
    if trained.network.config.is_soft:
        pq.write_table(soft_words(trained.network, load_tokenizer(output)), output / "soft_words.parquet")
    return figures


def plain(figures: SpanFigures) -> dict[str, dict[str, Any]]:
    """Figures as plain values: slice -> metric -> value, low and high."""
    found: dict[str, dict[str, Any]] = {}
    for (metric, part), each in figures.values.items():
        found.setdefault(part, {})[metric] = [each.value, each.low, each.high]
    return found


def model_card(figures: Mapping[str, Any], config: MrcConfig, command: str) -> str:
    """The card as Markdown."""
    trained, total = figures["parameters"]["trained"], figures["parameters"]["total"]
    soft = f"{config.soft} soft vectors{' at every layer' if config.deep else ''}"
    asked, own = _asked(config)
    before = {"tagger": "tags for every type, no prompt", "name": asked, "hard": asked}
    before |= {"soft": soft, "hybrid": f"{asked} and {soft}"}
    lines = [
        f"# Entities: {', '.join(config.types)}",
        "",
        f"Prompt-bioMRC, mode {config.mode}: {before[config.mode]} in front of each text. Encoder {config.encoder} (sha256",
        f"{config.encoder_digest[:12]}...), {trained:,} of {total:,} parameters trained.",
        "",
        *own,
        "Made by",
        "",
        f"    {command}",
        "",
        "## Examples",
        "",
        *(f"* {name}: {count:,}" for name, count in figures["examples"].items()),
        "",
        "Thresholds from valid, every figure below from test; intervals (95 %) from drawing texts again.",
        "",
        "## Test",
        "",
        "| type | " + " | ".join(CARD_METRICS) + " |",
        "|---" * (len(CARD_METRICS) + 1) + "|",
    ]
    for part, values in figures["test"].items():
        if part != "macro":
            cells = [_cell(values[metric], part == ALL) for metric in CARD_METRICS]
            lines.append(f"| {part.removeprefix('type=')} | " + " | ".join(cells) + " |")
    # The tagger has one threshold, on its span's score, and an offset.
    names = ("match", "outside") if config.is_tagger else ("start", "end", "match")
    thresholds = ", ".join(f"{name} {figures['decoding'][name]:g}" for name in names)
    lines += ["", f"Thresholds: {thresholds}."]
    if figures["calibration"]["ece"] is not None:
        lines.append(f"Expected calibration error of found spans {figures['calibration']['ece']:.3f}.")
    broken = figures["broken"]
    for reason, count in broken["reasons"].items():
        lines.append(f"{broken['count']:,} of {broken['texts']:,} texts cannot be used: `{reason}` ({count:,}).")
    lost, mentions = figures["in_pieces"]["lost"], figures["in_pieces"]["mentions"]
    if lost:
        lines.append(f"{lost:,} of {mentions:,} mentions lie in several pieces, which are found as mentions of their own.")
    return "\n".join([*lines, *marks_told(figures["marked"])]) + "\n"


def _asked(config: MrcConfig) -> tuple[str, list[str]]:
    """What kinds of words stand in front of a text, and lines about the questions that did not come along."""
    sources = {name: source(config, name, text) for name, text in zip(config.types, config.queries, strict=False)}
    said = {"name": "the type's name", "type": "the type's name", "own": "a question of its own"}
    kinds = [each.get("style", each.get("source")) for each in sources.values()]
    asked = " or ".join(dict.fromkeys(said.get(kind, f"a template ({kind})") for kind in kinds))
    own = [name for name, kind in zip(sources, kinds, strict=True) if kind == "own"]
    told = [
        f"For {' and '.join(own)} the question is the training's own (model.questions, model.ontology) and none that comes",
        "along. It stands in templates.json and in the settings that the training keeps (_training/settings.json), and may hold",
        "words of the training texts.",
        "",
    ]
    return asked, told if own else []


def marks_told(marked: Mapping[str, Any]) -> list[str]:
    """A line for each thing that became of marked spans: `snapped`, `unread` and `overlapping` of `instances.Marked`, and
    `coordinated`."""
    told = {
        "snapped": "were widened to whole words",
        "unread": "lie beyond what is read of a text",
        "overlapping": "of train overlap others and cannot be found beside them: a tagger, model.nested=false and "
        "model.flat_across_types=true keep spans apart",
        "coordinated": "are coordinations, several mentions in one mark such as CD4 and CD8 cells, and are left out",
    }
    return [f"{marked[name]:,} marked spans {what}." for name, what in told.items() if marked[name]]


def _cell(value: Sequence[float | None], interval: bool) -> str:
    if value[0] is None:
        return "–"
    between = f" ({value[1]:.3f} to {value[2]:.3f})" if interval and value[1] is not None else ""
    return f"{value[0]:.3f}{between}"
