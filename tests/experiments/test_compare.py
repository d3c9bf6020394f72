import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ttest_rel

from engine.experiments.compare import Compared, mean_f1, over_records, over_seeds, paired


def test_a_paired_test_is_scipys():
    ours, theirs = [0.5, 0.6, 0.4, 0.7], [0.4, 0.55, 0.42, 0.5]
    found, known = paired(ours, theirs), ttest_rel(ours, theirs)
    assert (found.value, found.p, found.n) == pytest.approx((0.0825, known.pvalue, 4))
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_without_spread_there_is_no_test():
    assert over_seeds([0.3]) == Compared(0.3, None, None, None, 1)
    assert over_seeds([0.25, 0.25]) == Compared(0.25, 0.25, 0.25, None, 2)


def table(gold, given):
    return pa.table({"group": [f"g{i}" for i in range(len(gold))], "gold": gold, "given": given})


def test_a_difference_over_records_by_hand():
    gold = [[True, False], [False, True], [True, True], [False, False]]
    wrong = [[not a for a in row] for row in gold]
    half = [gold[0], gold[1], wrong[2], wrong[3]]
    # All right less all wrong in one seed, all right less half right in the other.
    pairs = [(table(gold, gold), table(gold, wrong)), (table(gold, gold), table(gold, half))]
    found = over_records(pairs, 200, macro=False)
    assert found.value == pytest.approx((1 + 0.5) / 2) and found.low < found.value < found.high
    # Of half right each label has one hit, of two given and two that should be.
    assert over_records(pairs, 200, macro=True).value == pytest.approx(np.mean([1.0, 0.5]))
    # A label that nobody has counts on neither side, whoever gives it.
    third = [
        table([[*row, False] for row in some["gold"].to_pylist()], [[*row, more] for row in some["given"].to_pylist()])
        for some, more in ((pairs[1][0], True), (pairs[1][1], False))
    ]
    assert over_records([tuple(third)], 50, macro=True).value == pytest.approx(0.5)
    same = over_records([(table(gold, half), table(gold, half))], 50, macro=True)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_mean_f1_of_counts_is_over_what_gold_has():
    # Of the first label 1 of 2 is hit and 2 are given; the second is only given, the third nobody knows.
    assert mean_f1([1, 0, 0], [2, 3, 0], [2, 0, 0]) == 0.5
    rounds = mean_f1([[1, 0], [0, 0]], [[2, 1], [0, 1]], [[2, 1], [0, 0]])
    assert rounds[0] == 0.25 and np.isnan(rounds[1])
