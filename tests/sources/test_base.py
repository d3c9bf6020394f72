"""Settings that cannot be, and values that cannot stand in a table."""

import errno
import json

import pytest

from engine.errors import ConfigError, RetryableError
from engine.sources import InputConfig, Shard, Slice, from_json, to_json
from engine.sources.base import require_columns, require_cuttable, unreadable
from engine.storage import Entry


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"path": ""}, "input.path"),
        ({"id": ""}, "input.id"),
        ({"text": ""}, "input.text"),
        ({"keep": "ward"}, "input.keep"),
        ({"keep": ["a", "a"]}, "input.keep"),
        ({"keep": ["text"]}, "input.keep"),
        ({"format": "xlsx"}, "input.format"),
        ({"encoding": "utf8000"}, "input.encoding"),
        ({"encoding": "rot13"}, "input.encoding"),
        ({"delimiter": ";;"}, "input.delimiter"),
        ({"delimiter": '"'}, "input.delimiter"),
        ({"delimiter": "§"}, "input.delimiter"),
        ({"delimiter": "|", "encoding": "gb18030"}, "input.delimiter"),
        ({"quoting": "single"}, "input.quoting"),
        ({"escape": ""}, "input.escape"),
        ({"escape": '"'}, "input.escape"),
        ({"escape": "n"}, "input.escape"),
        ({"escape": "\\\\"}, "input.escape"),
        ({"escape": ","}, "input.escape"),
        ({"escape": ";", "delimiter": ";"}, "input.escape"),
        ({"escape": "\\", "encoding": "shift_jis"}, "input.escape"),
        ({"id_scope": "folder"}, "input.id_scope"),
        ({"max_bytes": 0}, "input.max_bytes"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(settings, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        InputConfig(**{"path": "x", "id": None, **settings})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-7", "iso2022_jp", "cp500"])
def test_encodings_without_plain_line_ends_are_refused_for_tables(encoding):
    with pytest.raises(ConfigError, match="convert the files to utf-8"):
        require_cuttable(InputConfig("x", None, encoding=encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig", "cp1252", "latin-1", "gb18030", "shift_jis"])
def test_other_encodings_can_be_cut(encoding):
    require_cuttable(InputConfig("x", None, encoding=encoding))


def test_a_shard_survives_json():
    shard = Shard((Slice("csv", Entry("/a b/ü.csv", 9, "7"), "ü.csv", 2, 9, 3, 12, 1, 0, 0, "OSError", "quote", "first"),), 2, 9)
    assert from_json(json.loads(json.dumps(to_json(shard)))) == shard


def test_a_missing_column_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"^input.text: a.csv has no column 'text'; it has: id, report$"):
        require_columns(InputConfig("x", "id"), "a.csv", ["id", "report"], header=True)
    with pytest.raises(ConfigError, match="2 columns named 'id'"):
        require_columns(InputConfig("x", "id"), "a.csv", ["id", "id", "text"])


def test_a_first_record_that_stands_where_a_header_should_is_not_quoted():
    with pytest.raises(ConfigError, match=r"first line \(2 fields\) does not look like a header") as caught:
        require_columns(InputConfig("x", "id"), "a.csv", ["4711", "Canary Jane, colon"], header=True)
    assert "Canary" not in str(caught.value)


def test_a_machine_that_is_out_of_files_is_no_fault_of_the_file():
    with pytest.raises(RetryableError, match="same command again"):
        unreadable("a", OSError(errno.EMFILE, ""))
    assert unreadable("a", PermissionError(errno.EACCES, "")).detail == "PermissionError"
