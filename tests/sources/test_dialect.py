"""Values come out of a record as they were written, in every dialect."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RowError
from engine.sources.dialect import Dialect, split

characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from('",;\n\r\t\\| ab')
values = st.text(characters, max_size=20)
DIALECTS = [
    ({}, {}),
    ({"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}, {}),
    ({"quoting": csv.QUOTE_NONNUMERIC, "delimiter": ";", "lineterminator": "\r"}, {"delimiter": ";"}),
    ({"delimiter": "\t"}, {"delimiter": "\t"}),
    ({"delimiter": " "}, {"delimiter": " "}),
    ({"doublequote": False, "escapechar": "\\"}, {"escape": "\\"}),
    ({"doublequote": False, "escapechar": "|", "quoting": csv.QUOTE_ALL, "lineterminator": "\n"}, {"escape": "|"}),
    ({"escapechar": "\\"}, {"escape": "\\"}),
    ({"escapechar": "\\", "quoting": csv.QUOTE_NONE}, {"escape": "\\", "quoting": "none"}),
    (
        {"escapechar": "\\", "quoting": csv.QUOTE_NONE, "quotechar": None, "delimiter": "|"},
        {"escape": "\\", "quoting": "none", "delimiter": "|"},
    ),
]


@pytest.mark.parametrize(("writing", "reading"), DIALECTS)
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(values, values), min_size=1, max_size=20), shard_bytes=st.integers(1, 200))
def test_a_table_reads_back_exactly_in_every_dialect(load, writing, reading, rows, shard_bytes):
    buffer = io.StringIO(newline="")
    table = [[f"{i}.{text}", i, kept] for i, (text, kept) in enumerate(rows)]
    csv.writer(buffer, **writing).writerows([["text", "n", "kept"], *table])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.csv").write_bytes(buffer.getvalue().encode())
        loaded = load(Path(folder) / "a.csv", shard_bytes, keep=["n", "kept"], **reading)
    assert [[row["text"], int(row["keep"]["n"]), row["keep"]["kept"]] for row in loaded.rows] == table


@pytest.mark.parametrize(
    ("dialect", "record", "values"),
    [
        (Dialect(b","), 'a,"b ""c""" ,\n', ["a", 'b "c" ', ""]),
        (Dialect(b","), "a\\,b\r\n", ["a\\", "b"]),
        (Dialect(b",", escape=b"\\"), 'a\\,b,"c\\"d""e",C:\\dir\\\\x\n', ["a,b", 'c"d"e', "C:\\dir\\x"]),
        (Dialect(b",", escape=b"\\"), '"C:\\dir, \\,","\\\r\n"\n', ["C:\\dir, ,", "\r\n"]),
        (Dialect(b",", quoting=False), '"a,b"\n', ['"a', 'b"']),
        (Dialect(b"\t", quoting=False, escape=b"\\"), '"a\\\tb\t\\"\n', ['"a\tb', '"']),
        (Dialect(b","), '5" tall,b\r', ['5" tall', "b"]),
        (Dialect(b","), ",\n", ["", ""]),
    ],
)
def test_the_values_of_a_record(dialect, record, values):
    assert split(record, dialect) == values


def test_a_record_that_its_decoder_made_another_one_of_is_broken():
    with pytest.raises(RowError, match="parse_error: quote"):
        split('a,"b\n', Dialect(b","))
