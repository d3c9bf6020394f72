"""The arithmetic of the measures, on invented images and features."""

import numpy as np
import polars as pl
import pytest

from engine.models.clear.bank import collapse, embedding, top
from engine.models.clear.concepts import Bank
from engine.models.findings.decide import FindingCalibration
from engine.studies.clear import bottlenecks, exact, places, planted, shift, sources, variants
from engine.studies.clear.folds import parts
from engine.studies.clear.radiographs import Images


def test_a_patient_is_in_one_part_of_a_fold_and_every_image_is_tested_once() -> None:
    patients = np.repeat(np.arange(40), 3)
    folds = list(parts(patients, 1))
    assert (np.sum([fold.test for fold in folds], 0) == 1).all()
    for fold in folds:
        sides = [set(patients[each]) for each in (fold.train, fold.valid, fold.test)]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
        assert sum(map(len, sides)) == 40


def test_the_place_of_the_first_mark() -> None:
    assert planted.first_of([7, 3, 9, 4], [4, 9]) == 3
    assert planted.first_of([7, 3], [4]) is None


def test_boxes_are_scaled_and_only_those_of_pneumonia_count() -> None:
    boxes = [
        {"label": "Pneumonia", "x": 100.0, "y": 200.0, "w": 40.0, "h": 20.0},
        {"label": "Mass", "x": 0.0, "y": 0.0, "w": 9.0, "h": 9.0},
    ]
    assert places.drawn(boxes, 0.5) == [(50.0, 100.0, 70.0, 110.0)]


def test_centres_of_places_in_boxes() -> None:
    cells = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [np.nan] * 4, [0, 10, 10, 20]], float)
    assert places.inside(cells, [(0.0, 0.0, 6.0, 6.0), (4.0, 14.0, 9.0, 19.0)]).tolist() == [True, False, True]


def test_samples_draw_whole_patients() -> None:
    patients = np.array(["a", "a", "b", "c", "c", "c"])
    for rows in bottlenecks.samples(patients, 5, 1):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[1] and counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[2] + counts[3] == 3
    assert not np.array_equal(*(next(bottlenecks.samples(np.arange(50), 1, seed)) for seed in (1, 2)))


def test_counts_of_the_panel() -> None:
    given = [
        {"Pneumothorax": "YES", "Nodule or mass": "NO", "Fracture": "YES"},
        {"Pneumothorax": "YES", "Nodule or mass": "YES", "Fracture": "NO"},
    ]
    labels = [["Pneumothorax"], ["Mass"], ["Nodule"]]
    rows = {
        (row.metric, row.slice): (row.value, row.n)
        for row in bottlenecks.panel(
            Images(pl.DataFrame({"radiologist_labels": [*given, None], "labels": labels}), np.zeros((3, 1)))
        )
    }
    assert rows["panel.panel", "finding=Pneumothorax"] == (2, 2)
    assert rows["panel.label", "finding=Pneumothorax"] == rows["panel.both", "finding=Pneumothorax"] == (1, 2)
    assert rows["panel.both", "finding=Nodule or mass"] == (1, 2)
    assert rows["panel.panel", "finding=Fracture"] == (1, 2)
    assert ("panel.label", "finding=Fracture") not in rows


def test_a_filled_bank_begins_with_the_real_one_and_has_rows_of_length_1() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((7, 16))
    real = (real / np.linalg.norm(real, axis=1, keepdims=True)).astype(np.float16)
    rows = exact.filled(real, 25, 1)
    assert rows.shape == (25, 16) and (rows[:7] == real).all() and (exact.filled(real, 3, 1) == real[:3]).all()
    assert np.linalg.norm(rows.astype(float), axis=1) == pytest.approx(np.ones(25), abs=2e-3)
    assert len(np.unique(rows, axis=0)) == 25


def test_collapse_and_sum_agree_with_the_naive_sum() -> None:
    rng = np.random.default_rng(0)
    t, llm, v, p = (rng.standard_normal(shape) for shape in ((40, 4), (40, 6), (3, 4), (6, 2)))
    matrix = collapse(t, llm)
    z, norms = embedding(v, matrix)
    assert exact.relative(z, exact.naive(v, t, llm)) < 1e-12
    listed = top(v, norms, t, llm @ p, 5)
    assert exact.relative(listed.scores.sum(2) + listed.rest, z @ p) < 1e-12


def test_relative_error() -> None:
    assert exact.relative(np.array([1.0, 4.5]), np.array([1.0, 5.0])) == pytest.approx(0.1)


def test_the_loss_on_the_other_view_by_hand() -> None:
    # Own view: all four pairs in order. Other view: one positive above one negative and below the other.
    logits = np.array([[2.0], [1.0], [-1.0], [-2.0], [0.0], [1.0], [-1.0]])
    right = np.array([[1.0], [1.0], [0.0], [0.0], [1.0], [0.0], [0.0]])
    own = np.array([True] * 4 + [False] * 3)
    rows = shift._areas(logits, right, np.arange(7), {"own": own, "other": ~own}, ["Edema"], 20)
    values = {(row.metric, row.slice): row.value for row in rows}
    assert values["macro_auroc", "view=own"] == 1
    assert values["macro_auroc", "view=other"] == values["auroc", "label=Edema, other"] == 0.5
    assert values["macro_auroc", "less own"] == -0.5


def test_shares_are_means_over_labels() -> None:
    yes = np.array([[1, 0], [1, 1], [0, 1]], bool)
    called = np.array([[1, 0], [0, 1], [0, 1]], bool)
    side = np.ones(3, bool)
    rows = shift._shares({"sensitivity": (yes & called, yes)}, np.arange(3), {"own": side, "other": side}, 10)
    assert rows[0].value == pytest.approx((1 / 2 + 1) / 2) and rows[2].value == 0


def test_decisions_are_those_of_the_product() -> None:
    calibration = {
        "Edema": FindingCalibration(threshold=0.5, lower=0.3, upper=0.7),
        "Pneumonia": FindingCalibration(threshold=0.5),
    }
    called, review = shift.decided(calibration, np.array([[5.0, -5.0], [0.0, -5.0], [-5.0, 5.0]]))
    assert called.tolist() == [[True, False], [True, False], [False, True]]
    assert review.tolist() == [False, True, True]


def test_sets_that_lie_apart_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    source = np.repeat([0, 1, 2], 20)
    z = np.eye(3)[source] + 0.05 * rng.standard_normal((60, 3))
    assert (sources.told(z, source, np.arange(60) % 5) == source).all()


def test_concepts_of_a_variant() -> None:
    texts = ["no effusion", "effusion", "normal heart", "heart is not enlarged", "noted device"]
    bank = Bank(texts, np.arange(5, 0, -1), np.eye(5, dtype=np.float16), "", {})
    assert variants.chosen(bank, variants.Variant(), 1).tolist() == [0, 1, 2, 3, 4]
    assert variants.chosen(bank, variants.Variant(negated=False), 1).tolist() == [1, 2, 4]
    assert variants.chosen(bank, variants.Variant(size=2), 1).tolist() == [0, 1]
    assert len(variants.chosen(bank, variants.Variant(size=2, order="random"), 1)) == 2
