"""Rows of the table of metrics: records as wholes, means, and the contract."""

import json

import numpy as np
import pytest

from engine.evaluation.answers import task_metrics
from engine.evaluation.metrics import ALL, mean_metrics, record_metrics, to_table
from engine.records import METRICS, check
from tests.evaluation.test_answers import ROUNDS, SMALL, found


def test_whole_records():
    decision, group = np.array(["auto", "auto", "review", "failed"] * 6), np.arange(24)
    right = {"site": np.array([1, 1, 1, 0] * 6, bool), "histology": np.array([1, 0, 1, 0] * 6, bool)}
    rows = found(record_metrics(decision, group, right, np.array([1, 1, 0, 1] * 6, bool), ROUNDS))
    assert rows["auto_share", ALL].value == 0.5 and rows["failed_share", ALL].value == 0.25
    # The third has no gold for histology; of the two answered ones that do, one has both right, and both are auto.
    assert (rows["all_right", ALL].value, rows["all_right", ALL].n) == (0.5, 12)
    assert (rows["auto_all_right", ALL].value, rows["auto_all_right", ALL].n) == (0.5, 12)


def test_means_are_over_the_records_that_have_the_measure():
    values = {"comprehensiveness": np.array([0.2, np.nan, 0.4] * 3), "nobody": np.full(9, np.nan)}
    (row,) = mean_metrics("site", values, np.arange(9), ROUNDS)
    assert (row.metric, row.value, row.n) == ("comprehensiveness", pytest.approx(0.3), 6)
    (row,) = mean_metrics("site", values, np.arange(9) // 2, ROUNDS)
    assert (row.value, row.n, row.params) == (None, 6, {"too_few": 5})


def test_the_table_is_as_the_contract_has_it_without_nan():
    rows = task_metrics(SMALL, {"facility": np.array(["x", "x", "x", "y", "y", ""] * 6)}, ROUNDS)
    table = check(to_table(rows, "run", "digest"), METRICS)
    assert len(table) == len(rows)
    for name in ("value", "ci_lo", "ci_hi"):
        assert not any(np.isnan(value) for value in table[name].to_pylist() if value is not None)
    assert all(isinstance(json.loads(text), dict) for text in table["params"].to_pylist())
    keys = list(zip(table["task"].to_pylist(), table["metric"].to_pylist(), table["slice"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys))
