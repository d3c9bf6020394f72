import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import RetryableError
from engine.models.rows import add, tally
from engine.pipeline.commit import intact, parse, receipts
from engine.records import ENTITY, FAILURE
from tests.pipeline.conftest import Bench, Faulty, config, rows


def shards(one):
    return sorted(entry.path.rsplit("/", 1)[-1] for entry in one.storage.list(one.layout.shards))


def test_a_receipt_counts_what_its_file_holds(bench):
    one = bench({"a": "aaa", "b": "bbbb", "c": "", "d": "cccc"})
    receipt = one.commit(one.plan.shards[0])
    # Lengths 3, 4, 4: a multiple of three goes to review.
    assert receipt["rows"] == 4
    assert receipt["decisions"] == {"auto": 2, "failed": 1, "review": 1}
    assert receipt["failures"] == {"missing_text": 1}
    assert receipt["reasons"] == {"low_confidence": 1}
    assert pq.read_table(f"{one.layout.shards}/{receipt['file']}").num_rows == 4
    assert receipts(one.storage, one.layout) == {"0000-000000": json.loads(json.dumps(receipt))}


def test_entities_are_counted_by_type():
    types = [["Disease", "Chemical", "Disease"], [], None, ["Chemical"]]
    table = pa.table(
        {
            "decision": ["auto", "auto", "failed", "review"],
            "reasons": [[], [], [], ["text_truncated"]],
            "entities": pa.array([row and [{"type": name} for name in row] for row in types], pa.list_(ENTITY)),
            "failure": pa.array([None, None, {"kind": "too_large", "detail": ""}, None], FAILURE),
        }
    )
    counts = tally(table)
    assert counts["entities"] == {"Disease": 2, "Chemical": 2}
    none = tally(table.drop_columns("entities"))
    assert none["entities"] == {} and add({}, counts) == counts
    assert add(none, counts)["entities"] == add(counts, none)["entities"] == {"Chemical": 2, "Disease": 2}


def test_kept_columns_with_the_names_of_another_systems_columns_are_not_counted(tmp_path):
    columns = {"id": ["a", "b"], "text": ["aa", "b" * 12], "entities": ["x", "y"]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "in" / "a.parquet")
    settings = config(tmp_path / "in", tmp_path / "out")
    one = Bench(replace(settings, input=replace(settings.input, keep=("entities",))))
    receipt = one.commit(one.plan.shards[0])
    one.publish()
    assert (receipt["entities"], receipt["reasons"]) == ({}, {"low_confidence": 1})
    assert [row["entities"] for row in rows(tmp_path / "out")] == ["x", "y"]
    # As in the table of explanations, which has no reasons of its own.
    table = pa.table({"decision": ["auto"], "failure": pa.nulls(1, FAILURE), "reasons": ["z"], "entities": ["x"]})
    assert (tally(table)["reasons"], tally(table)["entities"]) == ({}, {})


def test_of_two_tries_the_first_receipt_counts_and_the_other_removes_its_file(bench):
    one = bench()
    first, second = one.commit(one.plan.shards[0], 1), one.commit(one.plan.shards[0], 2)
    assert second == first
    assert shards(one) == ["0000-000000-1.parquet"]


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff", b"{", b"[]", b'{"shard": "0000-000000"}'])
def test_an_unreadable_receipt_is_an_absent_one(bench, garbage):
    one = bench()
    path = one.layout.receipt("0000-000000")
    one.storage.create(path, garbage)
    assert receipts(one.storage, one.layout) == {}
    mine = one.commit(one.plan.shards[0])
    assert parse(one.storage.read(path)) == json.loads(json.dumps(mine))


def test_a_receipt_without_its_file_is_an_absent_one(bench):
    one = bench()
    first = one.commit(one.plan.shards[0], 1)
    one.storage.remove(f"{one.layout.shards}/{first['file']}")
    assert not intact(one.storage, one.layout, first)
    assert one.commit(one.plan.shards[0], 2)["attempt"] == 2
    assert set(receipts(one.storage, one.layout)) == {"0000-000000"}


@pytest.mark.parametrize("step", [1, 2])
def test_a_commit_that_dies_anywhere_can_be_repeated(bench, step):
    one = bench()
    good, one.storage = one.storage, Faulty(step, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        one.commit(one.plan.shards[0], 1)
    one.storage = good
    receipt = one.commit(one.plan.shards[0], 2)
    assert receipts(one.storage, one.layout)["0000-000000"]["file"] == receipt["file"]
    assert intact(one.storage, one.layout, receipt)


def test_a_full_disk_is_worth_another_try(bench):
    one = bench()
    one.storage = Faulty(1, RetryableError("no space left"))
    with pytest.raises(RetryableError):
        one.commit(one.plan.shards[0])
