"""How copies of a text are changed, by a toy that knows one class of tokens."""

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.explain.explain import explained, work_for
from engine.explain.protocol import Perturbable, SpanExplainable
from engine.explain.settings import Settings
from engine.explain.stability import perturbed, stability
from engine.models import explanations, run
from engine.models.base import ModelSpec
from engine.models.entities.explainable import Place
from engine.models.tokens import WORDS
from tests.models.conftest import records
from tests.models.entities.conftest import PACKAGE, tagger, written
from tests.toys.tagged.network import TagModel

TEXTS = ["today we saw the man sell hill green pear tree", "no red apple and a plum tree on the hill"]


class Swapping(TagModel):
    """Even tokens and the odd ones after them are of one class; the words of the span and the first word are spared."""

    def variants(self, token, rng):
        return token ^ 1

    def spared(self, batch, targets):
        flags = [np.arange(len(units)) == 0 for units in batch.units]
        for each, units, (first, last) in zip(flags, batch.units, targets.tolist(), strict=True):
            each[units.of_position[first : last + 1]] = True
        return flags


@pytest.fixture(scope="module")
def system(scattered):
    return tagger(scattered)


def work_of(system, kind=Swapping, texts=TEXTS, **settings):
    """The work on the fourth and fifth word of each text."""
    prepared = system.prepare(records(texts)).to_pylist()
    places, tokens = [], []
    for (window,), row in zip(system.windows(system.prepare(records(texts))), prepared, strict=True):
        places.append(Place(window, 0, *(np.array(row[name]) for name in WORDS[2:])))
        tokens.append((int(np.flatnonzero(window.word == 3)[0]), int(np.flatnonzero(window.word == 4)[-1])))
    model = kind(system)
    return work_for(model, model.spans(places, [f"id {text}" for text in texts]), torch.tensor(tokens), Settings(**settings))


def test_spans_can_be_changed_in_every_way(system):
    model = TagModel(system)
    assert isinstance(model, Perturbable) and isinstance(model, SpanExplainable)
    work = work_of(system, TagModel)
    assert not any(flags.any() for flags in work.model.spared(work.batch, work.targets))


def test_tokens_are_replaced_by_others_of_their_class(system):
    work = work_of(system, perturb="replace", perturb_share=0.4)
    for copy in perturbed(work):
        for old, new, units, untouched in zip(work.batch.places, copy.work.batch.places, work.units, copy.untouched, strict=True):
            expected = np.where(untouched[units.of_position], old.window.ids, old.window.ids ^ 1)
            assert new.window.ids.tolist() == expected.tolist() and not untouched.all() and untouched[[0, 3, 4]].all()
        assert (copy.moved > 0).all()
    # Without classes nothing changes, and the copies tell nothing.
    work = work_of(system, TagModel, perturb="replace")
    found = stability(work, "gradient_x_input", explained(work, "gradient_x_input"), perturbed(work))
    assert [each.value for each in found] == [None, None]


def test_noise_is_small_the_same_in_any_batch_and_spares_what_must_not_change(system):
    both = work_of(system, perturb="noise", perturbations=2)
    copies = perturbed(both)
    rows = [
        torch.split(model.embed(batch), both.sizes.tolist())
        for model, batch in ((both.model, both.batch), *((both.model, copy.work.batch) for copy in copies))
    ]
    for number, text in enumerate(TEXTS):
        plain, first, second = (row[number] for row in rows)
        free = (~both.model.spared(both.batch, both.targets)[number])[both.units[number].of_position]
        step = first - plain
        assert not step[~free].any() and (step[free] != 0).all() and not torch.equal(first, second)
        ratio = step[free].square().mean().sqrt() / plain[free].square().mean().sqrt()
        assert ratio == pytest.approx(0.01, rel=0.1)
        (alone,) = perturbed(work_of(system, texts=[text], perturb="noise", perturbations=1))
        assert torch.allclose(both.model.embed(alone.work.batch), first, atol=1e-6)


def test_noise_changes_what_the_model_says_and_erased_positions_stay_blank(system):
    work = work_of(system, perturb="noise")
    model, (copy, *_) = work.model, perturbed(work)
    before, after = (model.score(batch, work.targets) for batch in (work.batch, copy.work.batch))
    assert (before != after).all() and torch.allclose(before, after, atol=0.5)
    erased = model.erase(copy.work.batch, np.zeros(int(work.sizes.sum()), bool))
    assert torch.equal(model.embed(erased), model.blank(erased))


@pytest.mark.parametrize("perturb", ["mask", "noise", "edge", "truncate"])
def test_a_run_says_how_its_copies_are_changed(scattered, system, tmp_path, perturb):
    coded = system.run(system.prepare(records(TEXTS))).sort_by("row").to_pylist()
    options = {"run": "abc", "of": PACKAGE, "method": "gradient_x_input", "stability": 1.0, "perturb": perturb}
    answers = {"answers": [written(tmp_path / "a.parquet", TEXTS, coded)], "threads": 1}
    explainer = explanations.load(ModelSpec("", str(scattered), options, answers))
    _, prepared = run.prepare(explainer, records(TEXTS))
    targets = [target for row in explainer.run(prepared).to_pylist() for target in row["targets"]]
    assert targets and {target["n_perturb"] for target in targets} == {1 if perturb == "truncate" else 8}
    # These texts are short, so cutting them changes nothing.
    told = [target["m_stability"] is not None for target in targets]
    assert not any(told) if perturb == "truncate" else any(told)


def test_a_change_that_the_system_does_not_know_is_refused(scattered):
    options = {"run": "abc", "of": PACKAGE, "perturb": "replace"}
    with pytest.raises(
        ConfigError, match=r"^explain\.perturb: an extractor of entities has no 'replace'; it has mask, noise, edge"
    ):
        explanations.load(ModelSpec("", str(scattered), options))
