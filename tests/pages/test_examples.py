"""Which rows are shown, and how their texts come back."""

from collections import Counter

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.pages.examples import join_text, pick_examples, tasks_of
from engine.records import codes_fields, records_schema, table_schema, text_digest

SCHEMA = table_schema(codes_fields(["site", "histology"]))


def _row(i, decision="auto", code="C50", failure=None):
    row = dict.fromkeys(SCHEMA.names)
    return row | {
        "record_id": f"r{i}",
        "decision": decision,
        "site_code": None if failure else code,
        "text_sha256": None if failure else text_digest(f"text {i}"),
        "failure": {"kind": failure, "detail": ""} if failure else None,
        "source": "a.csv",
        "position": i,
        "run_id": "run",
        "model_digest": "d",
    }


def _table(rows):
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _records(positions, source="a.csv", texts=None):
    rows = [
        {"row": i, "record_id": f"r{p}", "source": source, "position": p, "text": (texts or {}).get(p, f"text {p}"), "keep": {}}
        for i, p in enumerate(positions)
    ]
    return pa.Table.from_pylist(rows, schema=records_schema())


def test_tasks_are_told_by_the_columns():
    assert tasks_of(SCHEMA) == ["site", "histology"]


def test_a_mixed_sample():
    rows = [_row(i, code=f"C{i % 20:02}") for i in range(100)]
    rows += [_row(100 + i, "review", "C34") for i in range(50)]
    rows += [_row(200 + i, "failed", failure=("missing_text", "too_large")[i % 2]) for i in range(20)]
    picked = pick_examples(_table(rows), 20)
    assert Counter(row["decision"] for row in picked) == {"auto": 9, "review": 9, "failed": 2}
    assert [row["decision"] for row in picked] == ["auto"] * 9 + ["review"] * 9 + ["failed"] * 2
    assert len({row["site_code"] for row in picked if row["decision"] == "auto"}) == 9
    assert {row["failure"]["kind"] for row in picked[-2:]} == {"missing_text", "too_large"}
    assert picked == pick_examples(_table(rows[::-1]), 20)


def test_few_of_one_decision_leave_room_for_the_others():
    rows = [_row(i) for i in range(3)] + [_row(10 + i, "review") for i in range(30)]
    assert Counter(row["decision"] for row in pick_examples(_table(rows), 20)) == {"auto": 3, "review": 17}
    assert len(pick_examples(_table(rows[:2]), 20)) == 2
    assert pick_examples(_table([]), 20) == []


def test_texts_are_joined_by_source_and_position():
    rows = [_row(7), _row(3), _row(5, "failed", failure="missing_text")]
    joined = join_text(rows, [_records([7], source="b.csv", texts={7: "another file"}), _records([3, 4, 5, 7])])
    assert [(e.row["position"], e.text) for e in joined] == [(7, "text 7"), (3, "text 3"), (5, None)]


def test_reading_ends_when_all_is_found():
    def tables():
        yield _records([1])
        raise AssertionError("read on")

    assert join_text([_row(1)], tables())[0].text == "text 1"
    assert join_text([_row(1, "failed", failure="too_large")], tables())[0].text is None


def test_another_text_or_none_is_refused():
    with pytest.raises(ConfigError, match=r"a\.csv, record 1: the text is not the one") as caught:
        join_text([_row(1)], [_records([1], texts={1: "canary"})])
    assert "canary" not in str(caught.value)
    with pytest.raises(ConfigError, match="no longer has this record"):
        join_text([_row(1)], [_records([2])])
