"""Totals by patient and intervals of figures made of them."""

import numpy as np
import polars as pl
import pytest

from engine.errors import ContractError
from engine.evaluation.classes import bootstrap_interval
from engine.evaluation.resample import Ratio, Rest, Totals, divide, precision_recall_f1, ratio, share_interval

RIGHT = [1, 1, 1, 0, 0, 0, 1, 0]
GROUPS = list("aabbbccd")


def totals() -> Totals:
    return Totals(GROUPS, {"n": np.ones(8), "right": RIGHT, "never": np.zeros(8)})


def test_sums_are_by_group():
    assert [totals().rest(name) for name in ("n", "right")] == [Rest(8, 4), Rest(4, 3)]


def test_a_ratio_is_that_of_the_rows_and_its_interval_that_of_a_plain_bootstrap():
    figures = {"accuracy": ratio("right", "n")}
    found = totals().estimates(figures, rounds=400, seed=3)["accuracy"]
    right = np.array(RIGHT, float)
    plain = bootstrap_interval(lambda rows: right[rows].mean(), GROUPS, rounds=400, seed=3)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx(plain)


def test_chunks_of_rounds_change_nothing(monkeypatch):
    figures = {"accuracy": ratio("right", "n")}
    whole = totals().estimates(figures, rounds=50)
    monkeypatch.setattr("engine.evaluation.resample._CELLS", 12)
    assert totals().estimates(figures, rounds=50) == whole


def test_sums_by_part_are_those_of_columns_that_are_0_outside():
    part = np.array(list("xyxyxyxy"))
    rows = pl.DataFrame({"unit": GROUPS, "part": part, "n": 1, "right": RIGHT})
    # A group without a row is drawn all the same, and a part holds no more cells than it has rows.
    by_part = Totals.by_part([*GROUPS, "e"], rows)
    dense = {(name, each): (part == each) * np.array(values) for name, values in (("n", 1), ("right", RIGHT)) for each in "xy"}
    whole = Totals([*GROUPS, "e"], {name: [*values, 0] for name, values in dense.items()})
    accuracy = Ratio("right", ("n",))
    for parts in (["x"], ["y"], ["x", "y"]):
        one, other = (totals.estimates({"of": accuracy.over(parts)}, rounds=60)["of"] for totals in (by_part, whole))
        assert one == other and one.low < one.value < one.high
    assert by_part.rest(("right", "x")) == whole.rest(("right", "x")) == Rest(3, 3)


def test_what_a_ratio_rests_on():
    # Right: three of p and q. Given: three of p and r, two of them the same as the right ones of p.
    rows = pl.DataFrame({"unit": ["p", "p", "q", "r"], "part": "x", "right": [1, 1, 1, 0], "given": [1, 1, 0, 1]})
    totals = Totals.by_part(rows["unit"], rows.with_columns(hits=pl.col("right") * pl.col("given")))
    figures = precision_recall_f1("right", "given", "hits")
    assert {name: figure.rest(totals, ["x"]) for name, figure in figures.items()} == {
        "precision": Rest(3, 2),
        "recall": Rest(3, 2),
        "f1": Rest(4, 3),
    }
    found = totals.estimates({name: figure.over(["x"]) for name, figure in figures.items()}, rounds=0)
    assert [each.value for each in found.values()] == pytest.approx([2 / 3, 2 / 3, 2 / 3])


def test_what_is_not_defined_is_none_and_rounds_without_it_are_left_out():
    found = totals().estimates({"nothing": ratio("right", "never"), "of_right": ratio("never", "right")}, rounds=200)
    assert found["nothing"].value is None and found["nothing"].low is None
    assert (found["of_right"].value, found["of_right"].low) == (0.0, 0.0)
    assert np.isnan(divide(np.array([1.0]), np.array([0.0])))[0]


def test_exact_interval_of_a_share_by_hand():
    # All of n right: the lower end solves p**n = tail.
    assert share_interval(10, 10) == pytest.approx((0.025**0.1, 1.0))
    assert share_interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))


def test_nonsense_is_refused():
    with pytest.raises(ContractError):
        Totals(["a"], {"n": [1, 2]})
    with pytest.raises(ContractError):
        Totals([], {"n": []})
    with pytest.raises(ContractError):
        share_interval(2, 1)
