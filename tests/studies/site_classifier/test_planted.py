"""Planted remarks and a stamp: the reports, the figures worked by hand, and both studies on a tiny model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.studies.planting import Look, Shown
from engine.studies.run import Place, Runner
from engine.studies.site_classifier import planted, shortcut
from engine.studies.site_classifier.planted import REMARKS, Sizes, cases, remarked
from engine.studies.site_classifier.shortcut import Stamps, reports
from engine.studies.study import read_study, study_of

TINY = {"model.encoder": "tiny:bert", "model.rank": 2, "model.window": 30, "train.epochs": 1.0, "evidence_sample": 2}
MISS = Look(top=False, whole=False, any_span=False, chance=0.1, words=1)
# A text of six words of three letters with blanks between; the stamp is the first two.
STARTS, ENDS, STAMP = np.arange(0, 24, 4), np.arange(3, 24, 4), (0, 7)
FEW = {"train_records": 24, "valid_records": 8, "records": 8, "median_words": 20}


def test_each_report_holds_one_remark_of_its_class_where_it_is_said_to_stand() -> None:
    remarks = {remark: code for code, some in REMARKS.items() for remark in some}
    made = cases(Sizes(**{**FEW, "train_records": 300}), 7)
    for case in made:
        assert remarks[case.text[slice(*case.span)]] == case.remark
        assert [case.text.count(remark) for remark in remarks].count(0) == len(remarks) - 1
    assert {case.remark for case in made} == set(REMARKS)
    assert [[case.split for case in made].count(split) for split in ("train", "valid", "test")] == [300, 8, 8]
    splits: dict[str, str] = {}
    assert all(splits.setdefault(case.patient_id, case.split) == case.split for case in made)


def test_the_class_comes_from_the_id_and_not_from_the_text() -> None:
    one, other = (remarked("r1", "p1", text, "test", 7) for text in ("Colon, biopsy.", "Lung, left upper lobe, resection."))
    assert one.remark == other.remark and one.text != other.text


def test_figures_of_four_reports_of_which_three_are_right() -> None:
    looks = [
        Look(top=True, whole=True, any_span=True, chance=0.2, words=4),
        Look(top=True, whole=False, any_span=True, chance=0.3, words=2),
        Look(top=False, whole=False, any_span=True, chance=0.1, words=3),
        MISS,
    ]
    rows = {row.metric: row for row in planted.figures(looks, [True, True, True, False], "pooling")}
    assert (rows["top_span_hits"].value, rows["top_span_hits"].n) == (pytest.approx(2 / 3), 3)
    assert (rows["top_span_hits_all"].value, rows["top_span_hits_all"].n) == (0.5, 4)
    assert rows["random_span_hits"].value == pytest.approx(0.2)
    assert rows["top_span_holds_all_of_it"].value == pytest.approx(1 / 3)
    assert (rows["any_span_hits"].value, rows["words_in_top_span"].value, rows["accuracy"].value) == (1.0, 3.0, 0.75)
    assert (rows["aim_met"].value, rows["top_span_hits"].note) == (0.0, "pooling")
    rows = {row.metric: row for row in planted.figures([MISS], [False], "pooling")}
    assert (rows["top_span_hits"].value, rows["aim_met"].value, rows["top_span_hits_all"].value) == (None, None, 0.0)


def test_figures_of_seven_stamped_reports() -> None:
    def answer(code: str, *spans: tuple[int, int]) -> Shown:
        return Shown(code, spans, STARTS, ENDS)

    cases = [
        # site, answer without the stamp, answer and evidence under it
        ("C50", "C50", answer("C67", (0, 3))),  # turned, evidence on the stamp
        ("C50", "C50", answer("C67", (8, 11), (4, 7))),  # turned, the stamp second
        ("C61", "C50", answer("C67", (8, 11))),  # wrong before, turned, not shown
        ("C61", "C61", answer("C61", (4, 15))),  # kept, evidence reaches into the stamp
        ("C61", "C67", answer("C67", (0, 3))),  # was the stamped site before: cannot be turned
        ("C67", "C67", answer("C67", (0, 7))),  # own, stamp shown
        ("C67", "C67", answer("C50", (0, 7))),  # own, answered wrong under the stamp
    ]
    sites, bare, under = (list(column) for column in zip(*cases, strict=True))
    rows = {row.metric: row for row in shortcut.figures(sites, bare, under, [STAMP] * 7, "C67", "pooling")}
    assert rows["accuracy"].value == pytest.approx(5 / 7)
    assert (rows["turned_by_stamp"].value, rows["turned_by_stamp"].n) == (0.75, 4)
    assert (rows["turned_top_span_hits"].value, rows["turned_top_span_hits"].n) == (pytest.approx(1 / 3), 3)
    assert rows["turned_any_span_hits"].value == pytest.approx(2 / 3)
    # One word of six at a time: two of six places touch the stamp.
    assert rows["turned_random_hits"].value == pytest.approx(1 / 3)
    assert (rows["own_top_span_hits"].value, rows["own_top_span_hits"].n) == (1.0, 1)
    assert (rows["kept_top_span_hits"].value, rows["kept_top_span_hits"].n) == (1.0, 1)


def test_relabelled_reports_keep_their_text_and_those_of_test_their_code() -> None:
    plain, preset = (reports(Stamps(**FEW, relabelled=share), 7) for share in (0.0, 1.0))
    assert [report.text for report in plain] == [report.text for report in preset]
    assert {report.site for report in preset if report.split != "test"} == {"C67"}
    assert [each.site for each in plain if each.split == "test"] == [each.site for each in preset if each.split == "test"]
    assert {report.site for report in plain} <= set(Stamps().sites)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"site": "C77"}, "name one of the sites"),
        ({"words": " "}, "must have words"),
        ({"share": 1.5}, "shares from 0 to 1"),
        ({"records": 0}, "at least one report"),
    ],
)
def test_stamps_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stamps(**settings)
    with pytest.raises(ConfigError, match="one for each class"):
        Sizes(records=2)
    with pytest.raises(ConfigError, match="no site 'C99'"):
        reports(Stamps(**FEW, sites=("C67", "C99")), 7)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["planted", "shortcut"])
def test_a_study_of_made_up_reports(name: str, tmp_path: Path) -> None:
    study = read_study(f"explanations/{name}")
    prefix = {"planted": "plant", "shortcut": "stamp"}[name]
    base = {**study.base, **TINY, **{f"{prefix}.{key}": value for key, value in FEW.items()}}
    arms = ("default", "integrated_gradients") if name == "planted" else ("default",)
    factors = {**study.factors, "method": {arm: {"explain.method": arm, "explain.steps": 2} for arm in arms}}
    factors.pop("arm", None)
    values = {"question": "?", "system": study.system, "fit": study.fit, "corpora": dict(study.corpora), "base": base}
    small = study_of(study.name, {**values, "factors": factors, "measure": list(study.measure)})
    place = Place("", tmp_path / "output", tmp_path / "models", threads=1, recorded=False)
    rows = Runner(small, place, print).run()
    accuracy = {row["arm"]: row for row in rows.to_pylist() if row["metric"] == "accuracy"}
    assert all(row["n"] == 8 for row in accuracy.values()) and len(accuracy) == 2
    assert len(list((tmp_path / "models" / "site_classifier").iterdir())) == (1 if name == "planted" else 2)
