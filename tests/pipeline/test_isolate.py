"""Children that die, for real; each takes about a second."""

import pytest

from engine.errors import InputChanged, RetryableError
from engine.models.rows import finish
from engine.pipeline import isolate, work
from tests.pipeline.conftest import texts, write_input


def coded(one) -> dict[str, dict]:
    meta, answers = isolate.code_isolated(one.job, one.plan.shards[0].shard)
    return {row["record_id"]: row for row in finish(one.system, one.plan.keep, one.run_id, meta, answers).to_pylist()}


def test_the_same_rows_as_without_a_child(bench):
    one = bench({**texts(8), "empty": "", "big": "TOOLARGE"}, shard_bytes=100_000)
    plain = work.code(one.job, one.system, one.plan.shards[0].shard)
    assert list(coded(one).values()) == plain.to_pylist()


def test_two_killers_fail_and_their_neighbours_do_not(bench):
    records = texts(8)
    records["r0002"] += "EXITNOW"
    records["r0005"] += "HOGMEMORY"
    found = coded(bench(records, shard_bytes=100_000))
    assert {name: row["failure"]["kind"] for name, row in found.items() if row["failure"]} == {
        "r0002": "killed_worker",
        "r0005": "out_of_memory",
    }
    assert len(found) == 8


def test_a_changed_file_is_told_by_the_child(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "a.jsonl", texts(31))
    with pytest.raises(InputChanged, match=r"a\.jsonl"):
        coded(one)


def test_a_child_that_cannot_start_accuses_nobody(bench, monkeypatch):
    one = bench()
    monkeypatch.setattr(isolate, "_PATIENCE", 1)
    monkeypatch.setattr(isolate.sys, "executable", "/bin/false")
    with pytest.raises(RetryableError, match="child_memory"):
        coded(one)


def test_a_slice_that_kills_its_reader_is_one_failed_record(bench, tmp_path, monkeypatch):
    write_input(tmp_path / "in" / "b.jsonl", texts(3, 50))
    one = bench(texts(4), shard_bytes=100_000)
    child = isolate._child
    (shard,) = [planned.shard for planned in one.plan.shards]
    assert len(shard.slices) == 2

    def dies(job, shard, gathered, **more):
        if any(piece.source == "b.jsonl" for piece in shard.slices):
            return isolate._Death("read")
        return child(job, shard, gathered, **more)

    monkeypatch.setattr(isolate, "_child", dies)
    found = coded(one)
    assert sorted(found) == ["b.jsonl:0", *texts(4)]
    assert found["b.jsonl:0"]["failure"]["kind"] == "killed_worker"
