"""Means over seeds, paired tests and differences over texts, against scipy and by hand."""

from collections.abc import Mapping, Sequence

import pytest
from scipy.stats import ttest_rel

from engine.errors import ContractError
from engine.evaluation.resample import Estimate
from engine.evaluation.spans import Mention
from engine.studies.compare import holm, one_family, over_seeds, over_texts
from engine.studies.results import Row
from engine.studies.spans import counts_by_text

Found = Mapping[str, Sequence[Mention]]


def test_mean_and_interval_by_hand() -> None:
    # Standard deviation 1, standard error 1/sqrt(3), t of 2 degrees 4.3027.
    mean, _ = over_seeds([1.0, 2.0, 3.0])
    assert (mean.value, mean.low, mean.high) == (2.0, pytest.approx(2 - 4.302653 / 3**0.5), pytest.approx(2 + 4.302653 / 3**0.5))
    assert over_seeds([0.5]) == (Estimate(0.5), None)
    with pytest.raises(ContractError):
        over_seeds([])


def test_paired_is_that_of_scipy() -> None:
    one, other = [0.81, 0.83, 0.80, 0.84], [0.80, 0.80, 0.79, 0.81]
    mean, p = over_seeds([a - b for a, b in zip(one, other, strict=True)])
    assert mean.value == pytest.approx(0.02) and p == pytest.approx(ttest_rel(one, other).pvalue)


def test_without_spread_there_is_no_test() -> None:
    assert over_seeds([0.0, 0.0])[1] is None
    # A mean of 0.1 three times is not 0.1 to the last bit: there is no spread all the same.
    mean, p = over_seeds([0.1, 0.1, 0.1])
    assert (mean.value, p) == (pytest.approx(0.1), None)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04: times 3, 2, 1 is 0.03, 0.04, 0.04; no value below the one before it.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.02, 0.025]) == pytest.approx([0.04, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.04, 0.01, None, 0.02]) == pytest.approx([0.04, 0.03, None, 0.04])


def difference(gold: Found, *pairs: tuple[Found, Found], metric: str = "f1", rounds: int = 200) -> tuple[Estimate, float | None]:
    tables = [(counts_by_text(gold, one), counts_by_text(gold, other)) for one, other in pairs]
    return over_texts(metric, tables, rounds)


def test_a_difference_that_is_sure_and_one_that_is_none() -> None:
    gold = {str(number): [(0, 1, "A")] for number in range(30)}
    none: Found = {name: [] for name in gold}
    estimate, p = difference(gold, (gold, none))
    # No draw of 200 is on the other side, and the measured difference counts as one more: twice 1 / 201.
    assert (estimate.value, estimate.low, p) == (1.0, 1.0, pytest.approx(2 / 201))
    assert difference(gold, (gold, gold))[1] == 1.0
    assert difference(gold, (gold, none), rounds=0) == (Estimate(1.0), None)
    moved = {name: [(0, 2, "A")] for name in gold}
    assert difference(gold, (moved, none), metric="overlap_f1", rounds=50)[0].value == 1.0


def test_the_difference_of_several_pairs_is_their_mean() -> None:
    gold = {str(number): [(0, 1, "A")] for number in range(4)}
    none: Found = {name: [] for name in gold}
    half: Found = {name: mentions if int(name) < 2 else [] for name, mentions in gold.items()}
    # F1 of 1 less 0, and of 2/3 less 1.
    estimate, p = difference(gold, (gold, none), (half, gold), rounds=100)
    assert estimate.value == pytest.approx((1 - 1 / 3) / 2) and p is not None and 0 < p <= 1


def test_comparisons_of_several_corpora_may_be_one_family_of_holms_correction():
    def compared(corpus, p):
        return [
            (corpus, "guided", Row(f"f1{name}", value, slice="less plain, over texts"))
            for name, value in (("", 0.1), (".p", p), (".holm", p))
        ]

    rows = one_family([*compared("one", 0.03), *compared("other", 0.01)])
    # The smaller of two counts twice, the larger once but never less than the smaller.
    assert [row.value for _, _, row in rows] == [0.1, 0.03, 0.03, 0.1, 0.01, 0.02]
    assert one_family([]) == []
