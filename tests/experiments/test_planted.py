"""Planted remarks: the reports, the figures worked by hand, and the whole experiment on a tiny model."""

import pytest

from engine.errors import ConfigError
from engine.experiments.planted import REMARKS, Planted, PlantedConfig, cases, remarked, results
from engine.experiments.planting import Look
from engine.experiments.run import run

TINY = {"encoder": "tiny:bert", "rank": 2, "window": 30, "epochs": 1.0, "threads": 1, "evidence_sample": 2}
MISS = Look(top=False, whole=False, some=False, chance=0.1, words=1)


def tiny(**changes):
    sizes = {"train_records": 24, "valid_records": 8, "records": 8, "median_words": 20}
    return PlantedConfig(**{**TINY, **sizes, "methods": ("default", "integrated_gradients"), **changes})


def test_each_report_holds_one_remark_of_its_class_where_it_is_said_to_stand():
    remarks = {remark: code for code, some in REMARKS.items() for remark in some}
    made = cases(tiny(train_records=300))
    for case in made:
        assert remarks[case.text[slice(*case.span)]] == case.code
        assert [case.text.count(remark) for remark in remarks].count(0) == len(remarks) - 1
    assert {case.code for case in made} == set(REMARKS)
    assert [[case.split for case in made].count(split) for split in ("train", "valid", "test")] == [300, 8, 8]


def test_no_patient_stands_in_two_splits():
    splits = {}
    for case in cases(tiny(train_records=30, valid_records=30, records=30)):
        assert splits.setdefault(case.patient_id, case.split) == case.split


def test_the_class_comes_from_the_id_and_not_from_the_text():
    one, other = (remarked("r1", "p1", text, "test", 7) for text in ("Colon, biopsy.", "Lung, left upper lobe, resection."))
    assert one.code == other.code and one.text != other.text
    assert {remarked(f"r{number}", "p", "Colon.", "test", 7).code for number in range(60)} == set(REMARKS)


def test_figures_of_four_reports_of_which_three_are_right():
    looks = [
        Look(top=True, whole=True, some=True, chance=0.2, words=4),
        Look(top=True, whole=False, some=True, chance=0.3, words=2),
        Look(top=False, whole=False, some=True, chance=0.1, words=3),
        MISS,
    ]
    found = {each.metric: each for each in results(looks, [True, True, True, False], "pooling")}
    assert (found["top_span_hits"].value, found["top_span_hits"].n) == (pytest.approx(2 / 3), 3)
    assert (found["top_span_hits_all"].value, found["top_span_hits_all"].n) == (0.5, 4)
    assert found["random_span_hits"].value == pytest.approx(0.2)
    assert found["top_span_holds_all_of_it"].value == pytest.approx(1 / 3)
    assert found["any_span_hits"].value == 1.0
    assert found["words_in_top_span"].value == 3.0
    assert found["accuracy"].value == 0.75
    assert found["aim_met"].value == 0.0
    assert found["top_span_hits"].note == "pooling"


def test_the_aim_is_met_from_95_of_100():
    hit = Look(top=True, whole=True, some=True, chance=0.1, words=1)
    for hits, met in ((95, 1.0), (94, 0.0)):
        found = results([hit] * hits + [MISS] * (100 - hits), [True] * 100, "pooling")
        assert next(each.value for each in found if each.metric == "aim_met") == met


def test_no_right_answer_leaves_the_figures_of_right_ones_empty():
    found = {each.metric: each.value for each in results([MISS], [False], "pooling")}
    assert found["top_span_hits"] is None and found["aim_met"] is None and found["top_span_hits_all"] == 0.0


@pytest.mark.parametrize(("changes", "told"), [({"records": 2}, "sizes"), ({"methods": ["lucky"]}, "'lucky' is none of default")])
def test_wrong_settings_are_refused_before_any_work(changes, told):
    with pytest.raises(ConfigError, match=told):
        tiny(**changes)


@pytest.mark.timeout(300)
def test_the_whole_experiment_without_ray_and_a_second_start(tmp_path, trained_here):
    table = run(Planted(tiny()), tmp_path / "out", "command", print)
    assert table["arm"].unique().to_pylist() == ["default", "integrated_gradients"]
    value = {(row["arm"], row["metric"]): row for row in table.to_pylist()}
    assert value["default", "accuracy"]["value"] == value["integrated_gradients", "accuracy"]["value"]
    assert value["default", "accuracy"]["n"] == 8
    assert all(0 <= value[arm, "top_span_hits_all"]["value"] <= 1 for arm in ("default", "integrated_gradients"))
    assert value["default", "top_span_hits"]["note"] not in ("", "default")
    (tmp_path / "out" / "arms" / "default.parquet").unlink()
    again = run(Planted(tiny()), tmp_path / "out", "command", print)
    assert again.equals(table)
    assert len(trained_here) == 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_job_trains_through_ray_and_finds_the_remark(tmp_path):
    from jobs.experiment import main

    words = ["experiment=explain/planted", f"output.path={tmp_path / 'out'}", "sizes.train_records=240", "sizes.records=24"]
    assert main.run([*words, "sizes.epochs=6"]) == 0
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| default |" in text and "| random |" in text
