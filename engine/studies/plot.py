"""A figure and its interval for each arm of a study, one line below the other, as an SVG picture for the pages of docs/results.

plots:
  modes: {metric: f1, title: "Exact F1", arms: [tagger, name], slice: all}       # docs/results/<study>.modes.svg
"""

import math
from collections.abc import Sequence
from html import escape

import pyarrow as pa

from engine.studies import results
from engine.studies.study import Study

_NAMES, _AXIS, _VALUES, _LINE, _TOP, _BOTTOM = 250, 380, 170, 24, 46, 34
_STYLE = 'font-family="system-ui,Segoe UI,Arial,sans-serif" font-size="13"'


def svg(study: Study, name: str, rows: pa.Table) -> str:
    """The picture of one of a study's plots; an arm without the figure has no line."""
    spec = study.plots[name]
    part, corpora = spec.get("slice", results.ALL), spec.get("corpora", list(study.corpora))
    by_arm = {
        (row["corpus"], row["arm"]): row
        for row in sorted(rows.to_pylist(), key=lambda row: row["seed"] is None)
        if row["metric"] == spec["metric"] and row["slice"] == part and row["value"] is not None
    }
    arms = spec.get("arms") or list(dict.fromkeys(arm.name for arm in study.arms()))
    lines = [
        (f"{corpus}, {arm}" if len(corpora) > 1 else arm, by_arm[corpus, arm])
        for corpus in corpora
        for arm in arms
        if (corpus, arm) in by_arm
    ]
    ends = [row[end] for _, row in lines for end in ("value", "low", "high") if row[end] is not None]
    ticks = _ticks(min(ends), max(ends), zero=part != results.ALL)
    width, height = _NAMES + _AXIS + _VALUES, _TOP + _LINE * len(lines) + _BOTTOM

    def x(value: float) -> float:
        return round(_NAMES + _AXIS * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    body = [f'<text x="10" y="22" font-weight="600">{escape(spec["title"])}</text>']
    for tick in ticks:
        dash = "" if abs(tick) < 1e-9 and ticks[0] < 0 else ' stroke-dasharray="2 4"'
        body.append(f'<path d="M{x(tick)} {_TOP - 10}V{height - _BOTTOM}" stroke="#9aa3ad"{dash}/>')
        body.append(f'<text x="{x(tick)}" y="{height - 12}" text-anchor="middle" fill="#4a535c">{_label(tick)}</text>')
    form = "+.3f" if part.startswith("less ") else ".3f"
    for number, (label, row) in enumerate(lines):
        y = _TOP + _LINE * number + 8
        body.append(f'<text x="{_NAMES - 12}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        interval = ""
        if row["low"] is not None and row["high"] is not None:
            body.append(f'<path d="M{x(row["low"])} {y}H{x(row["high"])}" stroke="#1f6fb2" stroke-width="3" opacity=".5"/>')
            interval = f" ({row['low']:{form}} to {row['high']:{form}})"
        body.append(f'<circle cx="{x(row["value"])}" cy="{y}" r="5" fill="#1f6fb2"/>')
        text = f"{row['value']:{form}}{interval}".replace("-", "−")
        body.append(f'<text x="{_NAMES + _AXIS + 14}" y="{y + 4}" font-size="12">{text}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" {_STYLE}>'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *body, "</svg>", ""])


def _ticks(low: float, high: float, zero: bool) -> list[float]:
    """Round values from below the lowest to above the highest, some five; with 0 among them for differences."""
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    raw = max(high - low, 1e-6) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _label(tick: float) -> str:
    return f"{tick:.3f}".rstrip("0").rstrip(".").replace("-", "−")


def file_name(study: Study, name: str) -> str:
    return f"{study.name.replace('/', '.')}.{name}.svg"


def plots(study: Study, rows: pa.Table) -> Sequence[tuple[str, str]]:
    """Every plot of a study: its file's name and what it holds."""
    return [(file_name(study, name), svg(study, name, rows)) for name in study.plots]
