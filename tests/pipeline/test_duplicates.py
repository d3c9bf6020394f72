"""What the search for duplicate ids asks of the folder that it works in."""

import os
import random

import pyarrow as pa

from engine.pipeline.duplicates import IDS, later

MEBI = 2**20


def batch(names: list[str]) -> pa.RecordBatch:
    rows = len(names)
    columns = [[0] * rows, list(range(rows)), names, ["a.jsonl"] * rows, list(range(rows))]
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, IDS, strict=True)], schema=IDS)


def test_no_file_is_locked_since_not_every_share_can(tmp_path, locked):
    with later([batch(["a", "b", "a"])], [], str(tmp_path), 64 * MEBI) as duplicates:
        assert locked(tmp_path) == []
        assert [(duplicate.row, duplicate.new_id) for duplicate in duplicates] == [(2, "a.jsonl#2")]


def test_what_does_not_fit_into_memory_goes_to_the_folder(tmp_path):
    draw = random.Random(0)
    names = [draw.randbytes(500).hex() for _ in range(100_000)]
    spilled = 0

    def batches():
        nonlocal spilled
        for start in range(0, len(names), 10_000):
            yield batch(names[start : start + 10_000])
            spilled = max(spilled, sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))
        yield batch(names[:1])

    with later(batches(), [], str(tmp_path), 64 * MEBI) as duplicates:
        assert len(list(duplicates)) == 1
    assert spilled > 20 * MEBI
    assert os.listdir(tmp_path) in ([], ["spill"])
