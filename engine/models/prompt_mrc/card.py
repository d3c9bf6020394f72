"""The model card of an extractor, from the figures that the recipe measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluation.spans import ALL
from engine.models.prompt_mrc.config import HARD, HYBRID, NAME, SOFT, TAGGER, Decoding, MrcConfig
from engine.models.prompt_mrc.templates import source

CARD_METRICS = ("precision", "recall", "f1", "overlap_f1", "iou_f1", "char_f1", "start_accuracy", "end_accuracy", "index_both")


def model_card(figures: Mapping[str, Any], config: MrcConfig, command: str) -> str:
    """The card as Markdown."""
    trained, total = figures["parameters"]["trained"], figures["parameters"]["total"]
    words, own = _words(config)
    soft = f"{config.soft} soft vectors{' at every layer' if config.deep else ''}"
    prompt = {TAGGER: "tags for every type, no prompt", NAME: words, HARD: words, SOFT: soft, HYBRID: f"{words} and {soft}"}
    lines = [
        f"# Entities: {', '.join(config.types)}",
        "",
        f"Prompt-bioMRC, mode {config.mode}: {prompt[config.mode]} in front of each text. Encoder {config.encoder} (sha256",
        f"{config.encoder_digest[:12]}...), {trained:,} of {total:,} parameters trained.",
        "",
    ]
    if own:
        lines += [
            f"For {' and '.join(own)} the question is the training's own (model.questions, model.ontology), not a built-in one.",
            "It is stored in templates.json and in the training's settings (_training/settings.json), and may contain words of",
            "the training texts.",
            "",
        ]
    lines += [
        "Made by",
        "",
        f"    {command}",
        "",
        "## Examples",
        "",
        *(f"* {name}: {count:,}" for name, count in figures["examples"].items()),
        "",
        "Thresholds were tuned on valid; every figure below is from test, with 95 % intervals from resampling its texts.",
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
    # A tagger has one threshold, on its span's score, and an offset.
    names = ("match", "outside") if config.is_tagger else ("start", "end", "match")
    thresholds = ", ".join(f"{name} {figures['decoding'][name]:g}" for name in names)
    decoding = Decoding(**figures["decoding"])
    lines += ["", f"Thresholds: {thresholds}. Mentions are {decoding.overlaps} and have at most {decoding.longest} words."]
    if figures["calibration"]["ece"] is not None:
        lines.append(f"Expected calibration error of the scores of found spans: {figures['calibration']['ece']:.3f}.")
    broken = figures["broken"]
    for reason, count in broken["reasons"].items():
        lines.append(f"{broken['count']:,} of {broken['texts']:,} texts cannot be used: `{reason}` ({count:,}).")
    lost, mentions = figures["in_pieces"]["lost"], figures["in_pieces"]["mentions"]
    if lost:
        lines.append(f"{lost:,} of {mentions:,} mentions lie in several pieces, which are found as separate mentions.")
    return "\n".join([*lines, *mark_lines(figures["marked"])]) + "\n"


def mark_lines(marks: Mapping[str, int]) -> list[str]:
    """A line for each thing that became of marked spans: the counts of `instances.align_spans`, `overlapping` ones (see
    `Examples.overlapping`), and `coordinated` ones."""
    effects = {
        "snapped": "were widened to whole words",
        "unread": "lie beyond what is read of a text",
        "overlapping": "of train overlap others and cannot be found beside them: decoding is flat",
        "coordinated": "are coordinations, several mentions in one mark such as CD4 and CD8 cells, and are left out",
    }
    return [f"{marks[name]:,} marked spans {effect}." for name, effect in effects.items() if marks[name]]


def _words(config: MrcConfig) -> tuple[str, list[str]]:
    """The kinds of words in front of a text, and the types whose question is not built in."""
    texts = zip(config.types, config.queries, strict=False)
    sources = {name: source(config, name, text) for name, text in texts}
    kinds = {name: origin.get("style", origin.get("source")) for name, origin in sources.items()}
    phrases = {"name": "the type's name", "type": "the type's name", "own": "a question of its own"}
    words = dict.fromkeys(phrases.get(kind, f"a template ({kind})") for kind in kinds.values())
    return " or ".join(words), [name for name, kind in kinds.items() if kind == "own"]


def _cell(value: Sequence[float | None], interval: bool) -> str:
    if value[0] is None:
        return "–"
    return f"{value[0]:.3f}" + (f" ({value[1]:.3f} to {value[2]:.3f})" if interval and value[1] is not None else "")
