"""Every record once, in order, with its text untouched, however the input is written and cut."""

import csv
import json
import tempfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RowError
from engine.sources import InputConfig, cut, list_files, schema_of
from engine.storage import LocalStorage

characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from('",\n\r\t é🎗;|\\ ')
texts = st.lists(st.text(characters, max_size=30).map(lambda t: t + "." if not t.strip() else t), min_size=1, max_size=12)


def with_csv(folder, texts):
    with open(folder / "a.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text", "n"], *([i, text, "x"] for i, text in enumerate(texts))])


def with_quotes_and_unix_line_ends(folder, texts):
    with open(folder / "a.tsv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([["id", "text", "n"], *([i, text, "x"] for i, text in enumerate(texts))])


def with_json(folder, texts):
    lines = (json.dumps({"text": text, "id": i}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts))
    (folder / "a.jsonl").write_bytes("\n".join(lines).encode())


def with_pyarrow_csv(folder, texts):
    pa.csv.write_csv(pa.table({"id": range(len(texts)), "text": texts}), folder / "a.csv")


def with_polars_csv(folder, texts):
    pl.DataFrame({"id": range(len(texts)), "text": texts}).write_csv(folder / "a.csv")


def with_polars_jsonl(folder, texts):
    pl.DataFrame({"id": range(len(texts)), "text": texts}).write_ndjson(folder / "a.ndjson")


def with_parquet(folder, texts):
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / "a.parquet", row_group_size=5)


def with_polars_parquet(folder, texts):
    pl.DataFrame({"id": range(len(texts)), "text": texts}).write_parquet(folder / "a.parquet")


WRITERS = [
    with_csv,
    with_quotes_and_unix_line_ends,
    with_json,
    with_pyarrow_csv,
    with_polars_csv,
    with_polars_jsonl,
    with_parquet,
    with_polars_parquet,
]


@pytest.mark.parametrize("write", WRITERS)
@settings(max_examples=60)
@given(texts=texts, shard_bytes=st.integers(1, 2000))
def test_what_was_written_is_what_is_read(load, write, texts, shard_bytes):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), texts)
        loaded = load(folder, shard_bytes, id="id")
    assert loaded.texts == texts
    assert loaded.ids == [str(i) for i in range(len(texts))]
    assert [position for _, position in loaded.places] == list(range(len(texts)))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@settings(max_examples=150)
@given(
    lines=st.lists(
        st.lists(
            st.sampled_from([b'"', b",", b"\n", b"\r", b'""', b" ", b"a", b"\xff", b"\x00", b"{", b'"text":']), max_size=12
        ).map(b"".join)
    ),
    shard_bytes=st.integers(1, 60),
    max_bytes=st.sampled_from([3, 1000]),
)
def test_garbage_gives_the_same_rows_for_every_shard_size(load, ending, lines, shard_bytes, max_bytes):
    # Among the first hundred records of a CSV file it would be refused.
    start = b"id,text\n" + b"0,first\n" * 100 if ending == "csv" else b'{"id": 0, "text": "first"}\n'
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"a.{ending}").write_bytes(start + b"\n".join(lines))
        one = load(folder, 1 << 20, id="id", max_bytes=max_bytes)
        many = load(folder, shard_bytes, id="id", max_bytes=max_bytes)
    assert [dict(row, row=0) for row in many.rows] == [dict(row, row=0) for row in one.rows]


def test_formats_of_tables_may_be_mixed_and_come_in_path_order(tmp_path, load):
    for folder, write in zip("cba", [with_csv, with_json, with_parquet], strict=True):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, [f"text {folder}{i}" for i in range(7)])
    one, many = load(tmp_path, 1 << 20, id="id", id_scope="file"), load(tmp_path, 20, id="id", id_scope="file")
    assert one.texts == many.texts == [f"text {folder}{i}" for folder in "abc" for i in range(7)]
    assert one.ids == many.ids and one.ids[:1] == ["a/a.parquet:0"] and one.ids[-1:] == ["c/a.csv:6"]
    assert len(set(one.ids)) == 21
    assert (len(one.shards), len(many.shards) > 9) == (1, True)


def test_kept_columns_of_mixed_formats_become_strings(tmp_path, load):
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("text,n\nb,2\n")
    (tmp_path / "c.jsonl").write_text('{"text": "c", "n": 3}')
    assert [row["keep"]["n"] for row in load(tmp_path, keep=["n"]).rows] == ["1", "2", "3"]


def test_cutting_is_lazy(tmp_path):
    for i in range(50):
        (tmp_path / f"{i:02d}.csv").write_text("text\n" + "x" * 100)
    opened = []

    class Counting(LocalStorage):
        def open(self, path, expect=None):
            opened.append(path)
            return super().open(path, expect)

    config = InputConfig(str(tmp_path), None)
    files = list_files(config, Counting())
    assert not opened
    next(cut(config, Counting(), files, 250))
    assert len(opened) <= 4


def test_the_files_after_the_plan_become_shards_of_their_own_under_the_same_names(tmp_path, load):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.csv").write_text("text\na\n")
    before = load(tmp_path).shards
    (tmp_path / "x" / "b.csv").write_text("text\nb\n")
    config, storage = InputConfig(str(tmp_path), None), LocalStorage()
    known = {piece.file for shard in before for piece in shard.slices}
    added = [entry for entry in list_files(config, storage) if entry not in known]
    (shard,) = cut(config, storage, added, 100, str(tmp_path))
    assert [piece.source for piece in shard.slices] == ["x/b.csv"]


def test_no_text_of_a_broken_record_reaches_a_failure(tmp_path, load):
    canary = "CANARY7"
    broken = f"2,{canary},{canary}\n3,{canary}".encode() + f'\xff\n1,"{canary}\n4,"{canary}"{canary}"'.encode("latin-1")
    (tmp_path / "a.csv").write_bytes(b"id,text\n" + b"0,sound\n" * 100 + broken)
    (tmp_path / "b.jsonl").write_bytes(f'{{"id": 1, "text": "{canary}"}}\n{{"id": 1, "text": "{canary}\n{canary}'.encode())
    failures = [failure for failure in load(tmp_path, id="id").failures if failure]
    assert len(failures) == 5
    assert canary not in repr(failures)


def test_real_reports_have_unique_ids_with_file_scope(shared_data, load):
    folder = shared_data / "pathology_tcga"
    loaded = load(folder / "*.parquet", id="report_id", id_scope="file", keep=["split", "icd_code_in_text"])
    assert len(loaded.rows) == 4916 + 818 == len(set(loaded.ids))
    assert not any(loaded.failures)
    names = ("reports_ocr.parquet", "reports_textract_t14.parquet")
    assert loaded.texts == [text for name in names for text in pq.read_table(folder / name)["text"].to_pylist()]
    bare = load(folder, id="report_id")
    assert len(bare.ids) - len(set(bare.ids)) == 254


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", b"id;text\n1;a\n", ["id", "text"]),
        ("a.csv", b"", []),
        ("a.jsonl", b'{"id": 1}\nbroken\n{"text": "a", "id": 2}\n', ["id", "text"]),
        ("a.parquet", b"no table", None),
        ("a.csv", b"\xe9;text\n", None),
    ],
)
def test_the_columns_of_a_file_are_told_without_reading_it(tmp_path, name, content, columns):
    (tmp_path / name).write_bytes(content)
    config = InputConfig(str(tmp_path), None, delimiter=";")
    (file,) = list_files(config, LocalStorage())
    if columns is None:
        with pytest.raises(RowError):
            schema_of(config, LocalStorage(), file)
    else:
        assert schema_of(config, LocalStorage(), file).names == columns


def test_without_a_text_records_have_neither_text_nor_failure(tmp_path, load):
    rows = [{"id": "a", "site": "C50"}, {"id": "b", "site": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("id,site\na,C50\nb,\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        found = load(tmp_path / name, id="id", text=None, keep=("site",)).rows
        assert [(row["record_id"], row["text"], row["failure"]) for row in found] == [("a", None, None), ("b", None, None)]
        assert [row["keep"]["site"] or None for row in found] == ["C50", None]
