import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from engine.explain.explain import explained, work_for
from engine.explain.settings import Settings
from engine.explain.stability import _stability, perturbed, spearman, stability
from tests.explain.toys import Linear, docs

FIRST = torch.tensor([0])
WORK = work_for(Linear([5, *np.linspace(0.1, 1, 9)]), docs(range(1, 11)), FIRST)


def test_masking_some_units_leaves_the_rest_of_a_linear_model_in_order():
    (found,) = stability(WORK, "occlusion", explained(WORK, "occlusion"), perturbed(WORK))
    assert (found.rank, found.jaccard, found.flip_rate) == (1.0, 1.0, 0.0)
    assert found.value == 1.0 and found.checks()["n_perturb"] == 8
    assert ((found.units > 0) & (found.units <= 1)).all()


def test_random_scores_are_not_stable():
    work = work_for(WORK.model, docs(range(1, 11), names=["other"]), FIRST)
    again = iter(range(100))

    def drawn(other, method):
        return explained(work_for(other.model, docs(range(1, 11), names=[f"draw {next(again)}"]), FIRST), "random")

    (found,) = stability(work, "random", drawn(work, "random"), perturbed(work), drawn)
    assert abs(found.rank) < 0.6


def test_a_tenth_of_the_units_is_masked_seeded_by_the_record():
    copies = perturbed(WORK)
    assert [int((~copy.untouched[0]).sum()) for copy in copies] == [1] * 8
    assert len({int(np.argmin(copy.untouched[0])) for copy in copies}) > 1
    again = perturbed(WORK)
    assert all(np.array_equal(a.untouched[0], b.untouched[0]) for a, b in zip(copies, again, strict=True))


def test_copies_that_change_the_answer_are_left_out_and_counted():
    work = work_for(Linear([1, -0.1]), docs([1, *[2] * 4]), FIRST, Settings(perturbations=20, perturb_share=0.2))
    copies = perturbed(work)
    held = [bool(copy.untouched[0][0]) for copy in copies]
    assert [bool(copy.held[0]) for copy in copies] == held
    assert 0 < sum(held) < 20
    (found,) = stability(work, "occlusion", explained(work, "occlusion"), copies)
    assert found.flip_rate == pytest.approx(1 - sum(held) / 20)


def test_an_answer_that_never_holds_has_no_stability():
    work = work_for(Linear([1, -0.1]), docs([2, 2, 2]), FIRST)
    (found,) = stability(work, "occlusion", explained(work, "occlusion"), perturbed(work))
    assert found.value is None and found.lipschitz is None and found.flip_rate == 1.0
    assert found.units.tolist() == [1, 1, 1]


def test_measures_by_hand():
    weight = np.array([0.5, 0.3, 0.2])
    seen = [(np.array([0.3, 0.5, 0.2]), np.ones(3, bool), 0.5), (np.array([0.5, 0.3, 0.2]), np.array([True, True, False]), 0.1)]
    found = _stability(weight, seen, 1, 3)
    assert found.rank == pytest.approx((0.5 + 1) / 2)
    assert found.jaccard == pytest.approx((0 + 1) / 2)
    assert found.lipschitz == pytest.approx(np.sqrt(0.08) / 0.5)
    assert found.flip_rate == pytest.approx(1 / 3)
    assert found.units == pytest.approx([1 - 0.1 / 0.4, 1 - 0.1 / 0.4, 1.0])


def test_where_nothing_changed_or_nothing_is_left_to_compare_there_is_no_stability():
    for ids in ([1], [1, 2]):
        work = work_for(Linear([5, 4]), docs(ids), FIRST, Settings(perturbations=3))
        (found,) = stability(work, "occlusion", explained(work, "occlusion"), perturbed(work))
        assert (found.value, found.jaccard, found.lipschitz, found.flip_rate) == (None, None, None, 0.0)
        assert found.checks()["n_perturb"] == 3 and found.units.tolist() == [1.0] * len(ids)
    weight = np.array([0.5, 0.3, 0.2])
    turned = np.array([0.3, 0.5, 0.2])
    # A copy with one unit left and one that is the record itself stand beside the one that counts.
    seen = [
        (turned, np.array([True, True, False]), 0.5),
        (weight, np.array([True, False, False]), 0.5),
        (weight, np.ones(3, bool), 0),
    ]
    assert _stability(weight, seen, 0, 3).rank == pytest.approx(-1.0)


def test_copies_are_not_asked_for_a_residual():
    asked = []

    class Counting(Linear):
        def score(self, batch, targets, *, embeds=None):
            asked.append(len(targets))
            return super().score(batch, targets, embeds=embeds)

    work = work_for(Counting([3, 2, 1]), docs([1, 2, 3]), FIRST, Settings(perturbations=1))
    found = explained(work, "gradient_x_input")
    (copy,) = perturbed(work)
    asked.clear()
    stability(work, "gradient_x_input", found, [copy])
    assert asked == [1] and found[0].residual is not None


def test_how_far_a_copy_moved_is_the_distance_of_mean_embeddings():
    work = work_for(Linear([4]), docs([1, 1]), FIRST, Settings(perturbations=1))
    assert perturbed(work)[0].moved[0] == pytest.approx(2.0)


def test_spearman_agrees_with_scipy_and_knows_even_rows():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 30), rng.integers(0, 5, 30)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert (spearman(np.ones(3), np.ones(3)), spearman(np.ones(3), np.arange(3))) == (1.0, 0.0)
