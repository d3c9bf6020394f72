"""Charts as inline SVG and plain boxes: no script, nothing fetched; colours follow the page's light or dark style.

A chart shrinks with the page, so on a narrow page its letters are drawn larger; the margins leave room for that.
"""

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
.chart .end0 { fill:var(--lane0) } .chart .end1 { fill:var(--lane1) } .chart .end2 { fill:var(--lane2) }
.chart .end3 { fill:var(--lane3) }
.chart .ideal { stroke:var(--soft); stroke-dasharray:4 4 } .chart .here { fill:var(--auto); font-weight:600 }
.key { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; font-size:.88rem; margin:.3rem 0 }
.key svg.chart { display:inline-block; width:2rem; height:.7rem; margin:0 .4rem 0 0; vertical-align:middle }
.rows { max-width:34rem; margin:.3rem 0; font-size:.88rem }
.rows .row { display:grid; grid-template-columns:minmax(0,1fr) auto; gap:0 .8rem; padding:.2rem 0 }
.rows .name { overflow-wrap:anywhere } .rows .note { color:var(--soft); font-variant-numeric:tabular-nums; text-align:right }
.rows .track { grid-column:1/-1; position:relative; height:.7rem; margin:0 .3rem; border-bottom:1px solid var(--line) }
.rows .range, .rows .dot { position:absolute; background:var(--lane0); print-color-adjust:exact;
  -webkit-print-color-adjust:exact }
.rows .range { top:.22rem; height:3px; opacity:.55 } .rows .dot { top:.02rem; width:9px; height:9px; margin-left:-4.5px;
  border-radius:50% } .rows .ends { display:flex; justify-content:space-between; color:var(--soft); font-size:.78rem }
@media screen and (max-width:40rem) { svg.chart { font-size:16px } }
"""

_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 34, 24, 48
_WIDTH, _HEIGHT = 480, 340
_COLOURS = 4


@dataclass(frozen=True)
class Point:
    """A value with its interval, its `label`, and a `note` with details."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Frame:
    """From values to pixels of the chart."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        x, y = _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)


def risk_coverage(points: Sequence[Point], here: Point | None, alt: str) -> str:
    """Errors among kept records (y, share) against the share kept (x).

    Args:
        points: rising in x. here: the run's own point. alt: description for readers who cannot see the chart, here as below.
    """
    highest = max([p.y for p in points] + ([here.y] if here else []) + [0.01])
    top = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if highest <= step + 1e-9)
    frame = _Frame((0.0, 1.0), (0.0, top))
    body = [_axes(frame, [i / 5 for i in range(6)], [top * i / 5 for i in range(6)], "share kept", "wrong among them")]
    body.append(_polyline("line", frame, points))
    if here is not None:
        x, y = frame.at(here.x, here.y)
        anchor, shift = ("end", -9) if here.x > 0.5 else ("start", 9)
        body.append(f'<circle class="mark" cx="{x}" cy="{y}" r="6"><title>{shown(here.note)}</title></circle>')
        body.append(f'<text class="here" x="{x + shift}" y="{y - 8}" text-anchor="{anchor}">{shown(here.label)}</text>')
    return _svg(body, alt)


def reliability(points: Sequence[Point], alt: str) -> str:
    """Share right (y) against stated probability (x): one dot with its interval per bin, and the line of perfect calibration."""
    floor = _floor(min([p.x for p in points] + [p.y for p in points] + [0.9]))
    frame = _Frame((floor, 1.0), (floor, 1.0))
    ticks = [floor + (1 - floor) * i / 5 for i in range(6)]
    body = [_axes(frame, ticks, ticks, "stated probability", "share right")]
    body.append(_line("ideal", frame.at(floor, floor), frame.at(1, 1)))
    for p in points:
        x, y = frame.at(p.x, p.y)
        if p.low is not None and p.high is not None:
            body.append(_line("range", (x, frame.at(p.x, max(floor, p.low))[1]), (x, frame.at(p.x, p.high)[1])))
        body.append(f'<circle class="dot" cx="{x}" cy="{y}" r="4"><title>{shown(p.note)}</title></circle>')
    return _svg(body, alt)


def rows(points: Sequence[Point], alt: str) -> str:
    """One row per part: its name, a note at the right, and below them its value (x, a share) with interval on a line."""
    floor = _floor(min([p.x if p.low is None else p.low for p in points] + [0.9]))

    def place(value: float) -> float:
        return round(100 * max(0.0, value - floor) / (1 - floor), 2)

    parts = []
    for p in points:
        track = f'<i class="dot" style="left:{place(p.x)}%"></i>'
        if p.low is not None and p.high is not None:
            width = round(place(p.high) - place(p.low), 2)
            track = f'<i class="range" style="left:{place(p.low)}%;width:{width}%"></i>{track}'
        parts.append(
            f'<div class="row"><span class="name">{shown(p.label)}</span><span class="note">{shown(p.note)}</span>'
            f'<div class="track">{track}</div></div>'
        )
    ends = f'<div class="ends"><span>{floor:.0%}</span><span>100%</span></div>'
    return f'<div class="rows" role="group" aria-label="{shown(alt)}">{"".join(parts)}{ends}</div>'


def curves(series: Mapping[str, Sequence[Point]], below: str, beside: str, alt: str) -> str:
    """Named lines over the same axes, with a key below; y starts at 0. After four lines the colours repeat, dashed."""
    points = [point for line in series.values() for point in line]
    across, up = _round_ticks(max(p.x for p in points)), _round_ticks(max(p.y for p in points))
    frame = _Frame((0.0, across[-1]), (0.0, up[-1]))
    body, key = [_axes(frame, across, up, below, beside, "{:g}")], []
    for number, (name, line) in enumerate(series.items()):
        kind = f"line line{number % _COLOURS}{' again' if number >= _COLOURS else ''}"
        body.append(_polyline(kind, frame, line))
        x, y = frame.at(line[-1].x, line[-1].y)
        body.append(f'<circle class="end{number % _COLOURS}" cx="{x}" cy="{y}" r="3.5"/>')
        stroke = _line(kind, (0, 5), (32, 5))
        key.append(
            f'<span><svg class="chart" viewBox="0 0 32 10" aria-hidden="true">{stroke}</svg>{shown(name)} '
            f'<span class="soft">{line[-1].y:.3g}</span></span>'
        )
    return f'{_svg(body, alt)}<div class="key">{"".join(key)}</div>'


def _round_ticks(highest: float) -> list[float]:
    """Five equal steps from 0 up to at least `highest`, each a round number."""
    unit = 10.0 ** math.floor(math.log10(max(highest, 1e-9) / 5))
    step = next(factor * unit for factor in (1, 2, 2.5, 4, 5, 6, 8, 10) if 5 * factor * unit >= highest * (1 - 1e-9))
    return [round(step * number, 12) for number in range(6)]


def _floor(least: float) -> float:
    """The start of an axis up to 1, such that five equal steps have round labels."""
    return next(floor for floor in (0.9, 0.75, 0.5, 0.0) if least >= floor or floor == 0.0)


def _axes(frame: _Frame, across: Sequence[float], up: Sequence[float], below: str, beside: str, form: str = "") -> str:
    """Ticks as percentages, or by the format string `form`."""
    parts = []
    for value in across:
        x, y = frame.at(value, frame.y[0])
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{(form or "{:.0%}").format(value)}</text>')
    for value in up:
        x, y = frame.at(frame.x[0], value)
        parts.append(_line("grid", (x, y), (_WIDTH - _RIGHT, y)))
        share = "{:.1%}" if frame.y[1] - frame.y[0] < 0.05 else "{:.0%}"
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{(form or share).format(value)}</text>')
    x, y = frame.at(frame.x[0], frame.y[0])
    parts.append(_line("axis", (x, y), (_WIDTH - _RIGHT, y)))
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{shown(below)}</text>')
    parts.append(f'<text x="2" y="{_TOP - 18}">{shown(beside)}</text>')
    return "".join(parts)


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>'


def _polyline(kind: str, frame: _Frame, points: Sequence[Point]) -> str:
    places = (frame.at(p.x, p.y) for p in points)
    return f'<polyline class="{kind}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>'


def _svg(body: Sequence[str], alt: str) -> str:
    label = shown(alt)
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(body)}</svg>'
