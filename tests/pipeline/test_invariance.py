"""The shipped model through Ray: rows do not depend on how the work is cut, batched or shared out."""

from pathlib import Path

import numpy as np
import pytest

from engine.models.base import ModelSpec
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.pipeline import ClusterConfig, RunConfig, run
from engine.sources import InputConfig
from engine.sources.synthetic import generate
from tests.pipeline.conftest import Bench, rows, write_input

CLOSE = 1e-5
TASKS = ("site", "histology")
pytestmark = pytest.mark.timeout(900)


def settings(folder: Path, name: str, *, shard_bytes: int, batch: int, actors: int, threads: int, **options) -> RunConfig:
    return RunConfig(
        InputConfig(str(folder / "in"), id="id"),
        ModelSpec(
            "engine.models.site_classifier",
            "shipped",
            {"precision": "fp32", "checks": 0.2, **options},
            {"batch_tokens": batch, "threads": threads},
        ),
        str(folder / name),
        ClusterConfig(actors=actors, threads=threads),
        shard_bytes=shard_bytes,
    )


def write_reports(folder: Path, count: int, words: float) -> None:
    table = generate(count, 5, median_words=words)
    ids, texts = table["record_id"].to_pylist(), table["text"].to_pylist()
    write_input(folder / "in" / "a.jsonl", dict(zip(ids, texts, strict=True)))


def by_id(config: RunConfig) -> dict[str, dict]:
    return {row["record_id"]: row for row in rows(Path(config.output))}


def assert_the_same(one: dict[str, dict], other: dict[str, dict]) -> None:
    """Equal codes, decisions and spans, close probabilities. Rows near a threshold or a tie are excepted, and must be few."""
    assert one.keys() == other.keys()
    threshold = read_checkpoint("shipped").calibration["site"].threshold
    excepted = 0
    for key, a in one.items():
        b = other[key]
        for task in TASKS:
            for x, y in zip(a[f"{task}_top"], b[f"{task}_top"], strict=True):
                assert x["prob"] == pytest.approx(y["prob"], abs=CLOSE), key
        if any(near_a_tie(a[f"{task}_top"]) for task in TASKS) or abs(a["site_prob"] - threshold) <= CLOSE:
            excepted += 1
            continue
        assert (a["decision"], a["reasons"]) == (b["decision"], b["reasons"]), key
        for task in TASKS:
            assert a[f"{task}_code"] == b[f"{task}_code"], key
            spans = [[(span["start"], span["end"]) for span in row[f"{task}_evidence"]] for row in (a, b)]
            assert spans[0] == spans[1], key
            weights = [[span["weight"] for span in row[f"{task}_evidence"]] for row in (a, b)]
            assert np.allclose(*weights, atol=1e-4), key
    assert excepted <= len(one) // 20


def near_a_tie(top: list[dict]) -> bool:
    return top[0]["prob"] - top[1]["prob"] <= 2 * CLOSE


def check_by_ray(folder: Path) -> None:
    small = settings(folder, "small", shard_bytes=2000, batch=300, actors=2, threads=1)
    large = settings(folder, "large", shard_bytes=10**7, batch=4096, actors=1, threads=2)
    assert run(small).shards > 2 > run(large).shards
    assert_the_same(by_id(small), by_id(large))


def check_bit_for_bit(folder: Path, by_ray: bool) -> None:
    spread = settings(folder, "spread", shard_bytes=2000, batch=300, actors=2, threads=2, deterministic=True)
    whole = settings(folder, "whole", shard_bytes=10**7, batch=4096, actors=1, threads=1, deterministic=True)
    run(spread)
    if by_ray:
        run(whole)
    else:
        bench = Bench(whole)
        bench.code()
        bench.publish()
    assert by_id(spread) == by_id(whole)


@pytest.mark.long
def test_shards_batches_and_actors_change_no_row(tmp_path, cluster):
    write_reports(tmp_path, 60, 30)
    check_by_ray(tmp_path)


@pytest.mark.long
def test_deterministic_rows_are_those_of_a_plain_loop_bit_for_bit(tmp_path, cluster):
    write_reports(tmp_path, 24, 30)
    check_bit_for_bit(tmp_path, by_ray=False)


@pytest.mark.long
def test_longer_reports_through_ray_in_every_way(tmp_path, cluster):
    write_reports(tmp_path, 240, 250)
    check_by_ray(tmp_path)
    check_bit_for_bit(tmp_path, by_ray=True)
