from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.models.code_calibrating import gold
from engine.models.code_task import Task
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import load_examples, pieces, survey
from engine.models.site_classifier.examples import flags
from engine.storage import storage_for

ROWS = {
    "record_id": ["a", "b", "c", "d", "e"],
    "text": ["one", "two", None, "four", "five"],
    "split": ["train", "train", "train", "valid", "test"],
    "patient_id": ["p", "p", "q", "r", "s"],
    "site": ["C18", "C34", "C18", "C34", None],
    "histology": ["8140/3", None, "8140/3", "8070/3", None],
}


def write(folder, **changes):
    pl.DataFrame({**ROWS, **changes}).write_parquet(folder / "reports.parquet")
    return DataConfig(path=str(folder / "reports.parquet"))


def test_rows_without_text_or_label_are_left_out(tmp_path):
    found = load_examples(write(tmp_path))
    assert found["record_id"].to_pylist() == ["a", "b", "d"]
    assert set(found["kind"].to_pylist()) == {"real"}
    assert found["leak"].to_pylist() == [False] * 3


def test_label_sets_come_from_train_and_count_real_reports(tmp_path):
    found = survey(write(tmp_path))
    assert found.pairs == {("C18", "8140/3")} and found.counts == {"real train": 2, "real valid": 1}
    assert found.labels == {"site": (("C18", "C34"), (1, 1)), "histology": (("8140/3",), (1,))}


def test_synthetic_reports_stand_in_train_only_and_give_no_support(tmp_path):
    config = write(tmp_path)
    config = DataConfig(path=config.path, synthetic=50)
    found = load_examples(config)
    made = [row for row in found.to_pylist() if row["kind"] == "synthetic"]
    assert len(made) == 50
    assert {row["split"] for row in made} == {"train"}
    labels, support = survey(config).labels["site"]
    assert len(labels) > 2
    assert sum(support) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patient_id": ["p", "p", "q", "p", "s"]}, "1 groups stand in more than one split"),
        ({"split": ["train", "train", "train", "dev", "test"]}, "train, valid, test"),
    ],
)
def test_splits_that_leak_are_refused(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        load_examples(write(tmp_path, **changes))


def test_a_missing_column_is_named(tmp_path):
    config = write(tmp_path)
    with pytest.raises(ConfigError, match="has no column site_code"):
        load_examples(DataConfig(path=config.path, labels={"site": "site_code"}))


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "a.md").write_text("text\n")
    for name, told in (("none.parquet", "there is no file"), ("*.parquet", "nothing matches"), ("", "none that can be read")):
        with pytest.raises(ConfigError, match=rf"^data\.path: .*{told}") as caught:
            load_examples(DataConfig(path=str(tmp_path / name)))
        assert "input." not in str(caught.value)


def test_what_is_no_parquet_is_named(tmp_path):
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ConfigError, match=r"^data\.path: text\.parquet cannot be read"):
        load_examples(DataConfig(path=str(tmp_path)))


def test_files_folders_and_globs_on_s3_are_those_of_a_disk(tmp_path, bucket):
    local = write(tmp_path)
    for name in ("in/reports.parquet", "in/more/reports.parquet", "in/note.md"):
        assert storage_for(bucket).create(f"{bucket}/{name}", (tmp_path / "reports.parquet").read_bytes())
    expected = load_examples(local)
    assert load_examples(DataConfig(path=f"{bucket}/in/reports.parquet")).equals(expected)
    assert load_examples(DataConfig(path=f"{bucket}/in/*.parquet")).equals(expected)
    for path in (f"{bucket}/in/", f"{bucket}/in/**/*.parquet"):
        assert load_examples(DataConfig(path=path))["record_id"].to_pylist() == ["a", "b", "d"] * 2


def test_lists_of_codes_and_a_second_text(tmp_path):
    config = write(tmp_path, site=[["C18", "C34"], ["C34"], [], ["C50"], None], question=["a", "b", "c", "d", None])
    config = DataConfig(path=config.path, multi_label=["site"], pair="question")
    found = load_examples(config)
    assert found["site"].to_pylist() == [["C18", "C34"], ["C34"], ["C50"]]
    assert found["pair"].to_pylist() == ["a", "b", "d"]
    assert survey(config).labels["site"] == (("C18", "C34"), (1, 2))


def test_tasks_that_are_named_take_the_place_of_the_usual_ones(tmp_path):
    pl.DataFrame(
        {"record_id": ["a"], "text": ["Colon."], "code": ["C18"], "split": ["train"], "patient_id": ["p"]}
    ).write_parquet(tmp_path / "one.parquet")
    assert survey(DataConfig(str(tmp_path / "one.parquet"), labels={"site": "code"})).labels == {"site": (("C18",), (1,))}
    with pytest.raises(ConfigError, match="no column site, histology"):
        load_examples(DataConfig(str(tmp_path / "one.parquet")))


def test_synthetic_reports_do_not_go_with_pairs(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.synthetic"):
        load_examples(DataConfig(path=write(tmp_path).path, pair="record_id", synthetic=5))


def test_one_code_where_lists_are_promised_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="lists of it"):
        load_examples(DataConfig(path=write(tmp_path).path, multi_label=["site"]))


def test_highlights_give_train_samples_that_count_for_nothing_else(tmp_path):
    marks = [[{"start": 0, "end": 2}], None, None, [{"start": 0, "end": 4}], None]
    config = replace(write(tmp_path, marks=marks), rationales="marks", samples=("rationale", "complement"))
    found = load_examples(config)
    assert [(r["record_id"], r["kind"], r["text"], r["site"]) for r in found.to_pylist() if r["kind"] != "real"] == [
        ("a#rationale0", "rationale", "on", "C18"),
        ("a#complement0", "complement", "e", "C18"),
    ]
    assert survey(config).labels == survey(replace(config, rationales=None)).labels
    pl.DataFrame({"record_id": ["a", "b"], "start": [0, 1], "end": [2, 9]}).write_parquet(tmp_path / "side")
    side = replace(config, rationales=None, rationale_table=str(tmp_path / "side"))
    assert [row["reason"] for row in survey(side).rejected.to_pylist()] == ["outside_report"]
    with pytest.raises(ConfigError, match="name one of them"):
        load_examples(replace(side, rationales="marks"))


def test_gold_as_numbers():
    one = Task("site", ("C18", "C34"), (1, 1))
    many = Task("site", ("C18", "C34"), (1, 1), multi_label=True)
    assert gold(["C34", None, "C99"], one).tolist() == [1, -1, -1]
    assert gold([["C34", "C99"], None, []], many).tolist() == [[0, 1], [-1, -1], [0, 0]]


def test_marked_tokens_are_those_of_words_that_a_highlight_in_the_text_touches():
    tokens = SimpleNamespace(word_start=np.array([0, 4, 9]), word_end=np.array([3, 8, 12]), word_of_token=np.array([0, 1, 1, 2]))
    marks = [{"start": 5, "end": 6}, {"start": -1, "end": 2}, {"start": 9, "end": 13}]
    assert flags(tokens, marks, 12).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("split", "row"), [("valid", 3), ("test", 4)])
def test_a_task_that_a_split_has_no_code_of_is_told_before_the_work(tmp_path, split, row):
    columns = {"site": ["C18", "C34", "C18", "C34", "C18"], "histology": ["8140/3"] * 5}
    survey(write(tmp_path, **columns)).require()
    columns["histology"][row] = None
    with pytest.raises(ConfigError, match=rf"^data\.labels: no report of {split} has a code of histology"):
        survey(write(tmp_path, **columns)).require()


def test_a_split_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"^data\.split: needs reports of train, valid and test; there are only train, valid; data\.split=null cuts",
    ):
        survey(write(tmp_path)).require()


def test_a_report_without_an_id_is_told_and_a_row_that_is_not_used_may_lack_it(tmp_path):
    assert len(load_examples(write(tmp_path, record_id=["a", "b", None, "d", "e"]))) == 3
    with pytest.raises(ConfigError, match=r"^data\.id: a report has none; fill the column, or name another$"):
        survey(write(tmp_path, record_id=["a", None, "c", "d", "e"]))


def damage(path, column):
    """Overwrites half of a column's pages, which no footer tells."""
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(column)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
    middle, end = start + chunk.total_compressed_size // 2, start + chunk.total_compressed_size
    data[middle:end] = b"\xff" * (end - middle)
    path.write_bytes(data)


def test_a_damaged_page_is_told_by_the_files_name(tmp_path):
    rng = np.random.default_rng(1)
    words = [" ".join(rng.choice(["left", "lung", "tumor"], 90)) for _ in range(5)]
    path = tmp_path / "reports.parquet"
    pq.write_table(pa.table({**ROWS, "text": words}), path, compression="zstd")
    damage(path, 1)
    with pytest.raises(ConfigError, match=r"^data\.path: reports\.parquet cannot be read as Parquet; write it again"):
        load_examples(DataConfig(path=str(path)))
    side = tmp_path / "side.parquet"
    marks = {"record_id": [word[:99] for word in words], "start": range(5), "end": range(1, 6)}
    pq.write_table(pa.table({name: list(values) for name, values in marks.items()}), side, compression="zstd")
    damage(side, 0)
    config = replace(write(tmp_path), rationale_table=str(side))
    with pytest.raises(ConfigError, match=r"^data\.rationale_table: .*side\.parquet cannot be read as Parquet; write it again$"):
        load_examples(config)


def test_csv_and_jsonl_give_what_parquet_gives(tmp_path):
    columns = {"site": [["C18", "C34"], ["C34"], ["C18"], [], None], "leak": [True, False, None, False, True]}
    columns["marks"] = [[{"start": 0, "end": 2}], None, None, [], None]
    more = {"multi_label": ["site"], "rationales": "marks", "leak": "leak", "synthetic": 0}
    first = replace(write(tmp_path, **columns), **more)
    frame = pl.read_parquet(first.path)
    frame.write_ndjson(tmp_path / "reports.jsonl")
    cells = frame.with_columns(
        site=pl.Series(["C18; C34", "C34", "C18", "[]", None]),
        marks=pl.Series(['[{"start": 0, "end": 2}]', None, None, "[]", None]),
    )
    cells.write_csv(tmp_path / "reports.csv", separator=";")
    expected = load_examples(first)
    assert expected["site"].to_pylist()[:3] == [["C18", "C34"], ["C34"], []] and expected["leak"].to_pylist()[:2] == [True, False]
    for name, dialect in (("reports.jsonl", {}), ("reports.csv", {"delimiter": ";"})):
        config = replace(first, path=str(tmp_path / name), **dialect)
        found = load_examples(config)
        assert found.drop_columns("source").equals(expected.drop_columns("source"))
        assert set(found["source"].to_pylist()) == {name}
        assert survey(config).labels == survey(first).labels


def test_rows_that_cannot_be_read_are_left_out_and_told(tmp_path):
    lines = [
        "record_id,text,site,split,patient_id",
        "a,one,C18,train,p",
        "b,two,C18,train",
        "c,three,C34,test,q",
        'd,"x"y,C34,test,r',
    ]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    config = DataConfig(str(tmp_path / "r.csv"), labels={"site": "site"})
    found = survey(config)
    assert found.told() == ["left out, since they cannot be read: 2 parse_error"]
    assert load_examples(config)["record_id"].to_pylist() == ["a", "c"]


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
    config = DataConfig(str(tmp_path / "r.csv"), labels={"site": "site"})
    # A row without a code teaches nothing, whatever its text is.
    assert survey(config).told() == ["left out, since the text is blank or over the size limit: 3"]
    assert load_examples(config)["record_id"].to_pylist() == ["a", "f"]


def test_a_csv_file_in_another_encoding_names_the_key(tmp_path):
    (tmp_path / "r.csv").write_bytes("record_id,text,b\u00e9,site,split\na,one,x,C18,train\n".encode("cp1252"))
    config = DataConfig(str(tmp_path / "r.csv"), labels={"site": "site"})
    with pytest.raises(ConfigError, match=r"^data\.encoding: the first line of r\.csv is not utf-8; set the file's encoding$"):
        survey(config)
    assert survey(replace(config, encoding="cp1252")).counts["real train"] == 1


def test_parquet_files_of_a_folder_are_read_alone(tmp_path):
    expected = load_examples(write(tmp_path))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert load_examples(DataConfig(str(tmp_path))).equals(expected)


def test_an_input_of_many_pieces_is_one_table(tmp_path, monkeypatch):
    config = write(tmp_path)
    expected = load_examples(config)
    monkeypatch.setattr("engine.sources.labelled.table._PIECE_BYTES", 64)
    assert len(list(pieces(config))) > 2
    assert load_examples(config).equals(expected)
