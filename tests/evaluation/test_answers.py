"""Metrics of a small table worked out by hand, and beside scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef, precision_score, recall_score, roc_auc_score

from engine.evaluation import calibration, classes
from engine.evaluation.answers import Answers, task_metrics
from engine.evaluation.metrics import ALL, Rounds, mean_metrics

ROUNDS = Rounds(rounds=100)


def answers(gold, code, prob=None, decision=None, own=None, top=None, group=None, **more) -> Answers:
    n = len(gold)
    answered = np.array([c is not None for c in code])
    return Answers(
        task="site",
        gold=np.array(gold),
        code=np.array([c or "" for c in code]),
        answered=answered,
        prob=np.where(answered, np.array([0.9] * n if prob is None else prob, float), np.nan),
        decision=np.array(decision or ["auto"] * n),
        task_decision=np.array(own or decision or ["auto"] * n),
        top=top or [[c] for c in code],
        group=np.array(group or [str(i) for i in range(n)]),
        **more,
    )


def found(metrics):
    return {(m.metric, m.slice): m for m in metrics}


# Six records, each of them six times, so that no figure rests on too few.
SMALL = answers(
    gold=["C50", "C50", "C34", "C34", "C61", "C61"] * 6,
    code=["C50", "C34", "C34", "C34", "C18", None] * 6,
    prob=[0.9, 0.6, 0.8, 0.7, 0.5, 0.0] * 6,
    decision=["auto", "auto", "auto", "review", "review", "failed"] * 6,
    top=[["C50"], ["C34", "C50"], ["C34"], ["C34"], ["C18", "C20"], []] * 6,
)


def test_shares_by_hand():
    # Of six, five answered, three of them right; three auto with two right, two to review with one right.
    rows = found(task_metrics(SMALL, {}, ROUNDS))
    expected = {
        "answered": (5 / 6, 6),
        "accuracy": (3 / 5, 5),
        "accuracy_top": (4 / 5, 5),
        "mean_prob": (3.5 / 5, 5),
        "auto_share": (3 / 6, 6),
        "auto_accuracy": (2 / 3, 3),
        "review_accuracy": (1 / 2, 2),
    }
    for name, (value, n) in expected.items():
        assert (rows[name, ALL].value, rows[name, ALL].n) == (pytest.approx(value), 6 * n), name
        assert rows[name, ALL].low <= value <= rows[name, ALL].high
    assert rows["auto_accuracy_bound", ALL].value == calibration.lower_bound(12, 18)


@pytest.mark.parametrize("name", ["auto_accuracy_bound", "sure_accuracy_bound"])
def test_the_bound_holds_by_patients_too(name):
    # Thirty records of six patients; with one wrong, five patients are all right.
    group = [f"p{number // 5}" for number in range(30)]
    rows = found(task_metrics(answers(["a"] * 30, ["a"] * 30, group=group), {}, ROUNDS))
    assert rows[name, ALL].value == calibration.lower_bound(6, 6) == pytest.approx(0.05 ** (1 / 6))
    rows = found(task_metrics(answers(["a"] * 30, ["a"] * 29 + ["b"], group=group), {}, ROUNDS))
    assert (rows[name, ALL].value, rows[name, ALL].n) == (calibration.lower_bound(5, 6), 30)
    # Errors that gather in few of many patients: the records decide.
    group = [f"p{number}" for number in range(20)] + ["q"] * 10
    rows = found(task_metrics(answers(["a"] * 30, ["a"] * 20 + ["b"] * 10, group=group), {}, ROUNDS))
    assert rows[name, ALL].value == calibration.lower_bound(20, 30) < calibration.lower_bound(20, 21)


def test_the_intervals_of_bins_draw_patients():
    # One bin: of six patients three are right throughout, so that a resample has any number of them.
    group = [f"p{number // 5}" for number in range(30)]
    code = ["a"] * 15 + ["b"] * 15
    row = found(task_metrics(answers(["a"] * 30, code, group=group), {}, ROUNDS))["reliability", "bin=01"]
    plain = classes.bootstrap_interval(lambda at: np.mean(np.array(code)[at] == "a"), group, 100)
    assert row.value == 0.5 and (row.low, row.high) == pytest.approx(plain)
    row = found(task_metrics(answers(["a"] * 30, ["a"] * 30, group=group), {}, ROUNDS))["reliability", "bin=01"]
    assert (row.value, row.low, row.high) == (1.0, pytest.approx(0.025 ** (1 / 6)), 1.0)


def test_a_mean_that_no_resample_changes_has_no_interval():
    rows = found(task_metrics(answers(["a"] * 12, ["a", "b"] * 6, [1.0] * 12), {}, ROUNDS))
    assert (rows["mean_prob", ALL].value, rows["mean_prob", ALL].low, rows["mean_prob", ALL].high) == (1.0, None, None)
    (row,) = mean_metrics("site", {"comprehensiveness": np.full(9, 0.25)}, np.arange(9), ROUNDS)
    assert (row.value, row.low, row.high) == (0.25, None, None)


def test_the_f1_of_a_code_that_is_only_given_rests_on_those_it_was_given_to():
    rows = found(task_metrics(answers(["a"] * 20, ["b"] * 6 + ["c"] * 5 + ["a"] * 9), {}, ROUNDS))
    assert (rows["f1", "site=b"].value, rows["f1", "site=b"].n) == (0.0, 6)
    assert (rows["f1", "site=c"].value, rows["f1", "site=c"].n, rows["f1", "site=c"].params) == (None, 5, {"too_few": 5})
    # Nothing to rest on is not too little of it.
    assert not [m for m in rows.values() if m.params.get("too_few") == 0]


def test_classes_by_hand():
    # As in test_classes: F1 2/3 for C50, 4/5 for C34, 0 for C61 (its other record has no answer) and for C18.
    rows = found(task_metrics(SMALL, {}, ROUNDS))
    assert rows["f1", "site=C50"].value == pytest.approx(2 / 3) and rows["f1", "site=C50"].n == 12
    assert rows["precision", "site=C34"].value == pytest.approx(2 / 3) and rows["precision", "site=C34"].n == 18
    assert rows["recall", "site=C61"].value == 0.0 and rows["recall", "site=C61"].n == 6
    assert rows["recall", "site=C18"].value is None and rows["recall", "site=C18"].n == 0
    assert rows["macro_f1", ALL].value == pytest.approx((2 / 3 + 4 / 5) / 3)
    assert rows["macro_f1", ALL].params == {"classes": 3}
    assert rows["macro_f1_both", ALL].value == pytest.approx((2 / 3 + 4 / 5) / 4)


def test_errors_are_counted_with_how_many_nobody_saw():
    rows = [m for m in task_metrics(SMALL, {}, ROUNDS) if m.metric == "confusion"]
    assert [(m.slice, m.value, m.n, m.params["auto"]) for m in rows] == [
        ("gold=C50,given=C34", 6.0, 12, 6),
        ("gold=C61,given=C18", 6.0, 6, 0),
    ]


def test_scikit_learn_defines_the_same():
    generator = np.random.default_rng(2)
    gold = generator.choice(["a", "b", "c", "d"], 300, p=[0.5, 0.3, 0.15, 0.05])
    code = np.where(generator.random(300) < 0.7, gold, generator.choice(["a", "b", "c", "e"], 300))
    prob = generator.random(300)
    rows = found(task_metrics(answers(list(gold), list(code), prob), {}, ROUNDS))
    labels = sorted(set(gold))
    assert rows["macro_f1", ALL].value == pytest.approx(f1_score(gold, code, labels=labels, average="macro"))
    assert rows["macro_f1_both", ALL].value == pytest.approx(f1_score(gold, code, average="macro"))
    assert rows["mcc", ALL].value == pytest.approx(matthews_corrcoef(gold, code))
    assert rows["accuracy", ALL].value == pytest.approx(f1_score(gold, code, average="micro"))
    assert rows["auroc_right", ALL].value == pytest.approx(roc_auc_score(gold == code, prob))
    for code_ in labels:
        assert rows["recall", f"site={code_}"].value == pytest.approx(recall_score(gold == code_, code == code_))
        assert rows["precision", f"site={code_}"].value == pytest.approx(precision_score(gold == code_, code == code_))
    assert rows["ece", ALL].value == pytest.approx(calibration.expected_calibration_error(prob, gold == code))
    assert rows["brier_top", ALL].value == pytest.approx(np.mean((prob - (gold == code)) ** 2))
    assert rows["keepable_share", "target=0.95"].value == classes.keepable_share(prob, gold == code, 0.95)
    assert rows["risk", "coverage=1.00"].value == pytest.approx(np.mean(gold != code))
    reliability = [m for m in rows.values() if m.metric == "reliability"]
    assert sum(m.n for m in reliability) == 300 and len(reliability) == 15
    assert np.average([abs(m.value - m.params["mean_prob"]) for m in reliability]) == pytest.approx(rows["ece", ALL].value)


def test_intervals_are_those_of_a_bootstrap_by_patient():
    generator = np.random.default_rng(4)
    gold = generator.choice(["a", "b"], 60)
    code = np.where(generator.random(60) < 0.8, gold, "b")
    groups = [f"p{i // 2}" for i in range(60)]
    rows = found(task_metrics(answers(list(gold), list(code), group=groups), {}, Rounds(300, 0.9, 5)))
    plain = classes.bootstrap_interval(lambda at: classes.macro_f1(gold[at], code[at]), groups, 300, 0.9, 5)
    assert (rows["macro_f1", ALL].low, rows["macro_f1", ALL].high) == pytest.approx(plain)


def test_all_right_has_the_exact_interval_over_patients():
    rows = found(task_metrics(answers(["a"] * 12, ["a"] * 12, group=list("ppqqrrssttuu")), {}, ROUNDS))
    assert rows["accuracy", ALL].value == 1.0
    assert (rows["accuracy", ALL].low, rows["accuracy", ALL].high) == pytest.approx((0.025 ** (1 / 6), 1.0))
    assert rows["auroc_right", ALL].value is None
    for name in ("recall", "precision"):
        assert (rows[name, "site=a"].low, rows[name, "site=a"].high) == pytest.approx((0.025 ** (1 / 6), 1.0))
    least = 0.025 ** (1 / 6)
    assert (rows["f1", "site=a"].low, rows["f1", "site=a"].high) == pytest.approx((2 * least / (1 + least), 1.0))
    # No resample of right answers differs from another: that is no interval.
    assert (rows["macro_f1", ALL].value, rows["macro_f1", ALL].low, rows["macro_f1", ALL].high) == (1.0, None, None)


def test_a_code_that_is_never_right_has_the_exact_interval_over_all_that_it_rests_on():
    rows = found(task_metrics(answers(["a"] * 6 + ["b"] * 8, ["c"] * 6 + ["a"] * 8), {}, ROUNDS))
    highest = 1 - 0.025 ** (1 / 14)
    row = rows["f1", "site=a"]
    assert (row.value, row.low, row.high, row.n) == (0.0, 0.0, pytest.approx(2 * highest / (1 + highest)), 14)


def test_slices_part_the_records_and_leave_out_those_in_no_part():
    rows = found(task_metrics(SMALL, {"facility": np.array(["x", "x", "x", "y", "y", ""] * 6)}, ROUNDS))
    assert (rows["accuracy", "facility=x"].value, rows["accuracy", "facility=x"].n) == (pytest.approx(2 / 3), 18)
    assert (rows["auto_share", "facility=y"].value, rows["auto_accuracy", "facility=y"].value) == (0.0, None)
    assert {part for _, part in rows if part.startswith("facility")} == {"facility=x", "facility=y"}


def test_several_labels_count_one_by_one():
    # Six times gold a+b, b, none; given a, b, none. a: 1 of 1; b: found once of two. Micro F1: 2 * 2 / (3 + 2).
    many = answers(["a;b", "b", ""] * 6, ["a", "b", ""] * 6, multi=True)
    many = Answers(**{**vars(many), "answered": np.ones(18, bool), "prob": np.full(18, 0.9)})
    rows = found(task_metrics(many, {}, ROUNDS))
    assert rows["accuracy", ALL].value == pytest.approx(2 / 3)
    assert rows["micro_f1", ALL].value == pytest.approx(4 / 5)
    assert rows["macro_f1", ALL].value == pytest.approx((1 + 2 / 3) / 2)
    assert ("accuracy_top", ALL) not in rows and ("mcc", ALL) not in rows


def test_nothing_answered_leaves_shares_alone():
    rows = found(task_metrics(answers(["a", "b"] * 3, [None] * 6, decision=["failed"] * 6), {}, ROUNDS))
    assert (rows["answered", ALL].value, rows["auto_share", ALL].value, rows["accuracy", ALL].value) == (0.0, 0.0, None)
    assert ("ece", ALL) not in rows


def test_nothing_that_rests_on_fewer_than_six_patients_has_a_figure():
    # Twenty records of a, five of them of one patient each in ward y, beside ten records of a single patient in z.
    group = [f"p{i}" for i in range(20)] + ["q"] * 10
    ward = np.array(["x"] * 15 + ["y"] * 5 + ["z"] * 10)
    code = ["a"] * 12 + ["b"] * 3 + ["a"] * 4 + ["b"] + ["a"] * 10
    prob = list(np.linspace(0.5, 0.9, 30))
    rows = found(task_metrics(answers(["a"] * 29 + ["c"], code, prob, group=group), {"ward": ward}, ROUNDS))
    assert rows["accuracy", "ward=x"].value == pytest.approx(12 / 15)
    for part, n, groups in (("ward=y", 5, 5), ("ward=z", 10, 1)):
        for name in ("answered", "accuracy", "accuracy_top", "mean_prob", "auto_share", "auto_accuracy", "auto_accuracy_bound"):
            row = rows[name, part]
            assert (row.value, row.low, row.high, row.n, row.params) == (None, None, None, n, {"too_few": groups}), name
    # One record is c and none was given it; four were given b and none is it.
    assert (rows["recall", "site=c"].n, rows["recall", "site=c"].params) == (1, {"too_few": 1})
    assert (rows["precision", "site=b"].n, rows["precision", "site=b"].params) == (4, {"too_few": 4})
    assert (rows["f1", "site=b"].n, rows["f1", "site=b"].params) == (4, {"too_few": 4})
    assert (rows["precision", "site=c"].value, rows["precision", "site=c"].params) == (None, {})
    # Four wrong answers of patients p and one of q; so many of the surest are of q that risk begins late.
    assert rows["auroc_right", ALL].params == {"too_few": 5}
    risks = {name: row for (metric, name), row in rows.items() if metric == "risk"}
    assert risks["coverage=0.30"].params == {"too_few": 1} and risks["coverage=0.30"].n == 9
    assert risks["coverage=0.50"].value == pytest.approx(2 / 15)
    bins = [row for (metric, _), row in rows.items() if metric == "reliability"]
    assert rows["ece", ALL].params == {"bins": 3} and [(row.n, row.value is None) for row in bins] == [
        (10, False),
        (10, False),
        (10, True),
    ]


def test_a_single_record_has_counts_and_no_figure():
    for code in ("a", "b"):
        rows = task_metrics(answers(["a"], [code]), {"ward": np.array(["x"])}, ROUNDS)
        assert [(m.metric, m.value) for m in rows if m.value is not None] == ([] if code == "a" else [("confusion", 1.0)])


def test_a_share_that_could_be_kept_rests_on_what_is_kept():
    # Of the surest five all are right, below them none.
    rows = found(task_metrics(answers(["a"] * 30, ["a"] * 5 + ["b"] * 25, list(np.linspace(0.9, 0.1, 30))), {}, ROUNDS))
    assert rows["keepable_share", "target=0.98"].params == {"too_few": 5} and rows["keepable_share", "target=0.98"].n == 30
    none = found(task_metrics(answers(["a"] * 30, ["b"] * 30, list(np.linspace(0.9, 0.1, 30))), {}, ROUNDS))
    assert none["keepable_share", "target=0.98"].value == 0.0
