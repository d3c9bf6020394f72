"""Which rows are shown, and how their texts come back."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.pages.examples import LEAST_SURE, MIXED, Choice, join_text, pick_examples
from engine.records import codes_fields, entities_fields, findings_fields, records_schema, table_schema, text_digest

SCHEMA = table_schema(codes_fields(["site", "histology"]))


def _row(i, decision="auto", code="C50", failure=None, prob=0.9, reasons=()):
    row = dict.fromkeys(SCHEMA.names)
    return row | {
        "record_id": f"r{i}",
        "decision": decision,
        "reasons": list(reasons),
        "site_prob": None if failure else prob,
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


@pytest.mark.parametrize(
    ("reports", "decisions"),
    [
        (1, ["review"]),
        (2, ["review", "auto"]),
        (3, ["review", "auto", "failed"]),
        (4, ["review", "auto", "not_applicable", "failed"]),
    ],
)
def test_what_was_coded_is_shown_before_what_failed(tmp_path, reports, decisions):
    rows = [_row(number, decision) for number, decision in enumerate(["auto", "review", "not_applicable"] * 3)]
    rows += [_row(number, "failed", failure="missing_text") for number in range(9, 15)]
    assert [row["decision"] for row in _picked(tmp_path, rows, reports=reports)] == decisions
    assert [row["decision"] for row in _picked(tmp_path, rows[9:], reports=1)] == ["failed"]


def _files(tmp_path, rows, files=2):
    """A table of two files, of which the first has many row groups."""
    paths = []
    for number in range(files):
        paths.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(_table(rows[number::files]), paths[-1], row_group_size=7 if number == 0 else 1000)
    return paths


def _picked(tmp_path, rows, **choice):
    return pick_examples(_files(tmp_path, rows), Choice(**choice), ["site"])


def test_a_mixed_sample_with_what_must_be_looked_at_first(tmp_path):
    rows = [_row(i, code=f"C{i % 20:02}") for i in range(100)]
    rows += [_row(100 + i, "review", "C34") for i in range(50)]
    rows += [_row(200 + i, "failed", failure=("missing_text", "too_large")[i % 2]) for i in range(20)]
    picked = _picked(tmp_path, rows)
    assert [row["decision"] for row in picked] == ["review"] * 9 + ["auto"] * 9 + ["failed"] * 2
    assert len({row["site_code"] for row in picked if row["decision"] == "auto"}) == 9
    assert {row["failure"]["kind"] for row in picked[-2:]} == {"missing_text", "too_large"}
    assert picked == _picked(tmp_path, rows[::-1])
    by_id = {row["record_id"]: row for row in _table(rows).to_pylist()}
    assert all(row == by_id[row["record_id"]] for row in picked)


def test_few_of_one_decision_leave_room_for_the_others(tmp_path):
    rows = [_row(i) for i in range(3)] + [_row(10 + i, "review") for i in range(30)]
    assert Counter(row["decision"] for row in _picked(tmp_path, rows)) == {"auto": 3, "review": 17}
    rows = [_row(i) for i in range(30)] + [_row(40 + i, "review") for i in range(3)]
    assert Counter(row["decision"] for row in _picked(tmp_path, rows)) == {"auto": 17, "review": 3}
    assert len(_picked(tmp_path, rows[:2])) == 2
    assert _picked(tmp_path, []) == []


def test_the_least_sure_of_what_must_be_looked_at(tmp_path):
    rows = [_row(i, "review", prob=(i * 7 % 40) / 40) for i in range(40)] + [_row(50 + i, prob=0.01 * i) for i in range(9)]
    rows += [_row(70, "review", prob=None), _row(80, "failed", failure="too_large")]
    picked = _picked(tmp_path, rows, reports=6, order=LEAST_SURE)
    assert picked[0]["record_id"] == "r70"
    assert [row["site_prob"] for row in picked[1:]] == pytest.approx([0, 1 / 40, 2 / 40, 3 / 40, 4 / 40])
    picked = _picked(tmp_path, rows, reports=100, order=LEAST_SURE)
    assert [row["decision"] for row in picked] == ["review"] * 41 + ["auto"] * 9 + ["failed"]
    assert [row["record_id"] for row in _picked(tmp_path, rows, decision="auto", order=LEAST_SURE)] == [
        f"r{50 + i}" for i in range(9)
    ]


def test_the_lowest_of_several_tasks_tells_how_sure_a_row_is(tmp_path):
    rows = [_row(0, "review", prob=0.9) | {"histology_prob": 0.2}, _row(1, "review", prob=0.5) | {"histology_prob": 0.5}]
    for tasks, order in ((["site"], ["r1", "r0"]), (["site", "histology"], ["r0", "r1"])):
        for choice in (Choice(), Choice(order=LEAST_SURE)):
            assert [row["record_id"] for row in pick_examples(_files(tmp_path, rows), choice, tasks)] == order


def test_by_decision_and_reason(tmp_path):
    rows = [_row(i, "review", reasons=["low_margin"] if i % 3 else ["low_margin", "section_missing"]) for i in range(30)]
    rows += [_row(40 + i, reasons=["section_missing"]) for i in range(4)]
    for order in (MIXED, LEAST_SURE):
        assert Counter(r["decision"] for r in _picked(tmp_path, rows, decision="review", order=order)) == {"review": 20}
        picked = _picked(tmp_path, rows, reasons=["section_missing", "text_truncated"], order=order)
        assert Counter(row["decision"] for row in picked) == {"review": 10, "auto": 4}
        assert len(_picked(tmp_path, rows, decision="auto", reasons=["section_missing"], order=order)) == 4
        assert _picked(tmp_path, rows, reasons=["no_threshold"], order=order) == []


def test_by_id_as_many_as_are_asked_for(tmp_path):
    rows = [_row(i) for i in range(50)] + [_row(60, "review"), _row(70, "failed", failure="too_large")]
    ids = ["r3", "r70", "r60", "r3", "r44"]
    assert [row["record_id"] for row in _picked(tmp_path, rows, reports=1, ids=ids, decision="auto")] == [
        "r60",
        "r3",
        "r44",
        "r70",
    ]
    with pytest.raises(ConfigError, match=r"^page\.ids: the table has no record 'x 1'$"):
        _picked(tmp_path, rows, ids=["r1", "x 1"])
    with pytest.raises(ConfigError, match=r"no record 'x', nor 1 of the others"):
        _picked(tmp_path, rows, ids=["x", "r1", "y", "x"])


def test_rows_are_found_in_groups_of_many_batches(tmp_path):
    count = 140_000
    one = _table([_row(0)])
    ids = pa.array([f"r{i}" for i in range(count)])
    table = pa.table({name: ids if name == "record_id" else pa.repeat(one[name][0], count) for name in one.column_names})
    path = str(tmp_path / "big.parquet")
    pq.write_table(table.cast(SCHEMA), path, row_group_size=count)
    wanted = ["r65535", "r65536", "r139999", "r0"]
    assert [row["record_id"] for row in pick_examples([path], Choice(ids=wanted), ["site"])] == sorted(wanted)


def test_the_rest_of_a_table_is_not_read(tmp_path, monkeypatch):
    files = _files(tmp_path, [_row(i) for i in range(60)])
    read = []
    original = pq.ParquetFile.iter_batches

    def iter_batches(self, *args, row_groups=None, columns=None, **more):
        read.append((row_groups, columns and set(columns)))
        return original(self, *args, row_groups=row_groups, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    (row,) = pick_examples(files, Choice(ids=["r22"]), ["site"])
    assert row["record_id"] == "r22"
    choosing = {"record_id", "decision", "reasons", "failure.kind", "site_code", "site_prob"}
    # The twelfth row of the first file, which has seven to a group.
    assert read == [(None, choosing)] * 2 + [([1], None)]


def _found(i, *entities, decision="auto"):
    """A row with entities of (type, score)."""
    more = {"entities": [{"type": kind, "start": 0, "end": 1, "score": score} for kind, score in entities]}
    more = {"failure": {"kind": "too_large", "detail": ""}, "entities": None} if decision == "failed" else more
    place = {"source": "a.csv", "position": i, "run_id": "run", "model_digest": "d"}
    return {"record_id": f"r{i}", "decision": decision, "reasons": []} | more | place


def _of_entities(tmp_path, rows, **choice):
    pq.write_table(pa.Table.from_pylist(rows, schema=table_schema(entities_fields())), tmp_path / "e.parquet")
    return [row["record_id"] for row in pick_examples([str(tmp_path / "e.parquet")], Choice(**choice), table="entities")]


def test_entities_are_chosen_by_the_least_sure_of_a_report(tmp_path):
    rows = [_found(0, ("A", 0.9), ("B", 0.4)), _found(1, ("A", 0.5)), _found(2), _found(3, decision="failed")]
    rows.append(_found(4, ("A", 0.8), decision="review"))
    assert _of_entities(tmp_path, rows, order=LEAST_SURE) == ["r4", "r0", "r1", "r2", "r3"]
    assert _of_entities(tmp_path, rows, order=LEAST_SURE, reports=2) == ["r4", "r0"]
    assert _of_entities(tmp_path, rows, ids=["r3", "r1"]) == ["r1", "r3"]


def test_a_mixed_sample_of_entities_has_every_type(tmp_path):
    rows = [_found(i, ("A", 0.9)) for i in range(30)] + [_found(30, ("B", 0.8)), _found(31)]
    picked = _of_entities(tmp_path, rows, reports=3)
    assert len(picked) == 3 and {"r30", "r31"} < set(picked)


def _study(i, *labels, decision="auto"):
    listed = [{"name": name, "prob": prob, "threshold": threshold} for name, prob, threshold in labels]
    return _row(i, decision) | {"labels": None if decision == "failed" else listed}


def _of_findings(tmp_path, rows, **choice):
    schema = table_schema(findings_fields())
    rows = [{name: row.get(name) for name in schema.names} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "f.parquet")
    return [row["record_id"] for row in pick_examples([str(tmp_path / "f.parquet")], Choice(**choice), table="findings")]


def test_studies_are_chosen_by_the_finding_that_is_nearest_to_its_threshold(tmp_path):
    # In log-odds 0.02 lies further from 0.1 than 0.4 from 0.5; certainty itself is no obstacle.
    rows = [_study(0, ("A", 0.02, 0.1), ("B", 0.9, 0.5)), _study(1, ("A", 0.4, 0.5)), _study(2, ("A", 1.0, 0.5), ("B", 0.0, 0.5))]
    # Without a threshold nothing is known to be sure.
    rows += [_study(3, ("A", 0.5, None)), _study(4, decision="failed"), _study(5, ("A", 0.9, 0.1), decision="review")]
    assert _of_findings(tmp_path, rows, order=LEAST_SURE) == ["r5", "r3", "r1", "r0", "r2", "r4"]
    assert _of_findings(tmp_path, rows, ids=["r4", "r2"]) == ["r2", "r4"]


def test_a_mixed_sample_of_studies_has_the_highest_finding_of_each(tmp_path):
    rows = [_study(i, ("A", 0.9, 0.5), ("B", 0.2, 0.5)) for i in range(30)]
    rows += [_study(30, ("A", 0.6, 0.5), ("B", 0.3, 0.05)), _study(31, ("C", 0.1, 0.5), ("A", 0.05, 0.5)), _study(32)]
    picked = _of_findings(tmp_path, rows, reports=4)
    assert len(picked) == 4 and {"r30", "r31", "r32"} < set(picked)


def test_a_table_without_pages_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^output\.path: there are no pages for explanations; give the folder of a run with codes"
    ):
        pick_examples([], Choice(), table="explanations")


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
