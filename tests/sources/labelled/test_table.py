"""Labelled tables: the same records whatever the format, in pieces that any process reads, broken ones flagged."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.sources.base import from_json, to_json
from engine.sources.labelled import Labelled, Reader

MARKS = [{"start": 0, "end": 4, "label": "C50", "annotator": None}]
ROWS = [
    {"id": 1, "words": "Left breast", "site": "C50", "codes": ["x", "y"], "marked": MARKS, "edema": 1.0, "who": "p"},
    {"id": 2, "words": "Lung", "site": None, "codes": [], "marked": None, "edema": -1.0, "who": None},
    {"id": 3, "words": None, "site": "C18", "codes": None, "marked": [], "edema": None, "who": "q"},
]
CONFIG = {
    "labels": {"site": "site", "codes": "codes"},
    "id": "id",
    "text": "words",
    "group": "who",
    "multi_label": ("codes",),
    "marks": "marked",
    "findings": {"Edema": "edema"},
    "more": {"patient": "who"},
}


def write(folder, format, rows=ROWS):
    path = folder / f"a.{format}"
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        cells = [[json.dumps(v) if isinstance(v, list) else "" if v is None else str(v) for v in row.values()] for row in rows]
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [list(rows[0]), *cells]]
        path.write_text("\n".join(quoted) + "\n")
    return str(path)


def read(path, **changes):
    return pa.concat_tables(Reader(Labelled(path, **{**CONFIG, **changes})).tables())


def test_parquet_csv_and_jsonl_say_the_same(tmp_path):
    tables = [read(write(tmp_path, format)) for format in ("parquet", "csv", "jsonl")]
    first = tables[0].to_pylist()
    assert [table.schema for table in tables] == [tables[0].schema] * 3
    for table in tables:
        assert [{**row, "source": "a.parquet"} for row in table.to_pylist()] == first
    assert [(row["record_id"], row["text"], row["site"], row["group"], row["patient"]) for row in first] == [
        ("1", "Left breast", "C50", "p", "p"),
        ("2", "Lung", None, None, None),
        ("3", None, "C18", "q", "q"),
    ]
    assert [row["codes"] for row in first] == [["x", "y"], [], None]
    assert [row["marks"] for row in first] == [MARKS, None, []]
    assert [row["findings"] for row in first] == [[{"name": "Edema", "state": 1}], [{"name": "Edema", "state": -1}], []]
    assert [row["failure"] for row in first] == [None] * 3


def test_pieces_are_plain_values_that_another_process_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.sources.labelled.table._PIECE_BYTES", 200)
    rows = [{"id": str(n), "words": f"text {n} " * 5, "site": f"C{n % 7}"} for n in range(40)]
    config = {"labels": {"site": "site"}, "id": "id", "text": "words"}
    for format in ("parquet", "csv", "jsonl"):
        reader = Reader(Labelled(write(tmp_path, format, rows), **config))
        pieces = [json.loads(json.dumps(to_json(piece))) for piece in reader.pieces()]
        assert len(pieces) > 3
        other = pickle.loads(pickle.dumps(reader))
        found = [row for piece in pieces for table in other.read(from_json(piece)) for row in table.to_pylist()]
        assert [(row["record_id"], row["site"]) for row in found] == [(row["id"], row["site"]) for row in rows]


def test_a_few_hundred_rows_come_at_a_time(tmp_path):
    rows = [{"id": str(n), "words": "text", "site": "C50"} for n in range(1300)]
    reader = Reader(Labelled(write(tmp_path, "parquet", rows), {"site": "site"}, id="id", text="words"))
    assert [len(table) for table in reader.tables()] == [512, 512, 276]


def test_broken_rows_are_flagged_and_take_nobody_with_them(tmp_path):
    (tmp_path / "a.csv").write_text("id,words,site\na,one,C50\nb,two\nc,three,C34\n")
    found = read(str(tmp_path / "a.csv"), labels={"site": "site"}, group=None, marks=None, findings={}, more={}).to_pylist()
    assert [row["site"] for row in found] == ["C50", None, "C34"]
    assert [row["failure"] and row["failure"]["kind"] for row in found] == [None, "parse_error", None]


def test_a_record_without_an_id_keeps_its_text_and_says_whether_it_has_one(tmp_path):
    (tmp_path / "a.csv").write_text("id,words,site\n,one,C50\nb,two,C18\n,,C34\n")
    found = read(str(tmp_path / "a.csv"), labels={"site": "site"}, group=None, marks=None, findings={}, more={}).to_pylist()
    assert [(row["record_id"], row["text"], row["failure"]) for row in found] == [
        (None, "one", None),
        ("b", "two", None),
        (None, None, None),
    ]


def test_without_texts_only_labels_are_read(tmp_path):
    for format in ("parquet", "csv", "jsonl"):
        found = read(write(tmp_path, format), text=None)
        assert found["text"].null_count == 3 and found["site"].to_pylist()[0] == "C50"


def test_a_list_of_findings_and_states_in_words(tmp_path):
    said = [{"name": "Edema", "state": "positive"}, {"name": "Fracture", "state": "Uncertain"}, {"name": "Mass", "state": None}]
    rows = [{"id": "a", "said": said}, {"id": "b", "said": None}, {"id": "c", "said": [{"name": "Edema", "state": "2"}]}]
    for format in ("parquet", "jsonl"):
        config = Labelled(write(tmp_path, format, rows), id="id", findings="said")
        found = pa.concat_tables(Reader(config).tables()).to_pylist()
        assert [row["findings"] for row in found] == [
            [{"name": "Edema", "state": 1}, {"name": "Fracture", "state": -1}],
            [],
            None,
        ]
        assert found[2]["failure"]["detail"] == "a finding is none of positive, negative and uncertain"


def test_spans_keep_their_type_and_group_and_one_that_cannot_be_read_is_null(tmp_path):
    span = {"start": 0, "end": 4, "type": "A", "group_id": "1"}
    given = [
        [span],
        [{"start": 1, "end": 2, "label": "B"}, [1, 2]],
        [{"start": 6.5, "end": 7}, {"start": "x", "end": 2}, 5],
        [],
        None,
    ]
    given += [[{"start": 2**31, "end": 2**70}], [{"start": 0, "end": 1, "type": ["A"], "group_id": 2}]]
    rows = [{"id": str(n), "words": "Left", "seen": None if each is None else json.dumps(each)} for n, each in enumerate(given)]
    rows[4]["seen"] = "none"
    for format in ("parquet", "csv", "jsonl"):
        reader = Reader(Labelled(write(tmp_path, format, rows), id="id", text="words", spans={"site": "seen"}))
        found = [row["site_spans"] for row in pa.concat_tables(reader.tables()).to_pylist()]
        other = {"start": 1, "end": 2, "type": None, "group_id": None}
        assert found[:4] == [[span], [{**other, "type": "B"}, other], [None, None, None], []]
        assert found[4:] == [None, [None], [{**other, "start": 0, "end": 1, "group_id": "2"}]]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": {"site": "place"}}, "^labels or group or marks: a.parquet has no column 'place'"),
        (
            {"multi_label": ("site",)},
            "^labels: a column of a.parquet has the wrong type; .* lists of it for multi_label",
        ),
        ({"multi_label": ()}, "^labels: a column of a.parquet has the wrong type"),
        ({"marks": "site"}, "^marks: the column must hold lists of highlights"),
        ({"encoding": "nonsense"}, "^encoding: no text encoding"),
        ({"text": "id"}, "^text: column 'id' of a.parquet is int64, not text"),
    ],
)
def test_mistakes_are_told_under_the_users_names(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told) as caught:
        read(write(tmp_path, "parquet"), **changes)
    assert "\n" not in str(caught.value) and "Left" not in str(caught.value)
