"""The table of a shard's records."""

import pyarrow as pa
import pytest

from engine.records import IMAGES, check, records_schema
from engine.sources import InputConfig
from engine.sources.rows import Rows


def rows_of(given=None, text="fine", id="id", **settings):
    rows = Rows(InputConfig("x", id, **settings), [])
    rows.add("f.csv", 3, given, text)
    return check(rows.table(), records_schema()).to_pylist()[0]


@pytest.mark.parametrize(
    ("given", "record_id", "failure"),
    [
        ("A 1", "A 1", None),
        (12, "12", None),
        ("é".encode(), "é", None),
        (None, "f.csv:3", {"kind": "parse_error", "detail": "missing_id"}),
        ("  ", "f.csv:3", {"kind": "parse_error", "detail": "missing_id"}),
        (True, "f.csv:3", {"kind": "parse_error", "detail": "id is bool"}),
        (1.0, "1", None),
        (2.0**53 - 1, "9007199254740991", None),
        (float("nan"), "f.csv:3", {"kind": "parse_error", "detail": "missing_id"}),
        (2.0**53, "f.csv:3", {"kind": "parse_error", "detail": "id is float"}),
        (float("inf"), "f.csv:3", {"kind": "parse_error", "detail": "id is float"}),
        (1.5, "f.csv:3", {"kind": "parse_error", "detail": "id is float"}),
        ("\ud800", "f.csv:3", {"kind": "invalid_encoding", "detail": "input.id"}),
        (b"\xff", "f.csv:3", {"kind": "invalid_encoding", "detail": "input.id"}),
    ],
)
def test_an_id_is_taken_as_it_is_or_made(given, record_id, failure):
    row = rows_of(given)
    assert (row["record_id"], row["failure"]) == (record_id, failure)


def test_scope_file_puts_the_source_before_given_ids_only():
    assert rows_of("7", id_scope="file")["record_id"] == "f.csv:7"
    assert rows_of(None, id=None, id_scope="file")["record_id"] == "f.csv:3"


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        (None, "missing_text", ""),
        (float("nan"), "missing_text", ""),
        ("", "missing_text", ""),
        (" \t\r\n\u3000", "missing_text", ""),
        (b" ", "missing_text", ""),
        ("a\udcffb", "invalid_encoding", ""),
        (b"a\xff", "invalid_encoding", ""),
        ("ü" * 6, "too_large", "bytes=12"),
        (b"x" * 11, "too_large", "bytes=11"),
        (5, "parse_error", "text is int"),
        (1.5, "parse_error", "text is float"),
    ],
)
def test_a_text_that_cannot_be_read_fails_and_keeps_its_id(text, kind, detail):
    row = rows_of("7", text, max_bytes=10)
    assert row["failure"] == {"kind": kind, "detail": detail}
    assert (row["record_id"], row["text"]) == ("7", None)


def test_a_kept_value_that_is_not_text_fails_its_record_alone():
    rows = Rows(InputConfig("x", None, keep=("ward",)), [pa.field("ward", pa.string())])
    rows.add("f", 0, None, "one", ["a"])
    rows.add("f", 1, None, "two", ["\udcff"])
    rows.add("f", 2, None, "three", [None])
    table = rows.table().to_pylist()
    assert [r["keep"]["ward"] for r in table] == ["a", None, None]
    assert [r["failure"] and r["failure"]["kind"] for r in table] == [None, "invalid_encoding", None]


def image(**changed):
    return {"source": "a.png", "path": "/in/a.png", "size": 5, "version": "1", "data": None, **changed}


@pytest.mark.parametrize(
    ("payload", "failure"),
    [
        ([image(), image(path=None, data=b"12345")], None),
        (None, ("missing_image", "")),
        ([], ("missing_image", "")),
        ([image(), None], ("missing_image", "images=1 of 2")),
        ([image(path=None, data=b"")], ("missing_image", "images=1 of 1")),
        ([image(), image(size=11)], ("too_large", "bytes=11")),
    ],
)
def test_a_study_without_all_of_its_images_fails(payload, failure):
    rows = Rows(InputConfig("x", "id", reads=IMAGES, max_bytes=10), [pa.field("view", pa.string())])
    rows.add("a.parquet", 0, "A 1", payload, ["PA"])
    (row,) = check(rows.table(), records_schema([pa.field("view", pa.string())], IMAGES)).to_pylist()
    assert row["images"] == (payload if failure is None else None)
    assert row["failure"] == (failure and dict(zip(("kind", "detail"), failure, strict=True)))
    assert (row["record_id"], row["keep"]) == ("A 1", {"view": "PA"})
