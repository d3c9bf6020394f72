"""Labelled texts as a corpus: what is read, what is left out, what is refused."""

from dataclasses import replace

import polars as pl
import pytest

from engine.errors import ConfigError
from engine.models.code_columns import CodeData
from engine.models.code_corpus import Survey, load_texts
from engine.models.code_examples import labels_of
from engine.storage import storage_for

LABELS = {"site": "site", "histology": "histology"}
ROWS = {
    "record_id": ["a", "b", "c", "d", "e"],
    "text": ["one", "two", None, "four", "five"],
    "split": ["train", "train", "train", "valid", "test"],
    "patient_id": ["p", "p", "q", "r", "s"],
    "site": ["C18", "C34", "C18", "C34", None],
    "histology": ["8140/3", None, "8140/3", "8070/3", None],
}
FULL = {"text": ["one", "two", "two ", "four", "five"], "site": ["C18", "C34", "C34", "C50", "C34"]}


def write(folder, **changes):
    pl.DataFrame({**ROWS, **changes}).write_parquet(folder / "reports.parquet")
    return CodeData(path=str(folder / "reports.parquet"), labels=LABELS)


def loaded(folder, labels=("site",), **changes):
    data = {"path": write(folder, **{**FULL, **changes}).path, "labels": {task: task for task in labels}}
    return load_texts({"data": data, "model": {"encoder": "tiny:bert", "window": 62}, "seed": 1})


def test_a_corpus_has_the_labels_of_train_and_what_is_held_back(tmp_path):
    corpus = loaded(tmp_path)
    assert corpus.config.labels == {"site": ("C18", "C34")} and corpus.lines() == [] and not corpus.changed()
    assert {split: corpus.part(split)["record_id"].to_pylist() for split in ("valid", "test")} == {"valid": ["d"], "test": ["e"]}
    loaded(tmp_path, text=["one", "two", "three", "four", "five and six"])
    assert corpus.changed()


def test_examples_hold_numbers_and_no_text(tmp_path):
    plan = loaded(tmp_path).preparation()
    (table,) = map(plan.work, plan.pieces)
    assert table.schema == plan.schema and table.column_names == ["record_id", "split", "sample", "ids", "label_site"]
    assert table["label_site"].to_pylist() == [0, 1, 1, -1] and all(table["ids"].to_pylist())


def test_several_codes_of_a_text_are_a_yes_or_no_each(tmp_path):
    path = write(tmp_path, **{**FULL, "site": [["C18"], ["C34", "C18"], [], ["C50"], ["C34"]]}).path
    data = {"path": path, "labels": {"site": "site"}, "multi_label": ["site"]}
    corpus = load_texts({"data": data, "model": {"encoder": "tiny:bert", "window": 62}, "seed": 1})
    plan = corpus.preparation()
    (table,) = map(plan.work, plan.pieces)
    assert corpus.config.task("site").support == (2, 1)
    assert labels_of(table, ["site"])["site"].tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "changes", "told"),
    [
        ((), {}, r"data\.labels: name the column"),
        (["site"], {"site": ["C18", "C18", "C18", "C34", "C34"]}, r"data\.labels\.site: the texts of train have 1 codes"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path, labels, changes, told):
    with pytest.raises(ConfigError, match=told):
        loaded(tmp_path, labels, **changes)


def test_rows_without_text_or_label_are_left_out(tmp_path):
    found = Survey.of(write(tmp_path)).examples()
    assert found["record_id"].to_pylist() == ["a", "b", "d"]
    assert set(found["kind"].to_pylist()) == {"real"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patient_id": ["p", "p", "q", "p", "s"]}, "1 groups are in more than one split"),
        ({"split": ["train", "train", "train", "dev", "test"]}, "train, valid, test"),
    ],
)
def test_splits_that_leak_are_refused(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        Survey.of(write(tmp_path, **changes)).examples()


def test_a_missing_column_is_named(tmp_path):
    config = write(tmp_path)
    with pytest.raises(ConfigError, match="has no column site_code"):
        Survey.of(replace(config, labels={"site": "site_code"})).examples()


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "a.md").write_text("text\n")
    for name, told in (("none.parquet", "there is no file"), ("*.parquet", "nothing matches"), ("", "none that can be read")):
        with pytest.raises(ConfigError, match=rf"^data\.path: .*{told}") as caught:
            Survey.of(CodeData(str(tmp_path / name), labels=LABELS)).examples()
        assert "input." not in str(caught.value)


def test_what_is_no_parquet_is_named(tmp_path):
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ConfigError, match=r"^data\.path: text\.parquet cannot be read"):
        Survey.of(CodeData(str(tmp_path), labels=LABELS)).examples()


def test_files_folders_and_globs_on_s3_are_those_of_a_disk(tmp_path, bucket):
    local = write(tmp_path)
    for name in ("in/reports.parquet", "in/more/reports.parquet", "in/note.md"):
        assert storage_for(bucket).create(f"{bucket}/{name}", (tmp_path / "reports.parquet").read_bytes())
    expected = Survey.of(local).examples()
    assert Survey.of(CodeData(f"{bucket}/in/reports.parquet", labels=LABELS)).examples().equals(expected)
    assert Survey.of(CodeData(f"{bucket}/in/*.parquet", labels=LABELS)).examples().equals(expected)
    for path in (f"{bucket}/in/", f"{bucket}/in/**/*.parquet"):
        assert Survey.of(CodeData(path, labels=LABELS)).examples()["record_id"].to_pylist() == ["a", "b", "d"] * 2


@pytest.mark.parametrize(("split", "row"), [("valid", 3), ("test", 4)])
def test_a_task_that_a_split_has_no_code_of_is_told_before_the_work(tmp_path, split, row):
    columns = {"site": ["C18", "C34", "C18", "C34", "C18"], "histology": ["8140/3"] * 5}
    Survey.of(write(tmp_path, **columns)).require()
    columns["histology"][row] = None
    with pytest.raises(ConfigError, match=rf"^data\.labels: no report of {split} has a code of histology"):
        Survey.of(write(tmp_path, **columns)).require()


def test_a_split_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"^data\.split: needs reports of train, valid and test; there are only train, valid; data\.split=null splits",
    ):
        Survey.of(write(tmp_path)).require()


def test_a_report_without_an_id_is_told_and_a_row_that_is_not_used_may_lack_it(tmp_path):
    assert len(Survey.of(write(tmp_path, record_id=["a", "b", None, "d", "e"])).examples()) == 3
    with pytest.raises(ConfigError, match=r"^data\.id: a report has no id; fill the column, or name another$"):
        Survey.of(write(tmp_path, record_id=["a", None, "c", "d", "e"]))


def test_rows_that_cannot_be_read_are_left_out_and_told(tmp_path):
    lines = [
        "record_id,text,site,split,patient_id",
        "a,one,C18,train,p",
        "b,two,C18,train",
        "c,three,C34,test,q",
        'd,"x"y,C34,test,r',
    ]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    config = CodeData(str(tmp_path / "r.csv"), labels={"site": "site"})
    found = Survey.of(config)
    assert found.lines() == ["left out because they cannot be read: 2 parse_error"]
    assert Survey.of(config).examples()["record_id"].to_pylist() == ["a", "c"]


def test_texts_that_are_blank_or_too_large_are_left_out_and_told(tmp_path):
    lines = [
        "record_id,text,site,split,patient_id",
        "a,one,C18,train,p",
        "b,,C18,train,p",
        "c,   ,C18,train,p",
        "d,,,train,p",
        f"e,{'x' * (4 * 2**20 + 1)},C34,train,p",
        "f,three,C34,test,q",
    ]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    config = CodeData(str(tmp_path / "r.csv"), labels={"site": "site"})
    # A row without a code teaches nothing, whatever its text is.
    assert Survey.of(config).lines() == ["left out because the text is blank or over the size limit: 3"]
    assert Survey.of(config).examples()["record_id"].to_pylist() == ["a", "f"]


def test_a_csv_file_in_another_encoding_names_the_key(tmp_path):
    (tmp_path / "r.csv").write_bytes("record_id,text,b\u00e9,site,split\na,one,x,C18,train\n".encode("cp1252"))
    config = CodeData(str(tmp_path / "r.csv"), labels={"site": "site"})
    with pytest.raises(ConfigError, match=r"^data\.encoding: the first line of r\.csv is not utf-8; set the file's encoding$"):
        Survey.of(config)
    assert Survey.of(replace(config, encoding="cp1252")).counts["real train"] == 1


def test_parquet_files_of_a_folder_are_read_alone(tmp_path):
    expected = Survey.of(write(tmp_path)).examples()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert Survey.of(CodeData(str(tmp_path), labels=LABELS)).examples().equals(expected)


def test_an_input_of_many_pieces_is_one_table(tmp_path, monkeypatch):
    config = write(tmp_path)
    expected = Survey.of(config).examples()
    monkeypatch.setattr("engine.sources.labelled.table._PIECE_BYTES", 64)
    assert len(list(Survey(config).pieces())) > 2
    assert Survey.of(config).examples().equals(expected)
