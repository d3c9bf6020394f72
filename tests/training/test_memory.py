"""What a training needs of memory, measured in processes of their own: the same for 10,000 and for 130,000 reports."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
SIZES = (10_000, 130_000)
# The index and the order are a few numbers a shard, the check of patients eight bytes a report.
MOST = 1.15


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_memory_is_the_same_for_ten_and_for_a_hundred_and_thirty_thousand_reports(tmp_path):
    peaks = {size: measured(tmp_path / str(size), size) for size in SIZES}
    print(json.dumps(peaks))
    few, many = (peaks[size] for size in SIZES)
    for step in few:
        assert many[step] < MOST * few[step], peaks


def measured(folder, size):
    """Peak memory in MB of each step on a corpus of that size."""
    folder.mkdir()
    found = {}
    for step in ("corpus", "prepare", "train"):
        command = [sys.executable, __file__, step, str(folder), str(size)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        if step != "corpus":
            found[step] = int(done.stdout.split()[-1])
    return found


def corpus(folder, size):
    from engine.sources.synthetic import generate

    writer = None
    for start in range(0, size, 1000):
        table = generate(1000, 5, start=start, median_words=40, skew="uniform").select(["record_id", "text", "site", "histology"])
        held = ["valid" if row == 8 else "test" if row == 9 else "train" for row in range(10)] * 100
        # As few reports of valid in both: this is about train.
        held = [split if start < 5000 or split == "train" else "train" for split in held]
        table = table.append_column("split", pa.array(held)).append_column("patient_id", table["record_id"])
        writer = writer or pq.ParquetWriter(folder / "reports.parquet", table.schema)
        writer.write_table(table)
    writer.close()


def settings(folder):
    model = {"encoder": "tiny:bert", "rank": 2, "window": 62}
    data = {"path": str(folder / "reports.parquet"), "held": 4096}
    return {"data": data, "model": model, "learn": {}, "precision": "fp32", "seed": 7, "examples": str(folder / "examples")}


def prepare(folder, size):
    from engine.models.site_classifier.recipe import corpus
    from engine.training.examples import write_examples

    chosen = settings(folder)
    write_examples(corpus(chosen).preparation(), chosen["examples"], folder / "sorting")


def train(folder, size):
    from engine.models.site_classifier.build import learner
    from engine.training.config import LoopConfig
    from engine.training.loop import Worker, train

    # Of 4,096 examples a window: two windows and a half.
    train(learner(settings(folder), Worker()), LoopConfig(epochs=9, batch=32, stop_after=300), Worker(), folder / "state")


if __name__ == "__main__":
    {"corpus": corpus, "prepare": prepare, "train": train}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
