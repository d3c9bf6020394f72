"""CSV for spreadsheets: what stands in its cells, and that none of them runs."""

import csv
import datetime
import decimal
import io
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.pages import sheet
from engine.pages.sheet import harmless, write_sheet
from engine.records import codes_fields, entities_fields, table_schema
from engine.storage import storage_for

KEPT = [pa.field("hospital", pa.string()), pa.field("age", pa.float64())]
TOP = [{"code": code, "prob": prob} for code, prob in (("C50", 0.9), ("C18", 0.05), ("C34", 0.03), ("C61", 0.02))]


def row(number: int, decision: str = "auto", **more) -> dict:
    who = {"record_id": f"00{number}", "source": "a.csv", "position": number, "run_id": "r", "model_digest": "m"}
    return who | {"decision": decision, "reasons": []} | more


def codes(*rows: dict, keep: list[pa.Field] = KEPT) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=table_schema(codes_fields(["site", "grade"]), keep))


def write(table: pa.Table, path: Path) -> str:
    pq.write_table(table, path)
    return str(path)


def read(path: Path, delimiter: str = ",") -> list[list[str]]:
    """All lines, the header first, as a program reads them that knows of the mark at the beginning."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def cells(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    header, *lines = read(path, delimiter)
    return [dict(zip(header, line, strict=True)) for line in lines]


CODED = row(
    1,
    "review",
    reasons=["low_confidence", "no_threshold"],
    site_code="C50",
    site_name="breast",
    site_prob=0.9,
    site_decision="review",
    site_top=TOP,
    grade_code="G2",
    grade_prob=0.5,
    hospital="Köln, Süd",
    age=61.5,
)
FAILED = row(2, "failed", failure={"kind": "missing_text", "detail": "x"})


def test_one_line_a_report(tmp_path):
    file = write(codes(CODED, FAILED), tmp_path / "codes.parquet")
    assert write_sheet(str(tmp_path / "out.csv"), [file]) == 2
    coded, failed = cells(tmp_path / "out.csv")
    assert coded == {
        "record_id": "001",
        "source": "a.csv",
        "position": "1",
        "decision": "review",
        "reasons": "low_confidence; no_threshold",
        "site_code": "C50",
        "site_name": "breast",
        "site_prob": "0.9000",
        "site_top": "C50 0.9000; C18 0.0500; C34 0.0300",
        "grade_code": "G2",
        "grade_name": "",
        "grade_prob": "0.5000",
        "grade_top": "",
        "failure": "",
        "hospital": "Köln, Süd",
        "age": "61.5",
    }
    assert {name: cell for name, cell in failed.items() if cell} == {
        "record_id": "002",
        "source": "a.csv",
        "position": "2",
        "decision": "failed",
        "failure": "missing_text",
    }


def test_the_bytes_are_those_that_excel_wants(tmp_path):
    file = write(codes(CODED), tmp_path / "codes.parquet")
    write_sheet(str(tmp_path / "out.csv"), [file])
    data = (tmp_path / "out.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfrecord_id,source,")
    assert data.count(b"\r\n") == data.count(b"\n") == 2 and data.endswith(b"\r\n")
    assert '"Köln, Süd"'.encode() in data


def test_with_semicolons_numbers_have_a_decimal_comma(tmp_path):
    file = write(codes(CODED), tmp_path / "codes.parquet")
    write_sheet(str(tmp_path / "out.csv"), [file], delimiter=";")
    (found,) = cells(tmp_path / "out.csv", ";")
    assert (found["site_prob"], found["age"], found["position"]) == ("0,9000", "61,5", "1")
    assert found["site_top"].startswith("C50 0,9000; ") and found["hospital"] == "Köln, Süd"


def test_one_line_an_entity_and_one_for_a_report_without(tmp_path):
    entity = {"type": "Disease", "start": 3, "end": 9, "assertion": "negated", "score": 0.75, "zero_shot": False, "evidence": []}
    device = {"type": "Device", "start": 20, "end": 25, "assertion": None, "zero_shot": True}
    rows = [
        row(1, entities=[entity, entity | device], hospital="A"),
        row(2, entities=[], hospital="B"),
        FAILED | {"record_id": "003"},
    ]
    table = pa.Table.from_pylist(rows, schema=table_schema(entities_fields(), KEPT))
    assert write_sheet(str(tmp_path / "out.csv"), [write(table, tmp_path / "e.parquet")]) == 4
    header, *lines = read(tmp_path / "out.csv")
    assert header[5:] == [
        *("entity_type", "entity_start", "entity_end", "entity_assertion", "entity_score", "entity_zero_shot"),
        *("failure", "hospital", "age"),
    ]
    assert [[line[0], *line[5:13]] for line in lines] == [
        ["001", "Disease", "3", "9", "negated", "0.7500", "false", "", "A"],
        ["001", "Device", "20", "25", "", "0.7500", "true", "", "A"],
        ["002", "", "", "", "", "", "", "", "B"],
        ["003", "", "", "", "", "", "", "missing_text", ""],
    ]


@pytest.mark.parametrize(("rows", "ids"), [("all", "1234"), ("auto", "3"), ("review", "14"), ("failed", "2")])
def test_rows_of_one_decision(tmp_path, rows, ids):
    files = [
        write(codes(CODED, FAILED), tmp_path / "1.parquet"),
        write(codes(row(3), row(4, "review")), tmp_path / "2.parquet"),
    ]
    assert write_sheet(str(tmp_path / "out.csv"), files, rows) == len(ids)
    assert [line["record_id"] for line in cells(tmp_path / "out.csv")] == [f"00{name}" for name in ids]


def test_a_table_without_such_rows_is_a_header(tmp_path):
    assert write_sheet(str(tmp_path / "out.csv"), [write(codes(CODED), tmp_path / "1.parquet")], "failed") == 0
    assert len(read(tmp_path / "out.csv")) == 1


def test_kept_columns_of_every_type(tmp_path):
    kept = {
        "whole": (-5, pa.int64(), "-5"),
        "long": (123456789012345678, pa.int64(), "123456789012345678"),
        "short": (0.1, pa.float32(), "0.1"),
        "infinite": (-math.inf, pa.float64(), "'-inf"),
        "money": (decimal.Decimal("-1.50"), pa.decimal128(10, 2), "-1.50"),
        "flag": (True, pa.bool_(), "true"),
        "day": (datetime.date(2024, 3, 1), pa.date32(), "2024-03-01"),
        "time": (datetime.datetime(2024, 3, 1, 5), pa.timestamp("ms"), "2024-03-01 05:00:00.000"),
        "words": (["=a", None], pa.list_(pa.string()), '["=a", null]'),
        "pair": ({"a": 1.5, "day": datetime.date(2024, 3, 1)}, None, '{"a": 1.5, "day": "2024-03-01"}'),
        "bytes": (b"=\xff", pa.binary(), "3dff"),
        "text": ("-5", pa.string(), "'-5"),
        "zeros": ("007", pa.string(), "007"),
        "nothing": (None, pa.float64(), ""),
        "=title": ("x", pa.string(), "x"),
    }
    kinds = {name: kind or pa.struct([("a", pa.float64()), ("day", pa.date32())]) for name, (_, kind, _) in kept.items()}
    table = codes(
        row(1, **{name: value for name, (value, _, _) in kept.items()}), keep=[pa.field(*each) for each in kinds.items()]
    )
    write_sheet(str(tmp_path / "out.csv"), [write(table, tmp_path / "1.parquet")])
    (found,) = cells(tmp_path / "out.csv")
    assert list(found.values())[-len(kept) :] == [cell for _, _, cell in kept.values()]
    assert list(found)[-1] == "'=title"


def test_a_kept_column_may_have_the_name_of_another_tables_column(tmp_path):
    file = write(codes({**CODED, "entities": "two"}, keep=[pa.field("entities", pa.string())]), tmp_path / "codes.parquet")
    assert write_sheet(str(tmp_path / "out.csv"), [file]) == 1
    (line,) = cells(tmp_path / "out.csv")
    assert (line["site_code"], line["entities"]) == ("C50", "two")


DANGEROUS = set("=+-@\t\r\n＝＋－＠")
texts = st.text() | st.text(alphabet="'=+-@\t\r\n \x00\xa0\u3000\ufeff＝＋－＠a1,;\"")


def unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and harmless(cell[1:]) == cell else cell


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.sampled_from(sheet.DELIMITERS))
@example([("=1+1", " \t=HYPERLINK(1)")], ",")
@example([("'=1", "''-")], ";")
def test_no_cell_runs_and_each_can_be_had_back(tmp_path_factory, values, delimiter):
    folder = tmp_path_factory.mktemp("cells")
    rows = [row(number, record_id=one, hospital=other) for number, (one, other) in enumerate(values)]
    file = write(codes(*rows), folder / "1.parquet")
    write_sheet(str(folder / "out.csv"), [file], delimiter=delimiter)
    found = [(line["record_id"], line["hospital"]) for line in cells(folder / "out.csv", delimiter)]
    assert [tuple(map(unguarded, pair)) for pair in found] == values
    for cell in (cell for pair in found for cell in pair):
        assert cell[:1] not in DANGEROUS and re.sub(r"^[\s\x00-\x1f\ufeff]+", "", cell)[:1] not in DANGEROUS


def test_an_old_table_without_names_still_has_its_codes(tmp_path):
    table = codes(CODED).drop_columns(["site_name", "grade_name"])
    write_sheet(str(tmp_path / "out.csv"), [write(table, tmp_path / "1.parquet")])
    (found,) = cells(tmp_path / "out.csv")
    assert found["site_code"] == "C50" and "site_name" not in found


def test_few_rows_are_held_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "_BATCH", 10)
    files = [
        write(codes(*(row(number) for number in range(part * 100, part * 100 + 100))), tmp_path / f"{part}.parquet")
        for part in range(2)
    ]
    sizes = [len(part) for part in sheet._parts(files, "all", ".")]
    assert sum(sizes) == 201 and max(sizes) <= 10
    parts = sheet._parts([files[0], str(tmp_path / "gone.parquet")], "all", ".")
    assert sum(len(next(parts)) for _ in range(11)) == 101
    with pytest.raises(ConfigError, match="is missing"):
        next(parts)


def test_what_breaks_leaves_the_old_file(tmp_path):
    file = write(codes(CODED), tmp_path / "1.parquet")
    (tmp_path / "out.csv").write_bytes(b"\xef\xbb\xbfrecord_id,old")
    with pytest.raises(ConfigError, match="is missing"):
        write_sheet(str(tmp_path / "out.csv"), [file, str(tmp_path / "gone.parquet")])
    assert (tmp_path / "out.csv").read_bytes() == b"\xef\xbb\xbfrecord_id,old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.parquet", "out.csv"]


def test_folders_and_other_tables_are_refused(tmp_path):
    file = write(codes(CODED), tmp_path / "1.parquet")
    with pytest.raises(ConfigError, match="is a folder"):
        write_sheet(str(tmp_path), [file])
    other = write(codes(CODED).select(["record_id", "source", "position", "decision", "model_digest"]), tmp_path / "2.parquet")
    with pytest.raises(ConfigError, match="neither codes nor entities"):
        write_sheet(str(tmp_path / "out.csv"), [other])


def test_a_kept_column_named_as_one_of_the_export_is_beside_it(tmp_path):
    entity = {"type": "Disease", "start": 3, "end": 9, "score": 0.75, "zero_shot": False, "evidence": []}
    keep = [pa.field("entity_type", pa.string())]
    table = pa.Table.from_pylist([row(1, entities=[entity], entity_type="old")], schema=table_schema(entities_fields(), keep))
    write_sheet(str(tmp_path / "out.csv"), [write(table, tmp_path / "e.parquet")])
    header, line = read(tmp_path / "out.csv")
    cells_of = [cell for name, cell in zip(header, line, strict=True) if name == "entity_type"]
    assert cells_of == ["Disease", "old"]


def test_kept_columns_named_as_those_of_a_task_stay_as_they_are(tmp_path):
    keep = [pa.field("old_code", pa.int64()), pa.field("old_decision", pa.string())]
    file = write(codes(row(1, old_code=7, old_decision="review"), keep=keep), tmp_path / "1.parquet")
    write_sheet(str(tmp_path / "out.csv"), [file])
    header, line = read(tmp_path / "out.csv")
    assert (header[-3:], line[-2:]) == (["failure", "old_code", "old_decision"], ["7", "review"])
    assert header.count("old_code") == 1


OTHERS = [b"", b"report_no,report\r\n", b'{"run_id": "x"}', b"record_id,site_code\r\n", b"\xef\xbb\xbfreport_no,report\r\n"]


@pytest.mark.parametrize("content", OTHERS)
def test_only_an_export_is_replaced(tmp_path, content):
    file = write(codes(CODED), tmp_path / "1.parquet")
    (tmp_path / "out.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"out\.csv exists and is no export of a run; name another file"):
        write_sheet(str(tmp_path / "out.csv"), [file])
    assert (tmp_path / "out.csv").read_bytes() == content
    (tmp_path / "out.csv").unlink()
    write_sheet(str(tmp_path / "out.csv"), [file])
    assert write_sheet(str(tmp_path / "out.csv"), [file], delimiter=";") == 1


def test_from_and_to_s3(tmp_path, bucket):
    table = codes(CODED, FAILED)
    storage = storage_for(bucket)
    with storage.writer(f"{bucket}/run/codes/1.parquet") as file:
        pq.write_table(table, file)
    assert write_sheet(f"{bucket}/out.csv", [f"{bucket}/run/codes/1.parquet"]) == 2
    write_sheet(str(tmp_path / "out.csv"), [write(table, tmp_path / "1.parquet")])
    assert storage.read(f"{bucket}/out.csv") == (tmp_path / "out.csv").read_bytes()
    assert len(list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text("utf-8-sig"))))) == 3
    assert write_sheet(f"{bucket}/out.csv", [f"{bucket}/run/codes/1.parquet"]) == 2
    assert storage.create(f"{bucket}/reports.csv", b"report_no,report")
    with pytest.raises(ConfigError, match="is no export of a run"):
        write_sheet(f"{bucket}/reports.csv", [f"{bucket}/run/codes/1.parquet"])
