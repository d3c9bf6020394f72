"""A self-contained page about a training: losses and figures by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.pages.charts import CHART_STYLE, Point, curves
from engine.pages.style import page


def write_training_page(path: Path, title: str, curve: Sequence[Mapping[str, Any]]) -> None:
    """Writes the page.

    Args:
        curve: rows with `step` and `epoch`; columns that start with `loss_` and `valid_` become lines, others are not shown.
    """
    losses, figures = _series(curve, "loss_"), _series(curve, "valid_")
    plots = [
        f"<h2>{name}</h2>{curves(series, 'epoch', unit, f'{name} by epoch: ' + ', '.join(series))}"
        for name, unit, series in (("Loss on train", "loss a record", losses), ("Figures on valid", "share", figures))
        if series
    ]
    best = next((row["best_epoch"] for row in reversed(curve) if "best_epoch" in row), None)
    kept = f"<p>The weights kept are those of epoch {best:g}.</p>" if best is not None else ""
    path.write_bytes(page(title, "", [kept, *plots], CHART_STYLE))


def _series(curve: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, list[Point]]:
    series: dict[str, list[Point]] = {}
    for row in curve:
        for name, value in row.items():
            if name.startswith(prefix):
                series.setdefault(name.removeprefix(prefix).replace("_", " "), []).append(Point(row["epoch"], value))
    return series
