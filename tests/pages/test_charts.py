"""Plots: values land where the axes say, and a name cannot become markup."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pages import charts
from engine.pages.charts import Point


def parts(svg, tag):
    return list(ElementTree.fromstring(svg).iter(tag))


def test_the_curve_goes_from_corner_to_corner():
    # The plot spans x 60 to 456 and y 34 to 292 of 480 x 340; the axis of errors ends at 10 %.
    svg = charts.risk_coverage([Point(0.0, 0.0), Point(0.5, 0.05), Point(1.0, 0.1)], None, "told")
    (line,) = parts(svg, "polyline")
    assert line.get("points") == "60.0,292.0 258.0,163.0 456.0,34.0"
    assert ElementTree.fromstring(svg).get("aria-label") == "told"
    texts = [each.text for each in parts(svg, "text")]
    assert texts[:6] == ["0%", "20%", "40%", "60%", "80%", "100%"] and texts[6:12] == ["0%", "2%", "4%", "6%", "8%", "10%"]


def test_the_run_itself_is_marked():
    svg = charts.risk_coverage([Point(1.0, 0.1)], Point(0.5, 0.05, label="here & now"), "")
    (circle,) = parts(svg, "circle")
    assert (circle.get("cx"), circle.get("cy")) == ("258.0", "163.0")
    assert "here &amp; now" in svg


def test_reliability_begins_where_the_bins_do():
    svg = charts.reliability([Point(0.5, 0.5, 0.5, 1.0, note="n"), Point(1.0, 1.0)], "")
    assert [(c.get("cx"), c.get("cy")) for c in parts(svg, "circle")] == [("60.0", "292.0"), ("456.0", "34.0")]
    spread = next(line for line in parts(svg, "line") if line.get("class") == "range")
    assert (spread.get("y1"), spread.get("y2")) == ("292.0", "34.0")
    assert "50%" in [each.text for each in parts(svg, "text")]


def test_rows_have_name_value_and_note():
    html = charts.rows([Point(1.0, 0, 0.625, 1.0, "<b>" + "x" * 40, "12"), Point(0.75, 0, label="y", note="3")], "")
    # The line goes from 50 % to 100 %.
    assert [each.get("style") for each in parts(html, "i")] == ["left:25.0%;width:75.0%", "left:100.0%", "left:50.0%"]
    spans = [(each.get("class"), each.text) for each in parts(html, "span")]
    assert spans[:4] == [("name", "<b>" + "x" * 40), ("note", "12"), ("name", "y"), ("note", "3")]
    assert [text for kind, text in spans[4:]] == ["50%", "100%"]


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.999, 0.001], [0.95]])
def test_no_value_falls_out_of_the_picture(values):
    pictures = [
        charts.risk_coverage([Point(v, v) for v in values], Point(values[0], values[0]), ""),
        charts.reliability([Point(v, v, 0.0, 1.0) for v in values], ""),
    ]
    for box in parts(charts.rows([Point(v, 0, 0.0, 1.0, "a", "b") for v in values], ""), "i"):
        ends = [float(each) for each in re.findall(r"[\d.]+", box.get("style"))]
        assert 0 <= sum(ends) <= 100
    for svg in pictures:
        width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
        for circle in parts(svg, "circle"):
            assert 0 <= float(circle.get("cx")) <= width and 0 <= float(circle.get("cy")) <= height
        for line in parts(svg, "line"):
            assert all(0 <= float(line.get(end)) <= width for end in ("x1", "x2"))
            assert all(0 <= float(line.get(end)) <= height for end in ("y1", "y2"))


def test_curves_share_their_axes_and_stay_inside():
    picture = charts.curves({"a": [Point(0, 3.0), Point(2, 1.0)], "b": [Point(1, 0.5)]}, "epoch", "loss", "told")
    lines = re.findall(r'<polyline class="line line(\d)" points="([^"]*)"', picture)
    assert [number for number, _ in lines] == ["0", "1"]
    (x0, y0), (x1, y1) = (tuple(map(float, pair.split(","))) for pair in lines[0][1].split())
    assert x0 == 60.0 and x1 == 456.0 and y0 == 34.0 < y1
    ticks = re.findall(r">([\d.]+)</text>", picture)
    assert ticks == ["0", "0.4", "0.8", "1.2", "1.6", "2", "0", "0.6", "1.2", "1.8", "2.4", "3"]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=4))
def test_curves_of_any_size_fit(values):
    picture = charts.curves({"a": [Point(place, value) for place, value in enumerate(values, 1)]}, "x", "y", "told")
    for pair in re.search(r'points="([^"]*)"', picture)[1].split():
        x, y = map(float, pair.split(","))
        assert 60 <= x <= 456 and 33.9 <= y <= 292
