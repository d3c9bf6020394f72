import numpy as np
import pytest
from scipy.stats import spearmanr

from engine.experiments.metric_search import PROPERTIES, MetricSearch, MetricSearchConfig, correlation
from engine.experiments.run import run
from tests.experiments.marked import write_abstracts
from tests.experiments.test_grid import SMALL, rows_of

pytestmark = pytest.mark.timeout(300)


def test_a_correlation_with_its_interval():
    one, other = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
    rho, low, high, p = correlation(one, other)
    assert rho == pytest.approx(spearmanr(one, other).statistic) == pytest.approx(1 - 6 * 6 / (6 * 35))
    half = 1.96 * np.sqrt((1 + rho**2 / 2) / 3)
    assert (low, high) == pytest.approx((np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)))
    assert p == pytest.approx(spearmanr(one, other).pvalue)
    assert correlation([1, 1, 1], [1, 2, 3]) == (None, None, None, None)
    assert correlation([1, 2, 3], [1, 2, 3])[:3] == (pytest.approx(1.0), None, None)


def test_every_property_is_ranked(tmp_path):
    data = write_abstracts(tmp_path / "set", 36)
    config = MetricSearchConfig(data, groups=2, folds=2, **{**SMALL, "seeds": (1,), "epochs": 1})
    found = rows_of(run(MetricSearch(config), tmp_path / "out", "command", lambda line: None))
    whole = found["target-whole-1", "left_out"]["value"]
    assert whole == 0
    for name in PROPERTIES:
        parts = [found[f"target-{name}-{number}-1", "left_out"]["value"] for number in (0, 1)]
        # Where a text brings no more than nothing would, there is no normalised sufficiency.
        assert (min(parts) >= 1 or name == "norm_sufficiency") and abs(parts[0] - parts[1]) <= 1
        assert found[f"target-ranked-{name}", "rho_prob"]["n"] in range(2 * (len(PROPERTIES) - 1), 2 * len(PROPERTIES) + 1)
