"""JSONL, one broken line at a time."""

import json

import pytest

from engine.errors import ConfigError

SIZES = pytest.mark.parametrize("shard_bytes", [1, 60, 1 << 20])


@SIZES
def test_a_broken_line_costs_itself_only(tmp_path, load, shard_bytes):
    lines = [
        b'{"id": 1, "text": "fine\\u00fc\\n"}',
        b'{"id": 2, "text": "broken',
        b"",
        b'{"id": "3", "text": "\\ud800"}',
        b'{"id": "4", "text": 5}',
        b'{"id": "5"}',
        b'{"text": "no id"}',
        b"[1, 2]",
        b'{"id": "8", "text": "bad \xff byte"}',
        b'{"id": "9", "text": "tab\there"}\r',
        b'{"id": ' + b"9" * 10_000 + b', "text": "digits"}',
        b"[" * 100_000,
        b'{"id": "12", "text": "last"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    loaded = load(tmp_path / "a.jsonl", shard_bytes, id="id")
    assert loaded.failures == [
        None,
        ("parse_error", "JSONDecodeError"),
        ("invalid_encoding", ""),
        ("parse_error", "text is int"),
        ("missing_text", ""),
        ("parse_error", "missing_id"),
        ("parse_error", "line is list"),
        ("invalid_encoding", ""),
        None,
        ("parse_error", "ValueError"),
        ("parse_error", "RecursionError"),
        None,
    ]
    assert loaded.ids[:3] == ["1", "a.jsonl:1", "3"] and loaded.ids[7] == "8"
    assert loaded.texts[0] == "fineü\n" and loaded.texts[8] == "tab\there"
    assert loaded.places == [("a.jsonl", i) for i in range(12)]


def test_a_large_text_and_an_endless_line_fail_alone(tmp_path, load):
    texts = ["a", "x" * 5_000_000, "y" * 20_000_000, "b"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)))
    loaded = load(tmp_path / "a.jsonl", id="id")
    assert loaded.ids == ["0", "1", "a.jsonl:2", "3"]
    assert loaded.failures == [None, ("too_large", "bytes=5000000"), ("too_large", "bytes=20000022"), None]


def test_kept_values_are_strings_as_they_are_and_json_otherwise(tmp_path, load):
    values = ["ü", 1, 1.5, True, None, [1, {"a": "ü"}]]
    (tmp_path / "a.ndjson").write_text(
        "".join(json.dumps({"text": "t", "k": value}) + "\n" for value in values) + '{"text": "t"}'
    )
    loaded = load(tmp_path / "a.ndjson", keep=["k"])
    assert [row["keep"]["k"] for row in loaded.rows] == ["ü", "1", "1.5", "true", None, '[1, {"a": "ü"}]', None]


def test_nan_is_missing_and_whole_floats_are_ids(tmp_path, load):
    lines = [
        '{"id": 1.0, "text": "a", "k": NaN}',
        '{"id": NaN, "text": "b", "k": [1, NaN, -Infinity]}',
        '{"id": 1.5, "text": "c"}',
        '{"id": 9007199254740993.0, "text": "d"}',
        '{"id": 9007199254740993, "text": NaN}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    loaded = load(tmp_path, id="id", keep=["k"])
    assert loaded.ids == ["1", "a.jsonl:1", "a.jsonl:2", "a.jsonl:3", "9007199254740993"]
    floats = [("parse_error", "id is float")] * 2
    assert loaded.failures == [None, ("parse_error", "missing_id"), *floats, ("missing_text", "")]
    assert [row["keep"]["k"] for row in loaded.rows] == [None, "[1, null, -Infinity]", None, None, None]


def test_a_key_that_no_line_has_is_refused(tmp_path, load):
    (tmp_path / "a.jsonl").write_text('{"report": "x"}\n' * 200 + '{"text": "x"}\n')
    with pytest.raises(ConfigError, match=r"^input.text: the input has no column 'text'; it has: report$"):
        load(tmp_path)


def test_a_key_that_stands_in_another_file_only_is_no_mistake(tmp_path, load):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 2, "text": "b"}\n')
    assert load(tmp_path, id="id").failures == [("missing_text", ""), None]


def test_an_empty_file_is_a_shard_without_rows(tmp_path, load):
    (tmp_path / "a.jsonl").write_text("\n \n")
    assert [shard.rows for shard in load(tmp_path).shards] == [0]


def test_cp1252(tmp_path, load):
    (tmp_path / "a.jsonl").write_bytes('{"text": "Größe"}\n'.encode("cp1252"))
    assert load(tmp_path, encoding="cp1252").texts == ["Größe"]
