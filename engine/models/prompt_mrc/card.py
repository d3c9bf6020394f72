"""The model card of an extractor, from the figures that the recipe measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluation.spans import ALL
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.templates import source

CARD_METRICS = ("precision", "recall", "f1", "overlap_f1", "iou_f1", "char_f1", "start_accuracy", "end_accuracy", "index_both")


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
