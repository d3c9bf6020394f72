from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from engine.errors import ConfigError
from engine.explain.explain import explained, work_for
from engine.explain.explanation import Target
from engine.explain.settings import Settings
from engine.explain.stability import REACH, _stability, perturbed, spearman, stability
from tests.explain.toys import MASK, Linear, docs

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


class Changing(Linear):
    """`Linear` whose target is the span of the words 40 and 41. It spares them and word 3, replaces a token by the next number
    and adds the scale to an embedding's value."""

    SPAN, SPARED = (40, 41), (3, 40, 41)

    def named(self, batch, targets):
        first, last = self.SPAN
        return [Target("x", "span", int(each.start[first]), int(each.end[last])) for each in batch.words]

    def spared(self, batch, targets):
        return [np.isin(np.arange(len(row)), self.SPARED) for row in batch.ids]

    def replaced(self, batch, chosen, seeds):
        assert len(seeds) == len(batch.ids)
        flags = np.split(chosen, np.cumsum(self.sizes(batch))[:-1])
        return replace(batch, ids=[np.where(each, row + 1, row) for row, each in zip(batch.ids, flags, strict=True)])

    def noised(self, batch, chosen, seeds, scale):
        # Values of tokens from 1 on, and further ones with the scale added.
        self.noise = scale
        return self.replaced(batch, chosen, seeds)


class Same(Changing):
    def replaced(self, batch, chosen, seeds):
        return batch


COUNT = 80


def changed(perturb, model=Changing, **settings):
    """The work on a record of the tokens 1 to 80, and its copies."""
    work = work_for(
        model(np.linspace(0.1, 1, COUNT + 1)), docs(range(1, COUNT + 1)), FIRST, Settings(perturb=perturb, **settings)
    )
    return work, perturbed(work)


def ids_changed(work, copy):
    return set(np.flatnonzero(copy.work.batch.ids[0] != work.batch.ids[0]).tolist())


@pytest.mark.parametrize("perturb", ["mask", "replace", "noise", "truncate"])
def test_spared_units_are_untouched_and_only_noise_lets_changed_ones_be_compared(perturb):
    work, copies = changed(perturb)
    assert len(copies) == (1 if perturb == "truncate" else 8)
    for copy in copies:
        moved = ids_changed(work, copy)
        assert moved and not moved & set(Changing.SPARED) and copy.moved[0] > 0
        compared = set(range(COUNT)) if perturb == "noise" else set(range(COUNT)) - moved
        assert set(np.flatnonzero(copy.untouched[0]).tolist()) == compared


def test_how_much_of_a_record_each_kind_changes():
    free = COUNT - len(Changing.SPARED)
    counts = {
        kind: [len(ids_changed(work, copy)) for copy in copies]
        for kind in ("mask", "replace", "noise", "edge")
        for work, copies in [changed(kind)]
    }
    assert counts == {"mask": [8] * 8, "replace": [8] * 8, "noise": [free] * 8, "edge": [1] * 8}


def test_masking_and_replacing_choose_the_same_units_and_another_purpose_others():
    (masked, masks), (work, copies) = changed("mask"), changed("replace")
    assert [ids_changed(masked, copy) for copy in masks] == [ids_changed(work, copy) for copy in copies]
    for copy in copies:
        assert (copy.work.batch.ids[0] - work.batch.ids[0] == ~copy.untouched[0]).all()
    others = perturbed(work, "another")
    assert [ids_changed(work, copy) for copy in others] != [ids_changed(work, copy) for copy in copies]


def test_the_text_near_the_target_stays_when_it_is_cut_short():
    work, (copy,) = changed("truncate")
    first, last = Changing.SPAN
    near = set(range(first - REACH, last + REACH + 1)) | {3}
    assert REACH == 32 and ids_changed(work, copy) == set(range(COUNT)) - near
    assert (copy.work.batch.ids[0][list(ids_changed(work, copy))] == MASK).all()


def test_the_edge_copies_touch_the_edge_alone_though_it_is_spared():
    work, copies = changed("edge", perturbations=40)
    assert {unit for copy in copies for unit in ids_changed(work, copy)} == {39, 40, 41, 42}


def test_a_copy_without_any_change_says_nothing_and_one_that_changes_only_what_is_left_out_is_stable():
    work, copies = changed("replace", Same)
    (found,) = stability(work, "occlusion", explained(work, "occlusion"), copies)
    assert (found.value, found.flip_rate) == (None, 0.0)
    # A linear model gives the units that stay the same scores.
    work, copies = changed("truncate")
    (found,) = stability(work, "occlusion", explained(work, "occlusion"), copies)
    assert found.value == pytest.approx(1.0) and found.checks()["n_perturb"] == 1


def test_noise_is_a_hundredth_of_the_embeddings():
    work, _ = changed("noise")
    assert work.model.noise == 0.01


def test_a_target_that_is_no_span_has_no_edge_and_nothing_far_from_it():
    for perturb in ("edge", "truncate"):
        work = work_for(WORK.model, WORK.batch, FIRST, Settings(perturb=perturb))
        (found,) = stability(work, "occlusion", explained(work, "occlusion"), perturbed(work))
        assert found.value is None and found.flip_rate == 0.0


def test_a_model_that_cannot_be_changed_so_is_refused():
    for perturb in ("replace", "noise"):
        with pytest.raises(ConfigError, match=rf"^explain\.perturb: this model has no '{perturb}'; choose mask$"):
            perturbed(work_for(WORK.model, WORK.batch, FIRST, Settings(perturb=perturb)))
    with pytest.raises(ConfigError, match=r"^explain\.perturb: 'x' is none of mask, replace, noise, edge, truncate$"):
        Settings(perturb="x")


def test_a_sentence_with_a_spared_word_is_spared():
    words = WORK.model.units(docs(range(1, COUNT + 1)))[0]
    starts = words.start[::20]
    sentences = words.merged("sentence", starts, np.append(starts[1:], words.end[-1]))
    model = Changing(np.linspace(0.1, 1, COUNT + 1))
    work = work_for(model, docs(range(1, COUNT + 1)), FIRST, Settings(perturb_share=0.9), [sentences])
    # The words 3, 40 and 41 lie in the first and the third of four sentences.
    assert {tuple(copy.untouched[0].tolist()) for copy in perturbed(work)} == {(True, False, True, False)}
