import math

import numpy as np
import pytest
import torch

from engine.errors import ConfigError, ContractError
from engine.explain.explain import explained, work_for
from engine.explain.faithfulness import faithfulness, normalised, reference, references, top_counts
from engine.explain.settings import SHARES, Measures, Settings
from tests.explain.toys import Linear, docs

FIRST = torch.tensor([0])


def p(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("erasure", ["mask", "delete"])
def test_the_curve_by_hand(erasure):
    work = work_for(Linear([2, 1, -1, 0]), docs([4, 3, 2, 1]), FIRST)
    measures = Measures(shares=(0.25, 0.5), draws=0, erasure=erasure)
    (found,) = faithfulness(work, explained(work, "occlusion"), measures)
    assert found.comp == pytest.approx([p(2) - p(0), p(2) - p(-1)], abs=1e-6)
    assert found.suff == pytest.approx([0, p(2) - p(3)], abs=1e-6)
    checks = found.checks()
    assert checks["comp_aopc"] == pytest.approx((p(2) - p(0) + p(2) - p(-1)) / 2, abs=1e-6)
    assert checks["random_comp"] is None
    assert checks["norm_comp"] == pytest.approx((1 + 1) / 2, abs=1e-5)
    assert checks["norm_suff"] == pytest.approx((1 + 1) / 2, abs=1e-5)


def test_the_control_erases_as_many_units_drawn_at_random():
    work = work_for(Linear([1]), docs([1, 1, 1, 1]), FIRST)
    shared = reference(work, Measures(shares=(0.25, 0.5)))
    assert shared.comp[0] == pytest.approx([p(4) - p(3), p(4) - p(2)], abs=1e-6)
    assert shared.suff[0] == pytest.approx([p(4) - p(1), p(4) - p(2)], abs=1e-6)
    mixed = work_for(Linear([4, 0]), docs([1, 2, 2, 2]), FIRST)
    share = reference(mixed, Measures(shares=(0.25,), draws=400)).comp[0, 0] / (p(4) - p(0))
    assert share == pytest.approx(0.25, abs=0.08)


def test_targets_of_a_record_share_their_control():
    values, batch = [2, -1, 0.5, 3], docs([1, 2, 3, 4, 1, 3], [4, 4, 2])
    works = [work_for(Linear(values), batch, torch.tensor([target] * 2)) for target in (0, 1)]
    alone = reference(works[0], Measures())
    one, other = references(works, Measures())
    for name in ("whole", "bare", "comp", "suff"):
        assert np.array_equal(getattr(one, name), getattr(alone, name))
        # The second target speaks against what the first speaks for, so the same copies take away what they added.
        sign = -1 if name in ("comp", "suff") else 1
        wanted = getattr(one, name) if sign < 0 else 1 - getattr(one, name)
        assert sign * getattr(other, name) == pytest.approx(wanted, abs=1e-6)
    assert not np.allclose(reference(works[1], Measures()).comp, other.comp)


def test_a_shared_copy_is_made_once():
    made = []

    class Counted(Linear):
        def erase(self, batch, keep, how="mask"):
            made.append(len(batch.ids))
            return super().erase(batch, keep, how)

    batch = docs([1, 2, 1, 2], [2, 1, 1])
    works = [work_for(Counted([1, -1]), batch, torch.tensor([target] * 2)) for target in (0, 1)]
    references(works, Measures(shares=(0.25, 0.5), draws=3))
    assert sum(made) == 2 * (1 + 1 + 3 * 2 * 2)


def test_targets_of_other_records_share_nothing():
    works = [work_for(Linear([1]), docs([1, 1], names=[name]), FIRST) for name in "ab"]
    with pytest.raises(ContractError, match="the same records"):
        references(works, Measures())


def test_units_against_the_answer_go_last():
    work = work_for(Linear([1, -5, 2]), docs([1, 2, 3]), FIRST)
    (found,) = faithfulness(work, explained(work, "occlusion"), Measures(shares=(0.1, 0.5, 1.0)))
    assert found.comp == pytest.approx([p(-2) - p(-4), p(-2) - p(-5), p(-2) - p(0)], abs=1e-6)


def test_shares_are_rounded_up_to_units():
    assert top_counts(200, SHARES) == [2, 10, 20, 40, 100]
    assert top_counts(3, SHARES) == [1, 1, 1, 1, 2]
    assert top_counts(1, (1.0,)) == [1]


def test_normalised_forms_by_hand():
    found = normalised(np.array([0.2, 0.4]), np.array([0.1, -0.2]), 0.9, 0.5)
    assert found == pytest.approx(((0.5 + 1.0) / 2, (0.75 + 1.0) / 2))
    assert normalised(np.array([0.2]), np.array([0.1]), 0.5, 0.6) == (None, None)


def test_records_without_an_explanation_have_no_measures():
    work = work_for(Linear([1, 0]), docs([1, 2], [], [2, 2]), torch.tensor([0, 0, 0]))
    found = faithfulness(work, explained(work, "occlusion"), Measures())
    assert [one is None for one in found] == [False, True, True]
    assert found[0].checks()["comp_aopc"] == pytest.approx(p(1) - p(0), abs=1e-6)


def test_a_record_is_measured_the_same_in_any_batch():
    batch, targets = docs([1, 2, 3, 3], [3, 1, 2], [2] * 9), torch.tensor([0, 0, 0])
    model = Linear([1, -2, 0.5])
    work = work_for(model, batch, targets)
    together = faithfulness(work, explained(work, "lime"), Measures())
    for record in range(3):
        one = work_for(model, model.take(batch, [record]), targets[:1], Settings(tokens_per_pass=5))
        (alone,) = faithfulness(one, explained(one, "lime"), Measures())
        assert alone.checks() == pytest.approx(together[record].checks(), abs=1e-6)


@pytest.mark.parametrize("wrong", [{"shares": ()}, {"shares": (0.0,)}, {"erasure": "x"}, {"draws": -1}])
def test_measures_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        Measures(**wrong)
