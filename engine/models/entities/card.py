"""What the model card of every system of entities says, from the figures that its recipe measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluation.spans import ALL
from engine.models.entities.candidates import Decoding

CARD_METRICS = ("precision", "recall", "f1", "overlap_f1", "iou_f1", "char_f1", "start_accuracy", "end_accuracy", "index_both")


def chapters(figures: Mapping[str, Any], decoding: Decoding, command: str) -> list[str]:
    """The lines of the card below the system's own."""
    lines = [
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
    thresholds = ", ".join(f"{name} {getattr(decoding, name):g}" for name in decoding.tuned)
    lines += ["", f"Thresholds: {thresholds}. Mentions are {decoding.overlaps} and have at most {decoding.longest} words."]
    if figures["calibration"]["ece"] is not None:
        lines.append(f"Expected calibration error of the scores of found spans: {figures['calibration']['ece']:.3f}.")
    broken = figures["broken"]
    for reason, count in broken["reasons"].items():
        lines.append(f"{broken['count']:,} of {broken['texts']:,} texts cannot be used: `{reason}` ({count:,}).")
    lost, mentions = figures["in_pieces"]["lost"], figures["in_pieces"]["mentions"]
    if lost:
        lines.append(f"{lost:,} of {mentions:,} mentions lie in several pieces, which are found as separate mentions.")
    return [*lines, *mark_lines(figures["marked"])]


def mark_lines(marks: Mapping[str, int]) -> list[str]:
    """A line for each thing that became of marked spans: the counts of `spans.align_spans`, `overlapping` ones (see
    `Examples.overlapping`), and `coordinated` ones."""
    effects = {
        "snapped": "were widened to whole words",
        "unread": "lie beyond what is read of a text",
        "overlapping": "of train overlap others and cannot be found beside them: decoding is flat",
        "coordinated": "are coordinations, several mentions in one mark such as CD4 and CD8 cells, and are left out",
    }
    return [f"{marks[name]:,} marked spans {effect}." for name, effect in effects.items() if marks[name]]


def _cell(value: Sequence[float | None], interval: bool) -> str:
    if value[0] is None:
        return "–"
    return f"{value[0]:.3f}" + (f" ({value[1]:.3f} to {value[2]:.3f})" if interval and value[1] is not None else "")
