"""Whole runs: the plain loop does what the engine does."""

import json
from dataclasses import asdict

import pyarrow.parquet as pq

from engine.benchmarks import corpus, runs
from engine.pipeline import plan, work
from engine.pipeline.layout import Layout
from engine.sources import InputConfig
from engine.storage import LocalStorage


def test_the_plain_loop_codes_every_report_in_the_shards_of_the_engine(spec, config, tmp_path, monkeypatch):
    corpus.write(tmp_path / "in", [corpus.reports(config, 20, 30)], rows=8)
    request = {
        "input": asdict(InputConfig(str(tmp_path / "in"), id="record_id")),
        "model": asdict(spec),
        "output": str(tmp_path / "out"),
        "cluster": {"actors": 3},
    }
    cut = []
    monkeypatch.setattr(work, "code", lambda job, system, shard, code=work.code: cut.append(shard) or code(job, system, shard))
    ran = runs.Ran(**runs.loop(json.loads(json.dumps(request))))
    coded = pq.read_table(tmp_path / "out" / "codes.parquet")
    assert ran.records == coded.num_rows == len(set(coded["record_id"].to_pylist())) == 20
    assert ran.seconds > 0 and ran.peak > 50
    settings, reader = runs.config_of(request), LocalStorage()
    drafted = plan.draft(settings, reader, Layout(str(tmp_path / "engine")))
    assert len(cut) >= 3 and plan.store(settings, reader, Layout(str(tmp_path / "engine")), drafted).rows == 20
    assert cut == [planned.shard for planned in plan.read(reader, Layout(str(tmp_path / "engine"))).shards]


def test_the_loop_takes_any_system(entities, config, tmp_path):
    corpus.write(tmp_path / "in", [corpus.reports(config, 6, 30)], rows=8)
    model = asdict(entities)
    ran = runs.loop({"input": {"path": str(tmp_path / "in"), "id": "record_id"}, "model": model, "output": str(tmp_path / "out")})
    assert ran["records"] == pq.read_table(tmp_path / "out" / "entities.parquet").num_rows == 6
