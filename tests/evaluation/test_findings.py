"""Findings worked by hand, and beside scikit-learn."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from engine.errors import ConfigError, ContractError
from engine.evaluation.findings import (
    NEGATIVE,
    POSITIVE,
    box_iou,
    box_metrics,
    figures,
    label_metrics,
    ranking,
    stated_f1,
    threshold_metrics,
    truth,
)
from engine.evaluation.metrics import ALL, Rounds
from engine.records import check, wrong_schema

NAN = float("nan")
ROUNDS = Rounds(50)


def found(metrics):
    return {(m.metric, m.slice): m for m in metrics}


def test_what_a_state_counts_as():
    states = [1, 0, -1, NAN]
    np.testing.assert_equal(truth(states), [1, 0, NAN, NAN])
    np.testing.assert_equal(truth(states, POSITIVE), [1, 0, 1, NAN])
    np.testing.assert_equal(truth(states, NEGATIVE, NEGATIVE), [1, 0, 0, 0])


def test_ranking_by_hand_with_a_tie():
    # Falling: yes, no and yes at one value, no. Pairs in order: 2, and 1 1/2 of 4. Precision 1 at recall 1/2, 2/3 at 1.
    prob, true = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 0, 1, 0])
    area, precision = ranking(prob, true, np.array([[1.0, 1, 1, 1], [1, 0, 1, 0], [0, 2, 1, 0]]))
    np.testing.assert_allclose(area, [3.5 / 4, NAN, 0.5])
    np.testing.assert_allclose(precision, [0.5 + 0.5 * 2 / 3, NAN, 1 / 3])


def test_scikit_learn_says_the_same_of_every_draw():
    generator = np.random.default_rng(1)
    true, prob = generator.integers(0, 2, 40), generator.integers(0, 9, 40) / 8
    weights = generator.integers(0, 3, (6, 40)).astype(float)
    area, precision = ranking(prob, true, weights)
    for row, drawn in enumerate(weights):
        assert area[row] == pytest.approx(roc_auc_score(true, prob, sample_weight=drawn))
        assert precision[row] == pytest.approx(average_precision_score(true, prob, sample_weight=drawn))


PROB = np.array([[0.9, 0.2, 0.6], [0.4, 0.7, 0.6], [0.6, 0.4, 0.6], [0.1, 0.8, 0.6]] * 6)
TRUE = np.array([[1, NAN, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]] * 6)
UNIT = np.repeat([f"p{at}" for at in range(6)], 4)
NAMES = ["fluid", "heart", "air"]


def test_means_leave_out_labels_that_are_all_one_side():
    rows = found(label_metrics(NAMES, PROB, TRUE, UNIT, ROUNDS))
    # fluid: 3 of 4 pairs in order. heart: without the unknown, 0.7 lies above one of two. air: never absent.
    assert rows["auroc", "label=fluid"].value == 0.75 and rows["auroc", "label=heart"].value == 0.5
    assert ("auroc", "label=air") not in rows
    assert rows["macro_auroc", ALL].value == 0.625 and rows["macro_auroc", ALL].params == {"labels": 2}
    # Over all cells, those of air too.
    right = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    said = np.array([0.9, 0.4, 0.6, 0.1, 0.7, 0.4, 0.8, 0.6, 0.6, 0.6, 0.6])
    assert rows["micro_auroc", ALL].value == pytest.approx(roc_auc_score(right, said)) and rows["micro_auroc", ALL].n == 66
    assert rows["micro_ap", ALL].value == pytest.approx(average_precision_score(right, said))
    assert rows["ap", "label=fluid"].value == pytest.approx(average_precision_score(TRUE[:4, 0], PROB[:4, 0]))
    assert rows["brier", ALL].value == pytest.approx(np.mean((said - right) ** 2))
    alone = found(label_metrics(["air"], PROB[:, 2:], TRUE[:, 2:], UNIT, ROUNDS))
    assert alone["micro_auroc", ALL].value is None and ("macro_auroc", ALL) not in alone
    assert label_metrics(["air"], PROB[:, 2:], np.full((24, 1), NAN), UNIT, ROUNDS) == []


def test_patients_are_drawn_whole_and_few_have_no_figure():
    # Every draw of patients that are alike says the same.
    assert found(label_metrics(NAMES, PROB, TRUE, UNIT, ROUNDS))["auroc", "label=fluid"].low is None
    few = found(label_metrics(NAMES, PROB, TRUE, np.repeat(["p", "q"], 12), ROUNDS))
    assert few["auroc", "label=fluid"].params == {"too_few": 2}


def test_thresholds_are_taken_as_they_are():
    rows = found(threshold_metrics(NAMES, PROB >= 0.5, TRUE, UNIT, ROUNDS))
    # fluid: said of the first and third, true of the first two.
    assert rows["f1", "label=fluid"].value == 0.5 and rows["mcc", "label=fluid"].value == 0.0
    # heart: said of the second and fourth, true of the third and fourth; the first counts nowhere.
    assert rows["f1", "label=heart"].value == 0.5 and rows["f1", "label=heart"].n == 18
    assert rows["mcc", "label=heart"].value == pytest.approx(matthews_corrcoef([0, 1, 1], [1, 0, 1]))
    assert rows["f1", "label=air"].value == 1.0 and rows["macro_f1", ALL].value == pytest.approx(2 / 3)
    # Together: hits 1, 1, 4; said 2, 2, 4; true 2, 2, 4.
    assert rows["micro_f1", ALL].value == pytest.approx(12 / 16)


def test_what_two_texts_state_under_both_policies():
    gold = [[1, -1, NAN], [0, 1, NAN], [NAN, NAN, NAN]]
    said = [[1, 1, NAN], [1, NAN, NAN], [NAN, 0, NAN]]
    # Uncertain is yes: hits 2, said 3, true 3; by study 1, 0, and two that state nothing agree.
    assert stated_f1(said, gold, POSITIVE) == {
        "micro": pytest.approx(4 / 6),
        "macro": pytest.approx((2 / 3 + 2 / 3) / 2),
        "example": pytest.approx(2 / 3),
    }
    # Uncertain is no: hits 1, said 3, true 2.
    assert stated_f1(said, gold, NEGATIVE) == {
        "micro": pytest.approx(2 / 5),
        "macro": pytest.approx((2 / 3 + 0) / 2),
        "example": pytest.approx((2 / 3 + 0 + 1) / 3),
    }


def test_boxes():
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7) and box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0.0
    with pytest.raises(ContractError, match="without area"):
        box_iou((0, 0, 0, 1), (0, 0, 1, 1))
    gold = [[(0, 0, 4, 4)], [(0, 0, 4, 4), (10, 10, 12, 12)]] * 3
    said = [[(0.9, (0, 0, 4, 4))], [(0.5, (0, 0, 4, 2)), (0.8, (6, 6, 8, 8))]] * 3
    rows = found(box_metrics(gold, said, np.array([f"p{at}" for at in range(6)]), ROUNDS))
    # 1, and the mean of a half and nothing; the strongest is inside, and is not.
    assert rows["box_iou", ALL].value == pytest.approx((1 + 0.25) / 2) and rows["pointing", ALL].value == 0.5


LABELS = pa.list_(
    pa.struct(
        [pa.field(name, kind) for name, kind in (("name", pa.string()), ("prob", pa.float32()), ("threshold", pa.float32()))]
    )
)
STATES = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("state", pa.int8())]))


def studies():
    """Rows of a run and gold for them."""
    ids = [f"s{at:02}" for at in range(24)]
    labels = [[{"name": n, "prob": float(p), "threshold": 0.5} for n, p in zip(NAMES, row, strict=True)] for row in PROB]
    columns = {"record_id": ids, "decision": ["review"] * 24, "labels": pa.array(labels, LABELS)}
    rows = pa.table({**columns, "run_id": ["r"] * 24, "model_digest": ["m"] * 24})
    states = [[{"name": n, "state": -1 if np.isnan(v) else int(v)} for n, v in zip(NAMES, row, strict=True)] for row in TRUE]
    gold = pa.table({"record_id": ["nobody", *ids], "group": [None, *UNIT], "findings": pa.array([[], *states], STATES)})
    return rows, gold


def test_a_whole_table():
    rows, gold = studies()
    whole = figures(rows, gold, rounds=ROUNDS)
    assert whole.table == "findings" and whole.get("findings", "macro_auroc").value == 0.625
    assert whole.get("findings", "macro_auroc").params == {"labels": 2, "uncertain": "left_out"}
    assert whole.get("findings", "f1", "label=fluid").value == 0.5 and whole.get(None, "review_share").value == 1.0
    assert whole.notes == ["air: gold lacks yes or no, so it has no AUC and is in no mean."]
    assert (whole.counts["matched"], whole.counts["without_row"]) == (24, 1)
    wrong = check(whole.wrong, wrong_schema(())).to_pylist()
    assert [(row["record_id"], row["task"], row["code"], row["gold"]) for row in wrong[:2]] == [
        ("s01", "heart", "1", "0"),
        ("s05", "heart", "1", "0"),
    ]
    assert len(wrong) == 24 and wrong[0]["prob"] == pytest.approx(0.7) and wrong[0]["group"] == "p0"
    # As a yes, the uncertain one is missed by its low probability.
    assert figures(rows, gold, uncertain=POSITIVE, rounds=ROUNDS).get("findings", "auroc", "label=heart").value == pytest.approx(
        1 / 3
    )


def test_what_does_not_meet_is_told():
    rows, gold = studies()
    with pytest.raises(ConfigError, match="none of 1 ids"):
        figures(rows, gold.slice(0, 1))
    other = pa.table({"record_id": ["s00"], "group": ["p"], "findings": pa.array([[{"name": "bone", "state": 1}]], STATES)})
    with pytest.raises(ConfigError, match="the run gives air, fluid, heart, and gold has bone"):
        figures(rows, other)
