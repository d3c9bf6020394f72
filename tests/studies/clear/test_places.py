"""Rows of the pointing game by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.studies.clear import places


def test_rows_of_the_pointing_game() -> None:
    # Four cells of 10 pixels; the box holds the first cell in one image, the first two in the other.
    cells = np.array([[x, y, x + 10, y + 10] for y in (0, 10) for x in (0, 10)], float)
    gold = [[(0.0, 0.0, 10.0, 10.0)], [(0.0, 0.0, 20.0, 10.0)]] * 3
    shown = [[(0.7, (0.0, 0.0, 10.0, 10.0)), (0.2, (10.0, 10.0, 20.0, 20.0))], [(0.4, (0.0, 10.0, 10.0, 20.0))]] * 3
    task = SimpleNamespace(study=SimpleNamespace(rounds=20))
    rows = places._rows(gold, shown, [cells] * 6, np.arange(6), task)
    values = {(row.metric, row.slice): row.value for row in rows}
    assert values["pointing", "all"] == values["hit", "patch=evidence"] == 0.5
    assert values["hit", "patch=shown"] == 0.25
    assert values["hit", "patch=random"] == pytest.approx(0.375)
    assert values["hit", "patch=centre"] == 0
    # The middle is from 2 to 18 pixels, and all centres of cells lie in it.
    assert values["hit", "patch=border"] == values["hit", "patch=border random"] == 0
    assert values["hit", "less random"] == pytest.approx(0.125)
    assert values["hit", "less random shown"] == pytest.approx(-0.125)


def test_no_hit_has_an_exact_interval() -> None:
    cells = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], float)
    rows = places._rows(
        [[(0.0, 0.0, 9.0, 9.0)]] * 37,
        [[(1.0, (10.0, 0.0, 20.0, 10.0))]] * 37,
        [cells] * 37,
        np.arange(37),
        SimpleNamespace(study=SimpleNamespace(rounds=10)),
    )
    row = next(row for row in rows if row.slice == "patch=evidence")
    assert (row.value, row.low) == (0, 0) and row.high == pytest.approx(1 - 0.025 ** (1 / 37))
