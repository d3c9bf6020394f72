"""Columns that a table of reports may lack, and what is told of those that it must have."""

import polars as pl
import pytest

from engine.errors import ConfigError
from engine.models.code_columns import CodeData
from engine.models.code_corpus import Survey
from engine.sources.labelled.splits import cut

ONE = {"site": "site"}


def table(folder, name="reports.parquet", **columns):
    """Sixty reports with some columns more, or those that are None less."""
    made = {"record_id": [f"r{n}" for n in range(60)], "text": [f"text {n}" for n in range(60)], "site": ["C18", "C34"] * 30}
    kept = {key: value for key, value in (made | columns).items() if value is not None}
    pl.DataFrame(kept).write_parquet(folder / name)
    return CodeData(path=str(folder / name), labels=ONE)


def by_id(config, column):
    found = Survey.of(config).examples()
    return dict(zip(found["record_id"].to_pylist(), found[column].to_pylist(), strict=True))


def test_without_a_split_the_patients_are_cut_as_the_annotated_texts_are(tmp_path):
    patients = [f"p{n // 2}" if n < 50 else None for n in range(60)]
    found = by_id(table(tmp_path, patient_id=patients), "split")
    # A report of nobody is a patient by itself.
    assert found == {f"r{n}": cut(patient or f"r{n}") for n, patient in enumerate(patients)}


def test_a_report_without_a_patient_is_one_by_itself_beside_a_split_too(tmp_path):
    patients = [None if n % 10 == 0 else f"p{n}" for n in range(60)]
    config = table(tmp_path, patient_id=patients, split=["train", "valid", "test"] * 20)
    assert by_id(config, "group") == {f"r{n}": patient or f"r{n}" for n, patient in enumerate(patients)}
    assert Survey.of(config).counts["real train"] == 20


def test_without_patients_the_reports_are_cut_and_it_is_said(tmp_path):
    config = table(tmp_path)
    found = Survey.of(config)
    assert by_id(config, "split") == {f"r{n}": cut(f"r{n}") for n in range(60)}
    assert by_id(config, "group") == {f"r{n}": f"r{n}" for n in range(60)}
    first, second = found.lines()
    assert first.startswith("no column patient_id: every report counts as its own patient")
    counts = [found.counts[f"real {split}"] for split in ("train", "valid", "test")]
    assert second == (
        "no column split: a hash of record_id decides train, valid and test (data.cut_share=0.1): "
        f"{counts[0]} train, {counts[1]} valid, {counts[2]} test"
    )
    larger = Survey.of(CodeData(path=config.path, labels=ONE, cut_share=0.4)).counts
    assert larger["real test"] > counts[2] and larger["real valid"] > counts[1]


def test_null_cuts_anew_what_has_a_split(tmp_path):
    config = table(tmp_path, split=["train"] * 60, patient_id=["p"] * 60)
    assert set(by_id(config, "split").values()) == {"train"}
    anew = CodeData(path=config.path, labels=ONE, split=None, group=None)
    assert by_id(anew, "split") == {f"r{n}": cut(f"r{n}") for n in range(60)}
    assert [line.partition(":")[0] for line in Survey.of(anew).lines()] == ["data.group=null", "data.split=null"]
    # A patient is in one split, whatever the column of splits said.
    assert len(set(by_id(CodeData(path=config.path, labels=ONE, split=None), "split").values())) == 1


def test_too_few_to_cut_are_refused(tmp_path):
    config = table(tmp_path, patient_id=["p"] * 60)
    with pytest.raises(ConfigError, match=r"^data\.path: 60 reports are too few for valid and test"):
        Survey.of(config).require()


@pytest.mark.parametrize(
    ("columns", "more", "told"),
    [
        ({"record_id": None, "number": list(range(60))}, {}, r"^data\.id=record_id: reports\.parquet has no column record_id"),
        ({"text": None, "report": ["x"] * 60}, {}, r"^data\.text=text: .*; it has record_id, site, report$"),
        ({"site": None}, {}, r"^data\.labels\.site=site: .* or leave the task out of data\.labels; it has"),
        ({}, {"split": "part"}, r"^data\.split=part: "),
        ({}, {"group": "case"}, r"^data\.group=case: "),
        (
            {"record_id": None, "text": None, "note": ["x"] * 60},
            {},
            r"^data\.id=record_id, data\.text=text: .* name others",
        ),
    ],
)
def test_a_missing_column_is_told_with_its_key(tmp_path, columns, more, told):
    config = table(tmp_path, **columns)
    with pytest.raises(ConfigError, match=told):
        Survey.of(CodeData(path=config.path, labels=ONE, **more))


def test_files_that_differ_in_what_they_lack_are_refused(tmp_path):
    table(tmp_path, "a.parquet", patient_id=list(range(60)))
    table(tmp_path, "b.parquet")
    with pytest.raises(ConfigError, match=r"^data\.group: some files have a column patient_id and some have none"):
        Survey.of(CodeData(path=str(tmp_path), labels=ONE))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("b.parquet", r"^data\.path: b\.parquet cannot be read as Parquet; write it again, or leave it out$"),
        ("b.csv.gz", r"^data\.path: b\.csv\.gz cannot be read as CSV; "),
        ("b.export", r"^data\.path: b\.export is no Parquet file; names of other tables end in one of \.csv \.tsv "),
        ("b.txt", r"^data\.path: b\.txt is no Parquet file; "),
    ],
)
def test_a_broken_file_is_told_by_its_name(tmp_path, name, told):
    (tmp_path / name).write_text("record_id,text\n1,x\n")
    with pytest.raises(ConfigError, match=told):
        Survey.of(CodeData(path=str(tmp_path / name), labels=ONE))


def test_texts_are_no_labelled_reports(tmp_path):
    (tmp_path / "b.txt").write_text("a report")
    with pytest.raises(ConfigError, match=r"^data\.path: .* holds texts; labelled reports are tables"):
        Survey.of(CodeData(path=str(tmp_path), labels=ONE))
