"""Whole runs: the plain loop does what the engine does."""

import pyarrow.parquet as pq

from engine.benchmarks import corpus, runs
from engine.pipeline import ClusterConfig, RunConfig, plan, work
from engine.pipeline.layout import Layout
from engine.sources import InputConfig
from engine.storage import LocalStorage


def test_the_plain_loop_codes_every_report_in_the_shards_of_the_engine(spec, config, tmp_path, monkeypatch):
    corpus.write(tmp_path / "in", [corpus.sample(config, 20, corpus.Size(30, 0))], rows=8)
    settings = RunConfig(InputConfig(str(tmp_path / "in"), id="record_id"), spec, str(tmp_path / "out"), ClusterConfig(actors=3))
    cut = []
    monkeypatch.setattr(work, "code", lambda job, system, shard, code=work.code: cut.append(shard) or code(job, system, shard))
    cost = runs.loop(settings)
    coded = pq.read_table(tmp_path / "out" / "codes.parquet")
    assert cost.records == coded.num_rows == len(set(coded["record_id"].to_pylist())) == 20
    assert cost.seconds > 0 and cost.peak > 50
    reader, layout = LocalStorage(), Layout(str(tmp_path / "engine"))
    drafted = plan.draft(settings, reader, layout)
    assert len(cut) >= 3 and plan.store(settings, reader, layout, drafted).rows == 20
    assert cut == [planned.shard for planned in plan.read(reader, layout).shards]


def test_the_loop_takes_any_system(entities, config, tmp_path):
    corpus.write(tmp_path / "in", [corpus.sample(config, 6, corpus.Size(30, 0))], rows=8)
    cost = runs.loop(RunConfig(InputConfig(str(tmp_path / "in"), id="record_id"), entities, str(tmp_path / "out")))
    assert cost.records == pq.read_table(tmp_path / "out" / "entities.parquet").num_rows == 6
