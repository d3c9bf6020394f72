import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import ContractError
from engine.models.examples import COMMON, Index, read_index, read_shard
from engine.storage import storage_for
from engine.training.shards import shard_rows, write_shards

SCHEMA = pa.schema([*COMMON, pa.field("ids", pa.list_(pa.int32()))])


def table(count=50):
    return pa.table(
        {
            "record_id": [f"r{i}" for i in range(count)],
            "split": ["valid" if i % 5 == 4 else "train" for i in range(count)],
            "sample": [i % 4 == 0 and i % 5 < 4 for i in range(count)],
            "ids": [list(range(i % 7)) for i in range(count)],
        },
        schema=SCHEMA,
    )


def written(folder, tables, rows=16):
    with tempfile.TemporaryDirectory() as scratch:
        return write_shards(tables, SCHEMA, folder, Path(scratch), rows, {"labels": {"site": ["C18"]}})

    return Path(tempfile.mkdtemp())


def everything(folder, index):
    train = [read_shard(folder, "train", number) for number in range(len(index.reports))]
    return train, [read_shard(folder, "valid", number) for number in range(len(index.valid))]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_shards_are_random_samples_by_the_ids_alone_and_reports_come_first(request, tmp_path, where):
    place = str(tmp_path) if where == "local" else request.getfixturevalue("bucket")
    index = written(f"{place}/a", [table().slice(0, 20), table().slice(20)])
    assert read_index(f"{place}/a") == index
    assert index.facts == {"labels": {"site": ["C18"]}} and index.valid == (10,)
    assert [r + s for r, s in zip(index.reports, index.samples, strict=True)] == [16, 16, 8]
    train, (valid,) = everything(f"{place}/a", index)
    for number, shard in enumerate(train):
        assert shard["sample"].to_pylist() == [False] * index.reports[number] + [True] * index.samples[number]
    rows = {row["record_id"]: row["ids"] for row in table().to_pylist() if row["split"] == "train"}
    assert {row["record_id"]: row["ids"] for shard in train for row in shard.to_pylist()} == rows
    assert valid["record_id"].to_pylist() == [f"r{i}" for i in range(4, 50, 5)]
    # Another order of the input, the same examples in every shard, and none of them a run of it.
    again = written(f"{place}/b", [table().take(pa.array(range(49, -1, -1)))])
    for one, other in zip(train, everything(f"{place}/b", again)[0], strict=True):
        assert set(one["record_id"].to_pylist()) == set(other["record_id"].to_pylist())
        numbers = sorted(int(name[1:]) for name in one["record_id"].to_pylist())
        assert numbers[-1] - numbers[0] > 25


def test_sorting_locks_no_file_since_not_every_share_can(tmp_path, locked):
    held = []

    def tables():
        for at in (0, 20):
            yield table().slice(at, 20)
            held.extend(locked(tmp_path / "scratch"))

    write_shards(tables(), SCHEMA, str(tmp_path / "out"), tmp_path / "scratch", 16, {})
    assert held == []


def test_without_its_end_there_is_nothing(tmp_path):
    def tables():
        yield table()
        raise ContractError("a table that cannot be made")

    with pytest.raises(ContractError, match="cannot be made"):
        written(str(tmp_path / "x"), tables())
    assert read_index(str(tmp_path / "x")) is None
    assert written(str(tmp_path / "x"), [table()]) == read_index(str(tmp_path / "x"))


def test_no_examples_are_no_shards(tmp_path):
    assert written(str(tmp_path), [table().slice(0, 0)]) == Index((), (), (), {"labels": {"site": ["C18"]}})


def test_a_shard_is_a_sixteenth_of_what_is_held():
    assert [shard_rows(held) for held in (1, 64, 8192, 100_000)] == [1, 4, 512, 512]


def test_a_name_that_is_taken_is_written_over_before_the_end(tmp_path):
    with storage_for(str(tmp_path)).writer(f"{tmp_path}/train-00000.parquet") as file:
        file.write(b"half")
    index = written(str(tmp_path), [table()])
    assert len(everything(str(tmp_path), index)[0][0]) == 16
