"""The studies under conf/study, their rows in docs/results/data, and the pages and pictures made of them."""

from pathlib import Path

import pytest

from engine.studies import render, results
from engine.studies.run import DATA, function_of, record
from engine.studies.study import names, read_study

MOST_BYTES = 200_000
STUDIES = names()


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_can_be_read_and_knows_how_to_fit_and_measure(name: str) -> None:
    study = read_study(name)
    assert len({arm.key for arm in study.arms()}) == len(study.arms()) > 0
    function_of(study, study.fit, "fit")
    for measure in study.measure:
        function_of(study, measure, "measure")


@pytest.mark.parametrize("name", STUDIES)
def test_the_rows_on_record_are_the_study_s_own_and_small(name: str) -> None:
    rows, digests = results.read(record(name))
    study = read_study(name)
    arms = {(arm.corpus, arm.name) for arm in study.arms()}
    assert {(row["corpus"], row["arm"]) for row in rows.to_pylist()} <= arms
    assert set(digests) <= {arm.key for arm in study.arms()}
    assert not record(name).exists() or record(name).stat().st_size <= MOST_BYTES


def test_every_file_of_rows_belongs_to_a_study() -> None:
    assert {file for file in DATA.glob("*.parquet")} <= {record(name) for name in STUDIES}


def test_the_tables_and_pictures_of_every_page_are_those_of_the_rows() -> None:
    for file, text in render.pages().items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: make docs"


def test_a_picture_has_a_line_an_arm(tmp_path: Path) -> None:
    from engine.studies.plot import svg
    from engine.studies.results import Row, table_of
    from engine.studies.study import study_of

    values = {"question": "?", "system": "toy", "corpora": {"one": "one"}, "measure": ["toy"], "arms": {"a": {}, "b": {}}}
    study = study_of("toy/plot", {**values, "plots": {"main": {"metric": "f1", "title": "F1 < 1"}}})
    rows = table_of("toy/plot", "one", "a", 7, [Row("f1", 0.5, 0.4, 0.6), Row("f1", 0.1, slice="type=x")])
    picture = svg(study, "main", rows)
    assert picture.count("<circle") == 1 and "0.500 (0.400 to 0.600)" in picture and "F1 &lt; 1" in picture
