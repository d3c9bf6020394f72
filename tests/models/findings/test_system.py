"""Rows of a system of findings: labels, decision and the patches behind them."""

import pyarrow as pa
import pytest

from engine.models.rows import finish, tally
from engine.models.run import answer, prepare
from tests.models.findings.conftest import load
from tests.toys import seen


def rows_of(system, **files):
    meta, prepared = prepare(system, seen.studies(**files))
    table = finish(system, pa.schema([]), "run", meta, answer(system, prepared, pa.schema([])))
    return {row["record_id"]: row for row in table.to_pylist()}, table


# A square of 8 pixels at this level is the brightest cell: (level - 127) / 128; the logit of Bright is 4 times that less 2.
WHITE, MIDDLE, BLACK = (seen.picture((40, 16, 8, level)) for level in (255, 191, 127))


def test_clear_studies_are_auto_and_unclear_ones_for_a_person(bounded):
    rows, table = rows_of(load(bounded), white=[WHITE], middle=[MIDDLE], black=[BLACK], broken=[b"?"])
    assert [(rows[name]["decision"], rows[name]["reasons"]) for name in ("white", "middle", "black", "broken")] == [
        ("auto", []),
        ("review", ["near_threshold", "inconsistent_evidence"]),
        ("auto", []),
        ("failed", []),
    ]
    bright = {name: row["labels"][0] for name, row in rows.items() if row["labels"]}
    assert [(bright[name]["logit"], bright[name]["pred"], bright[name]["clear"]) for name in ("white", "middle", "black")] == [
        (2.0, 1, True),
        (0.0, 1, False),
        (-2.0, 0, True),
    ]
    assert tally(table)["entities"] == {"Bright": 2, "No Finding": 2}


def test_what_must_be_clear_can_be_chosen_and_thresholds_too(bounded):
    files = {"middle": [MIDDLE], "white": [WHITE]}
    rows, _ = rows_of(load(bounded, required=["Wide"]), **files)
    assert rows["middle"]["reasons"] == ["inconsistent_evidence"]
    rows, _ = rows_of(load(bounded, thresholds={"Bright": 0.6}), **files)
    assert rows["middle"]["decision"] == "auto" and rows["middle"]["labels"][0]["pred"] == 0
    assert rows["middle"]["labels"][0]["lower"] == rows["middle"]["labels"][0]["upper"] == pytest.approx(0.6)


def test_a_model_without_promises_clears_nothing_and_says_so(unbounded, bounded):
    system = load(unbounded)
    rows, _ = rows_of(system, black=[BLACK])
    assert rows["black"]["reasons"] == ["no_promise"] and rows["black"]["labels"][0]["lower"] is None
    assert system.auto() == {"findings": []} and system.known() == {"findings": list(seen.NAMES)}
    line = "3 of 3 findings have no promise in this model, so a person must see their positives: Bright, Wide, No Finding."
    assert system.limits() == {"no_promise": line}
    assert load(bounded).limits() == {} and load(bounded).auto() == load(bounded).known()


def test_a_finding_without_a_threshold_is_not_answered_and_sends_no_study_to_a_person(partly):
    system = load(partly)
    rows, table = rows_of(system, white=[WHITE])
    row = rows["white"]
    wide = row["labels"][1]
    assert (row["decision"], row["reasons"]) == ("auto", [])
    assert [wide[name] for name in ("threshold", "lower", "upper", "pred", "clear")] == [None] * 5
    assert 0 < wide["prob"] < 1 and wide["logit"] is not None
    assert tally(table)["entities"] == {"Bright": 1} and {each["label"] for each in row["evidence"]} == {"Bright"}
    assert system.auto() == {"findings": ["Bright", "No Finding"]}
    line = "1 of 3 findings have no promise in this model; never answered, as no threshold could be fitted: Wide."
    assert system.limits() == {"no_promise": line}
    assert rows_of(load(partly, required=["Wide"]), white=[WHITE])[0]["white"]["reasons"] == ["no_promise"]
    chosen = rows_of(load(partly, thresholds={"Wide": 0.6}), white=[WHITE])[0]["white"]["labels"][1]
    assert chosen["pred"] == 0 and chosen["clear"] and chosen["threshold"] == pytest.approx(0.6)


def test_evidence_lands_on_the_planted_square_in_pixels_of_the_original(bounded):
    # 128 x 96 pixels are padded to a square and halved; the square at (80, 16) of 16 pixels is one cell of the model.
    rows, _ = rows_of(load(bounded), wide=[BLACK, seen.picture((80, 16, 16, 255), size=(128, 96)), BLACK])
    (region, *others) = [each for each in rows["wide"]["evidence"] if each["label"] == "Bright"]
    assert not others
    assert (region["image"], region["x0"], region["y0"], region["x1"], region["y1"]) == (1, 80, 16, 96, 32)
    # The logit is 4 / 3 of the cell, whose level is 1 but for its smoothed edge, less 2; all other cells have no share.
    assert region["score"] == pytest.approx(4 / 3, rel=0.1) and region["weight"] == pytest.approx(1.0)


def test_weights_are_shares_of_all_cells_and_the_strongest_sixteen_are_shown(bounded):
    files = [
        seen.picture(*((8 * n, 0, 8, 151 + 8 * n) for n in range(8)), *((8 * n, 8, 8, 151) for n in range(8)), (0, 16, 24, 183))
    ]
    rows, _ = rows_of(load(bounded, thresholds={"Wide": 0.0}), many=files)
    wide = [each for each in rows["many"]["evidence"] if each["label"] == "Wide"]
    assert len(wide) == 16 and [each["score"] for each in wide] == sorted((each["score"] for each in wide), reverse=True)
    assert sum(each["weight"] for each in wide) < 1
    # Every cell counts with its level: 64 times the mean is their sum.
    assert wide[0]["score"] == pytest.approx((207 - 127) / 128)


def test_without_evidence_the_column_is_null_and_the_rest_is_the_same(bounded):
    with_it, without = (rows_of(load(bounded, evidence=how), white=[WHITE])[0]["white"] for how in ("gradient_x_input", "none"))
    assert without.pop("evidence") is None and with_it.pop("evidence")
    assert with_it == without


def test_a_system_may_say_more_of_a_study(bounded, monkeypatch):
    def details(self, features, logits):
        return [{"embedding": list(row), "labels": {"Bright": {"intercept": -2.0, "rest": 0.5}}} for row in features]

    monkeypatch.setattr(seen.Seen, "details", details)
    monkeypatch.setattr(seen.Seen, "inconsistent", lambda self, row: row["embedding"][0] > 0.9)
    rows, _ = rows_of(load(bounded), white=[WHITE], black=[BLACK])
    assert rows["white"]["embedding"] == pytest.approx([1, 1 / 64]) and rows["white"]["reasons"] == ["inconsistent_evidence"]
    assert rows["black"]["labels"][0]["rest"] == 0.5 and rows["black"]["labels"][1]["rest"] is None
