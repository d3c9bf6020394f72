"""Plots as inline SVG: nothing runs, nothing is fetched, colours follow the page's light or dark style."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.pages.highlight import shown

CHART_STYLE = """
svg.chart { width:100%; height:auto; max-width:34rem; display:block; margin:.3rem 0;
  font:12px system-ui,"Segoe UI",Arial,sans-serif }
.chart text { fill:var(--soft) } .chart .name { fill:var(--ink) } .chart .grid { stroke:var(--line); stroke-width:1 }
.chart .axis { stroke:var(--soft); stroke-width:1 } .chart .line { fill:none; stroke:var(--lane0); stroke-width:2 }
.chart .dot { fill:var(--lane0) } .chart .mark { fill:var(--auto); stroke:var(--card); stroke-width:2 }
.chart .range { stroke:var(--lane0); stroke-width:2; stroke-opacity:.55 }
.chart .line1 { stroke:var(--lane1) } .chart .line2 { stroke:var(--lane2) } .chart .line3 { stroke:var(--lane3) }
.chart .again { stroke-dasharray:6 3 }
.chart .ideal { stroke:var(--soft); stroke-dasharray:4 4 } .chart .here { fill:var(--auto); font-weight:600 }
"""

_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 14, 16, 44
_WIDTH, _HEIGHT = 480, 320
_NAME = 26
_COLOURS = 4


@dataclass(frozen=True)
class Point:
    """A value with its interval; `label` and `note` are only used in rows."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Frame:
    """From values to places in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )


def risk_coverage(points: Sequence[Point], here: Point | None, told: str) -> str:
    """Errors among kept records (y, share) against the share kept (x), and where the run stands.

    Args:
        points: rising in x. here: the run's own point. told: what the picture shows, for a reader who cannot see it.
    """
    highest = max([p.y for p in points] + ([here.y] if here else []) + [0.01])
    top = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if highest <= step + 1e-9)
    frame = _Frame((0.0, 1.0), (0.0, top))
    body = [_axes(frame, [i / 5 for i in range(6)], [top * i / 5 for i in range(6)], "share kept", "wrong among them")]
    body.append(f'<polyline class="line" points="{" ".join(_pair(frame.at(p.x, p.y)) for p in points)}"/>')
    if here is not None:
        x, y = frame.at(here.x, here.y)
        anchor, shift = ("end", -9) if here.x > 0.5 else ("start", 9)
        body.append(f'<circle class="mark" cx="{x}" cy="{y}" r="6"><title>{shown(here.label)}</title></circle>')
        body.append(f'<text class="here" x="{x + shift}" y="{y - 8}" text-anchor="{anchor}">{shown(here.label)}</text>')
    return _svg(body, _HEIGHT, told)


def reliability(points: Sequence[Point], told: str) -> str:
    """Share right (y) against stated probability (x), one dot with its interval a bin, beside the line of perfect honesty."""
    floor = _floor(min([p.x for p in points] + [p.y for p in points] + [0.9]))
    frame = _Frame((floor, 1.0), (floor, 1.0))
    ticks = [floor + (1 - floor) * i / 5 for i in range(6)]
    body = [_axes(frame, ticks, ticks, "stated probability", "share right")]
    (x1, y1), (x2, y2) = frame.at(floor, floor), frame.at(1, 1)
    body.append(f'<line class="ideal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for p in points:
        x, y = frame.at(p.x, p.y)
        if p.low is not None and p.high is not None:
            body.append(_line("range", (x, frame.at(p.x, max(floor, p.low))[1]), (x, frame.at(p.x, p.high)[1])))
        body.append(f'<circle class="dot" cx="{x}" cy="{y}" r="4"><title>{shown(p.note)}</title></circle>')
    return _svg(body, _HEIGHT, told)


def rows(points: Sequence[Point], told: str) -> str:
    """One line a part: its name, its value (x, a share) with interval, and a note at the end."""
    step, left, right = 22, 190, 110
    height = 34 + step * len(points)
    least = min([p.x if p.low is None else p.low for p in points] + [0.9])
    floor = _floor(least)

    def place(value: float) -> float:
        return round(left + (value - floor) / (1 - floor) * (_WIDTH + 60 - left - right), 1)

    body = []
    for i in range(6):
        value = floor + (1 - floor) * i / 5
        body.append(_line("grid", (place(value), 4), (place(value), height - 26)))
        body.append(f'<text x="{place(value)}" y="{height - 10}" text-anchor="middle">{value:.0%}</text>')
    for number, p in enumerate(points):
        y = 16 + step * number
        name = p.label if len(p.label) <= _NAME else p.label[: _NAME - 1] + "…"
        body.append(f'<text class="name" x="{left - 10}" y="{y + 4}" text-anchor="end">{shown(name)}</text>')
        if p.low is not None and p.high is not None:
            body.append(_line("range", (place(max(floor, p.low)), y), (place(p.high), y)))
        body.append(f'<circle class="dot" cx="{place(p.x)}" cy="{y}" r="4"/>')
        body.append(f'<text x="{_WIDTH + 60 - right + 12}" y="{y + 4}">{shown(p.note)}</text>')
    return _svg(body, height, told, _WIDTH + 60)


def curves(series: Mapping[str, Sequence[Point]], below: str, beside: str, told: str) -> str:
    """Named lines over the same axes, the names at their right ends; y from 0. Colours repeat after four lines, then dashed."""
    points = [point for line in series.values() for point in line]
    across, up = _round_ticks(max(p.x for p in points)), _round_ticks(max(p.y for p in points))
    frame = _Frame((0.0, across[-1]), (0.0, up[-1]))
    body = [_axes(frame, across, up, below, beside, "{:g}")]
    for number, (name, line) in enumerate(series.items()):
        kind = f"line line{number % _COLOURS}{' again' if number >= _COLOURS else ''}"
        body.append(f'<polyline class="{kind}" points="{" ".join(_pair(frame.at(p.x, p.y)) for p in line)}"/>')
        x, y = frame.at(line[-1].x, line[-1].y)
        body.append(f'<text class="name" x="{x - 4}" y="{y - 6}" text-anchor="end">{shown(name)}</text>')
    return _svg(body, _HEIGHT, told)


def _round_ticks(highest: float) -> list[float]:
    """Five equal steps from 0 that reach a value, each a round number."""
    unit = 10.0 ** math.floor(math.log10(max(highest, 1e-9) / 5))
    step = next(factor * unit for factor in (1, 2, 2.5, 4, 5, 6, 8, 10) if 5 * factor * unit >= highest * (1 - 1e-9))
    return [round(step * number, 12) for number in range(6)]


def _floor(least: float) -> float:
    """Where an axis up to 1 begins, so that five equal steps have round names."""
    return next(floor for floor in (0.9, 0.75, 0.5, 0.0) if least >= floor or floor == 0.0)


def _axes(frame: _Frame, across: Sequence[float], up: Sequence[float], below: str, beside: str, form: str = "") -> str:
    """Ticks as shares, or in the `form` of a format string."""
    parts = []
    for value in across:
        x, y = frame.at(value, frame.y[0])
        parts.append(f'<text x="{x}" y="{y + 17}" text-anchor="middle">{(form or "{:.0%}").format(value)}</text>')
    for value in up:
        x, y = frame.at(frame.x[0], value)
        parts.append(_line("grid", (x, y), (_WIDTH - _RIGHT, y)))
        share = "{:.1%}" if frame.y[1] - frame.y[0] < 0.05 else "{:.0%}"
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{(form or share).format(value)}</text>')
    x, y = frame.at(frame.x[0], frame.y[0])
    parts.append(_line("axis", (x, y), (_WIDTH - _RIGHT, y)))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{shown(below)}</text>')
    parts.append(f'<text transform="rotate(-90 12 {middle})" x="12" y="{middle}" text-anchor="middle">{shown(beside)}</text>')
    return "".join(parts)


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>'


def _pair(place: tuple[float, float]) -> str:
    return f"{place[0]},{place[1]}"


def _svg(body: Sequence[str], height: float, told: str, width: int = _WIDTH) -> str:
    label = shown(told)
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(body)}</svg>'
