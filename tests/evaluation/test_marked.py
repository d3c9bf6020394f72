"""Marked texts in their formats as gold: ids, groups, parts and choice."""

import json

import polars as pl
import pytest

from engine.errors import ConfigError
from engine.evaluation.gold import GoldConfig, read_marked
from engine.records import text_digest

TEXTS = ["Aspirin helped.", "No pain."]
SPANS = [[{"start": 0, "end": 7, "type": "Drug"}], [{"start": 3, "end": 7, "type": "Sign"}]]


@pytest.fixture
def table(tmp_path):
    columns = {"doc_id": ["1", "2"], "text": TEXTS, "spans": SPANS, "split": ["train", "test"], "patient": [7, 7], "no": [10, 20]}
    pl.DataFrame(columns).write_parquet(tmp_path / "marked.parquet")
    return str(tmp_path / "marked.parquet")


def test_a_parquet_table_gives_ids_digests_and_the_types_of_its_dataset(table):
    gold = read_marked(GoldConfig(table, group="patient", slices=("split", "no", "elsewhere")))
    assert gold.records["record_id"].to_pylist() == ["1", "2"]
    assert gold.records["text_sha256"].to_pylist() == [text_digest(text) for text in TEXTS]
    assert gold.records["group"].to_pylist() == ["7", "7"] and gold.records["slice_no"].to_pylist() == ["10", "20"]
    assert gold.records["slice_split"].to_pylist() == ["train", "test"] and "slice_elsewhere" not in gold.records.column_names
    assert gold.marked == {"marked": {"Drug", "Sign"}} and "text" not in gold.records.column_names


def test_ids_are_those_of_another_column_or_have_something_in_front(table):
    def ids(like=None, **more):
        return read_marked(GoldConfig(table, **more), like).records["record_id"].to_pylist()

    assert ids(id="no") == ["10", "20"]
    assert ids(like="no") == ["10", "20"] and ids(like="elsewhere") == ["1", "2"]
    assert ids(id="no", source="patient") == ["7:10", "7:20"]
    assert ids(id_scope="file") == ["marked.parquet:1", "marked.parquet:2"]
    for key in ("id", "source"):
        with pytest.raises(ConfigError, match=f"^{key}: no table of .* has a column 'name'"):
            ids(**{key: "name"})


def test_a_table_whose_ids_have_no_usual_name(tmp_path):
    path = str(tmp_path / "marked.parquet")
    pl.DataFrame({"report": ["x", "y"], "text": TEXTS, "spans": SPANS, "patient": ["p", "q"]}).write_parquet(path)
    gold = read_marked(GoldConfig(path, group="patient"), "report")
    assert gold.records["record_id"].to_pylist() == ["x", "y"] and gold.records["group"].to_pylist() == ["p", "q"]
    with pytest.raises(ConfigError, match=r"^id: .* has none of the columns record_id, .*; name the one with its ids"):
        read_marked(GoldConfig(path, group="patient"))


def test_csv_and_jsonl_say_what_parquet_says(table, tmp_path):
    frame = pl.read_parquet(table)
    frame.write_ndjson(tmp_path / "marked.jsonl")
    cells = frame.with_columns(spans=pl.Series([json.dumps(each) for each in SPANS]))
    cells.write_csv(tmp_path / "marked.csv", separator=";")
    wanted = read_marked(GoldConfig(table, group="patient", slices=["no"], where={"no": "10"}))
    for name, more in (("marked.jsonl", {}), ("marked.csv", {"delimiter": ";"}), ("*.csv", {"delimiter": ";"})):
        found = read_marked(GoldConfig(str(tmp_path / name), group="patient", slices=["no"], where={"no": "10"}, **more))
        assert found == wanted and len(found.records) == 1
    # In a folder they are no gold, as a list of the files beside them is none.
    assert read_marked(GoldConfig(str(tmp_path))).broken.texts == 2


def test_files_that_number_alike_are_told_apart_and_standoff_beside_them_keeps_its_ids(table, tmp_path):
    pl.read_parquet(table).write_parquet(tmp_path / "second.parquet")
    (tmp_path / "a.txt").write_text("Aspirin")
    (tmp_path / "a.ann").write_text("T1\tDrug 0 7\tAspirin\n")
    with pytest.raises(ConfigError, match="2 ids belong to more than one document"):
        read_marked(GoldConfig(str(tmp_path)))
    gold = read_marked(GoldConfig(str(tmp_path), id_scope="file", group="patient")).records
    told = dict(zip(gold["record_id"].to_pylist(), gold["group"].to_pylist(), strict=True))
    files = [f"{name}.parquet:{number}" for name in ("marked", "second") for number in (1, 2)]
    assert told == {"a": None, **dict.fromkeys(files, "7")}


def test_a_table_with_a_broken_page_is_refused(tmp_path):
    path = tmp_path / "marked.parquet"
    rows = {"doc_id": [str(n) for n in range(400)], "text": [f"Aspirin {n}" for n in range(400)], "spans": [SPANS[0]] * 400}
    pl.DataFrame(rows).write_parquet(path, compression="uncompressed", use_pyarrow=True)
    data = bytearray(path.read_bytes())
    data[4:64] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"^gold: marked\.parquet cannot be read as Parquet; write it again, or leave it out$"):
        read_marked(GoldConfig(str(path)))


def test_some_texts_are_chosen_and_all_say_what_is_marked(table):
    gold = read_marked(GoldConfig(table, where={"split": "test"}))
    assert gold.records["record_id"].to_pylist() == ["2"] and gold.marked == {"marked": {"Drug", "Sign"}}
    assert read_marked(GoldConfig(table, where={"no": "10"})).records["record_id"].to_pylist() == ["1"]
    with pytest.raises(ConfigError, match=r"^where: none of 2 marked texts matches"):
        read_marked(GoldConfig(table, where={"split": "valid"}))
    with pytest.raises(ConfigError, match=r"^where: gold has no column 'ward'"):
        read_marked(GoldConfig(table, where={"ward": "x"}))


def test_standoff_has_its_files_names_as_ids(tmp_path):
    for name, text in zip("ab", TEXTS, strict=True):
        (tmp_path / "brat").mkdir(exist_ok=True)
        (tmp_path / "brat" / f"{name}.txt").write_text(text)
        (tmp_path / "brat" / f"{name}.ann").write_text(
            "T1\tDrug 0 2\t" + text[:2] + "\n" if name == "a" else "T1\tDrug 0 99\tx\n"
        )
    gold = read_marked(GoldConfig(str(tmp_path / "brat"), group="patient"))
    assert gold.records["record_id"].to_pylist() == ["a"] and (gold.broken.count, gold.broken.texts) == (1, 2)
    assert "group" not in gold.records.column_names


def test_what_cannot_be_read_is_told_as_gold(tmp_path):
    with pytest.raises(ConfigError, match=r"^gold: "):
        read_marked(GoldConfig(str(tmp_path / "nowhere.parquet")))
