"""Audits of a world with a planted confounder: a wire that most sick patients of the training set have."""

import numpy as np
import pytest
from scipy.special import expit

from engine.models.clear import audit
from engine.models.clear.audit import Answered, areas, audit_data, audit_model, clusters, effect, remove
from engine.models.clear.bank import collapse, embedding
from engine.models.clear.probe import auc, fit_probe

D, E, CONCEPTS, WIRES = 16, 24, 60, (7, 8)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class World:
    """Images are a sign of the disease (direction 0), a wire (direction 1) and noise. Concepts 7 and 8 are the wire's, 3 is the
    disease's, the others are about nothing."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.t = unit(self.rng.standard_normal((CONCEPTS, D)) * np.where(np.arange(D) < 2, 0.05, 1.0))
        self.t[3], self.t[WIRES, :] = np.eye(D)[0], np.eye(D)[1]
        self.llm = unit(self.rng.standard_normal((CONCEPTS, E)))
        self.matrix = collapse(self.t, self.llm)

    def images(self, count, wire_if_sick, wire_if_well):
        """v [n, D], whether each is sick, whether it has a wire."""
        sick = self.rng.random(count) < 0.4
        wire = self.rng.random(count) < np.where(sick, wire_if_sick, wire_if_well)
        v = 0.35 * self.rng.standard_normal((count, D))
        v[:, 0] += 0.5 * sick
        v[:, 1] += 1.5 * wire
        return unit(v), sick.astype(float), wire


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def probe(world):
    """A model that has learned from images in which the sick have the wire."""
    sides = [world.images(count, 0.9, 0.1) for count in (600, 200)]
    (x, right), (valid, valid_right) = ((embedding(v, world.matrix)[0], sick[:, None]) for v, sick, _ in sides)
    return fit_probe(x, right, valid, valid_right, ["Disease"])


def test_the_audit_of_data_by_hand():
    got = audit_data([[1.0, 0], [0, 1.0]], [[0, 1.0], [0, 1.0]], np.array([[0, 1.0], [1.0, 0], [0.6, 0.8]]), most=2)
    # The means differ by (0.5, -0.5).
    assert got.ids.tolist() == [1, 2]
    np.testing.assert_allclose(got.scores, [0.5, -0.1])


def test_the_audit_of_data_finds_the_wire(world):
    v, sick, _ = world.images(600, 0.9, 0.1)
    got = audit_data(v[sick > 0], v[sick == 0], world.t)
    assert set(WIRES) <= set(got.ids[:5].tolist()) and 3 in got.ids[:5]


def test_the_audit_of_a_model_finds_the_wire_and_its_removal_mends_the_model(world, probe):
    # Here half of the well have wires too, and few of the sick: what the model has learned of wires is wrong.
    v, sick, wire = world.images(800, 0.5, 0.5)
    logits = probe.logits(embedding(v, world.matrix)[0])[:, 0]
    # Two wards: in one, mostly well patients with wires and sick ones without, in the other the model is right.
    ward = np.where((wire == (sick > 0)) ^ (world.rng.random(800) < 0.1), 0, 1)
    images = Answered(v, ward, logits, sick)
    low, high = areas(images)[1], areas(images)[0]
    assert low.area < auc(sick, logits) < high.area and low.q < 0.05 < high.q
    (contrast,) = audit_model(images, np.array([[0.0], [1.0]]), world.t)
    assert (contrast.low.number, contrast.partner.number) == (1, 0)
    listed = contrast.concepts.ids.tolist()
    assert set(WIRES) <= set(listed[:5]) and (contrast.concepts.scores > 0).all()
    assert all(contrast.concepts.q[listed.index(wire)] < 0.05 for wire in WIRES)

    wires = list(WIRES)
    mean = (v @ world.t[wires].T).mean(0)

    def change(v, right):
        before = expit(probe.logits(embedding(v, world.matrix)[0])[:, 0])
        after = expit(probe.logits(remove(v, world.matrix, world.t[wires], world.llm[wires], mean))[:, 0])
        return effect(before, after, right)

    assert change(v, sick).area > 0.05
    assert change(v[(sick == 0) & wire], np.zeros(int(((sick == 0) & wire).sum()))).probability < -0.05
    # Where the sick do have the wire, the model loses what it leaned on.
    assert change(*world.images(800, 0.9, 0.1)[:2]).area < -0.02


def test_removal_is_what_the_whole_bank_gives_with_these_concepts_at_their_mean(world):
    v, _, _ = world.images(30, 0.5, 0.5)
    removed, mean = [7, 8, 20], np.array([0.1, -0.2, 0.05])
    s = v @ world.t.T
    s[:, removed] = mean
    wanted = unit(s @ world.llm)
    got = remove(v, world.matrix, world.t[removed], world.llm[removed], mean)
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    np.testing.assert_allclose(remove(v, world.matrix, world.t[:0], world.llm[:0], []), embedding(v, world.matrix)[0])


def test_effects_by_hand():
    got = effect([0.9, 0.6, 0.5], [0.8, 0.3, 0.4], [1, 0, 1])
    assert got.probability == pytest.approx(-0.5 / 3) and got.area == 0.5
    assert effect([0.9], [0.8], [1]).area is None


def test_small_clusters_and_those_of_one_class_are_listed_as_skipped():
    rng = np.random.default_rng(1)
    cluster = np.repeat([4, 1, 2], [40, 19, 30])
    right = np.where(cluster == 2, 1.0, np.arange(89) % 2)
    got = areas(Answered(np.ones((89, 2)), cluster, right + 0.1 * rng.standard_normal(89), right))
    assert [(each.number, each.images, each.skipped) for each in got] == [
        *((1, 19, "fewer than 20 images"), (2, 30, "one class only"), (4, 40, ""))
    ]
    assert got[0].area is None and got[1].q is None and got[2].area == 1.0
    images = Answered(np.ones((89, 2)), cluster, np.zeros(89), np.ones(89))
    assert audit_model(images, np.zeros((5, 1)), np.eye(2)) == []


def test_areas_by_chance_are_those_of_random_clusters():
    rng = np.random.default_rng(2)
    right = (rng.random(2000) < 0.3).astype(float)
    scores = right + 1.5 * rng.standard_normal(2000)
    got = areas(Answered(np.ones((2000, 1)), rng.integers(20, size=2000), scores, right))
    assert sum(each.q < 0.1 for each in got) <= 1
    # As low as one draw in a thousand, and never 0.
    assert min(each.q for each in got) >= 1 / (audit.DRAWS + 1)


def test_clusters_of_two_sets_share_one_space(monkeypatch):
    rng = np.random.default_rng(3)
    centres = 10 * rng.standard_normal((3, 8))
    kinds = {"here": rng.integers(3, size=90), "there": rng.integers(3, size=60)}
    features = {name: centres[kind] + 0.1 * rng.standard_normal((len(kind), 8)) for name, kind in kinds.items()}
    monkeypatch.setattr(audit, "CLUSTERS", 3)
    found, middle = clusters(features)
    assert {name: len(values) for name, values in found.items()} == {"here": 90, "there": 60} and middle.shape == (3, 8)
    # One number a kind, the same in both sets.
    assert {(kind, number) for name in kinds for kind, number in zip(kinds[name], found[name], strict=True)} == {
        (kind, found["here"][kinds["here"] == kind][0]) for kind in range(3)
    }


def test_a_partner_in_another_set_is_looked_up_there():
    # Cluster 0 is low here; cluster 1 is high in the other set, where its images show concept 1. The first set's own cluster 1
    # shows concept 0, as cluster 0 does, so its mean would give no contrast along concept 0.
    rng = np.random.default_rng(4)
    right = np.tile([0.0, 1.0], 40)
    first = np.repeat([0, 1], 40)
    scores = np.where(first == 0, rng.standard_normal(80), right)
    here = Answered(np.tile([1.0, 0.0], (80, 1)), first, scores, right)
    there = Answered(np.tile([0.0, 1.0], (50, 1)), np.ones(50, int), right[:50], right[:50])
    (contrast,) = audit_model(here, np.array([[0.0], [1.0]]), np.eye(2), there)
    assert (contrast.low.number, contrast.partner.number, contrast.partner.images) == (0, 1, 50)
    assert contrast.concepts.ids.tolist() == [0]
    np.testing.assert_allclose(contrast.concepts.scores, [1.0])
    assert contrast.concepts.q[0] == pytest.approx(2 / (audit.DRAWS + 1))
    (own,) = audit_model(here, np.array([[0.0], [1.0]]), np.eye(2))
    assert len(own.concepts.ids) == 0


def test_audits_are_the_same_each_time(world):
    v, sick, _ = world.images(400, 0.5, 0.5)
    images = Answered(v, world.rng.integers(4, size=400), v[:, 0] - v[:, 1], sick)
    one, other = (audit_model(images, np.arange(8.0).reshape(4, 2), world.t) for _ in range(2))
    assert [each.low for each in one] == [each.low for each in other] and len(one) > 0
    for a, b in zip(one, other, strict=True):
        assert (a.concepts.q == b.concepts.q).all()
