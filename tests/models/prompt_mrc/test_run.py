"""The promises of a run for entities, without Ray; a killed driver is in tests/pipeline/test_entities.py."""

from pathlib import Path

import polars as pl
import pytest

from engine.models.base import ModelSpec
from engine.pipeline import ClusterConfig, RunConfig
from engine.sources import InputConfig
from tests.models.prompt_mrc.conftest import World
from tests.pipeline.conftest import Bench, Faulty, write_input

OPTIONS = {"precision": "fp32"}
TEXTS = {f"r{number:03d}": text for number, text in enumerate(World.make(30, seed=5).texts)} | {
    "r030": "  ",
    "r031": "😀 the\ttree",
}


def settings(tmp_path: Path, model: Path, output: str = "out") -> RunConfig:
    spec = ModelSpec("engine.models.prompt_mrc", str(model), OPTIONS, {"threads": 1})
    return RunConfig(InputConfig(str(tmp_path / "in"), id="id"), spec, str(tmp_path / output), ClusterConfig(), shard_bytes=400)


def check(output: Path) -> pl.DataFrame:
    rows = pl.read_parquet(output / "entities" / "*.parquet")
    assert sorted(rows["record_id"]) == sorted(TEXTS)
    failed = rows.filter(pl.col("decision") == "failed")
    assert failed["record_id"].to_list() == ["r030"] and failed["failure"][0]["kind"] == "missing_text"
    for row in rows.filter(pl.col("decision") == "auto").to_dicts():
        for each in row["entities"]:
            part = TEXTS[row["record_id"]][each["start"] : each["end"]]
            assert part == part.strip() and part
            assert part.startswith("hill") == (each["type"] == "B")
    return rows.sort("record_id")


@pytest.mark.timeout(600)
def test_a_run_that_died_at_a_commit_continues_with_every_record_once(tmp_path, model):
    write_input(tmp_path / "in" / "a.jsonl", TEXTS)
    config = settings(tmp_path, model)
    with pytest.raises(KeyboardInterrupt):
        Bench(config, Faulty(6, KeyboardInterrupt())).code()
    bench = Bench(config)
    assert 0 < len(list((tmp_path / "out" / "_receipts").glob("*.json"))) < len(bench.plan.shards)
    bench.code(attempt=2)
    bench.publish()
    rows = check(tmp_path / "out")
    assert rows["entities"].list.len().sum() > 60
    whole = Bench(settings(tmp_path, model, "whole"))
    whole.code()
    whole.publish()
    same = check(tmp_path / "whole")
    assert rows["entities"].to_list() == same["entities"].to_list()
