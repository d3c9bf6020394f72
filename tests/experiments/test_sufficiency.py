import numpy as np
import pytest

from engine.errors import ConfigError
from engine.experiments.sufficiency import accepted, folds, rule, score

CLASSES = ["C18", "C34"]


def table():
    """Four rationales of C18 with sufficiency 0.5, 0.1, -0.1, 0.3, and two of C34 with 0.0 and 0.6 (which says C18)."""
    labels = ["C18"] * 4 + ["C34"] * 2
    gold = [(0.9, 0.4), (0.8, 0.7), (0.7, 0.8), (0.9, 0.6), (0.6, 0.6), (0.8, 0.2)]
    first = [label == "C18" for label in labels]
    report, alone = (
        np.array([[v[i], 1 - v[i]] if c18 else [1 - v[i], v[i]] for v, c18 in zip(gold, first, strict=True)]) for i in (0, 1)
    )
    empty = np.full((6, 2), [0.3, 0.7])
    named = [{"record_id": f"r{i}", "origin": f"o{i}", "label": label} for i, label in enumerate(labels)]
    return score(named, CLASSES, [(0, np.arange(6), report, alone, empty)])


def test_the_probabilities_of_several_models_go_to_their_rationales():
    named = [{"record_id": f"r{i}", "origin": f"o{i}", "label": label} for i, label in enumerate(["C18", "C34", "C18"])]
    some = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    probs = [(2, np.array([2, 0]), some[[2, 0]], some[[0, 2]], some[[1]]), (4, np.array([1]), some[[1]], some[[1]], some[[0]])]
    rows = score(named, CLASSES, probs).to_pylist()
    assert [row["fold"] for row in rows] == [2, 4, 2]
    assert [row["report_prob"] for row in rows] == [0.9, 0.8, 0.7]
    assert [row["rationale_prob"] for row in rows] == [0.7, 0.8, 0.9]
    assert [row["empty_prob"] for row in rows] == [0.2, 0.1, 0.2]
    assert score([], CLASSES, []).num_rows == 0


def kept(text):
    return [f"r{row}" for row in np.flatnonzero(accepted(table(), rule(text)))]


def test_scores_by_hand():
    rows = table().to_pylist()
    assert [round(row["sufficiency"], 6) for row in rows] == [0.5, 0.1, -0.1, 0.3, 0.0, 0.6]
    # Null 1 - (0.9 - 0.3) = 0.4; (1 - 0.5 - 0.4) / 0.6.
    assert rows[0]["norm_sufficiency"] == pytest.approx(1 / 6)
    # The empty text gives C34 more than the report does: nothing to normalise by.
    assert rows[4]["norm_sufficiency"] is None
    assert [row["says"] for row in rows] == ["C34", "C18", "C18", "C18", "C34", "C18"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", ["r0", "r1", "r2", "r3", "r4", "r5"]),
        ("drop_wrong", ["r1", "r2", "r3", "r4"]),
        ("at_most(0)", ["r2", "r4"]),
        ("at_most(0.2)", ["r1", "r2", "r4"]),
        ("top(0.5)", ["r1", "r2", "r4"]),
        ("top(0.25)", ["r2", "r4"]),
    ],
)
def test_rules_by_hand(text, expected):
    assert kept(text) == expected


def test_the_control_keeps_as_many_of_each_class_whatever_their_scores():
    labels = np.array(table()["label"].to_pylist())[accepted(table(), rule("random(top(0.5))"))]
    assert sorted(labels) == ["C18", "C18", "C34"]
    draws = [tuple(accepted(table(), rule("random(top(0.5))"), seed).tolist()) for seed in range(6)]
    assert len(set(draws)) > 1


BROKEN = ["all(", "top(0.5", "top0.5)", "at_most(nan)", "at_most(inf)", "random(top(0.5)"]


@pytest.mark.parametrize("text", ["top", "top(0)", "top(2)", "best(0.5)", "random", "random()", "at_most(x)", "all(1)", *BROKEN])
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(ConfigError, match="is no rule"):
        rule(text)


def test_folds_hold_every_patient_together_and_every_common_class():
    labels = ["C18", "C34", "C50", "C61"] * 25 + ["C73"]
    groups = [f"p{i // 2}" for i in range(101)]
    found = folds(labels, groups, 5, 3)
    assert sorted(set(found.tolist())) == [0, 1, 2, 3, 4]
    assert all(found[2 * i] == found[2 * i + 1] for i in range(50))
    for number in range(5):
        assert {label for label, fold in zip(labels, found, strict=True) if fold == number} >= {"C18", "C34", "C50", "C61"}


def test_too_few_patients_for_folds_are_refused():
    with pytest.raises(ConfigError, match="5 folds need as many patients"):
        folds(["C18"] * 8, ["a", "b", "c", "d"] * 2, 5, 3)
    with pytest.raises(ConfigError, match="no class has the 3 reports"):
        folds(["C18", "C34", "C50"], ["a", "b", "c"], 3, 3)


def test_a_report_without_a_patient_cannot_be_in_a_fold():
    with pytest.raises(ConfigError, match=r"^data\.group: 2 reports of train have none"):
        folds(["C18"] * 6, ["a", None, "b", "c", None, "d"], 2, 3)
