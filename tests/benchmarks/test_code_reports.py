"""The benchmark of the main job, at toy size on a tiny model: that it measures what it says, not how fast that is."""

import json
import re
import subprocess
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.benchmarks import child, code_reports
from engine.benchmarks.code_reports import CORE, EVIDENCE, LOOP, MEMORY, S3, BenchConfig
from engine.encoders import encoder_digest, load_encoder
from engine.errors import EXIT_CONFIG, ConfigError
from engine.models.base import ModelSpec, load
from engine.models.run import records_of
from engine.models.site_classifier.checkpoint import TaskCalibration, write_checkpoint
from engine.models.site_classifier.config import ClassifierConfig, Task
from engine.models.site_classifier.network import SiteNetwork
from engine.pipeline import plan, work
from engine.pipeline.layout import Layout
from engine.sources import InputConfig
from engine.storage import LocalStorage, S3Config, storage_for, use_s3

SYSTEM = "engine.models.site_classifier"


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    """A checkpoint of two tasks on the tiny encoder, with random heads."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tasks = tuple(Task(name, ("a", "b", "c"), (20, 20, 20)) for name in ("site", "histology"))
    config = ClassifierConfig(tasks, "tiny:bert", encoder_digest("tiny:bert"), window=30, pool_heads=2, pool_width=8)
    torch.manual_seed(3)
    network = SiteNetwork(config, load_encoder("tiny:bert", torch.float32, "eager"))
    tensors = {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}
    calibration = {task.name: TaskCalibration(1.0, 0.9, {}) for task in tasks}
    write_checkpoint(folder, config, tensors, calibration, "gradient_x_input", frozenset(), "tiny")
    return ModelSpec(SYSTEM, str(folder), {"precision": "fp32"})


def _config(spec, tmp_path, **changed) -> BenchConfig:
    sizes = {
        "core_reports": 4,
        "evidence_reports": 3,
        "loop_reports": 24,
        "s3_reports": 24,
        "repeats": 1,
        "loop_repeats": 1,
        "batch_sizes": (1, 2),
    }
    return BenchConfig(spec, work=str(tmp_path), memory_reports=(20, 40), **sizes | changed)


def test_compute_core_and_evidence(spec, tmp_path):
    config = _config(spec, tmp_path)
    rows = code_reports.compute_core(config, tmp_path, print) + code_reports.evidence_price(config, tmp_path, print)
    assert [(row.part, row.kind, row.target) for row in rows] == [
        (CORE, "at least", 3.0),
        (CORE, None, None),
        (EVIDENCE, "at most", 2.2),
        (EVIDENCE, "at most", 3.4),
    ]
    assert all(row.figure > 0 and row.rival_figure > 0 for row in rows)
    assert "fp32, batch" in rows[0].rival and "bf16, batch" in rows[1].rival
    assert rows[2].measured.endswith("site") and rows[3].measured.endswith("site, histology")


def test_settings_travel_as_plain_values(spec, tmp_path):
    config = _config(spec, tmp_path, input=InputConfig("a", id=None, keep=("b",)), parts=[CORE])
    back = BenchConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert (back.model, back.input, back.cluster, back.core_reports) == (config.model, config.input, config.cluster, 4)


def test_a_model_of_fewer_tasks_gives_the_same_answers(spec, tmp_path):
    records = records_of("ab", ["carcinoma of the left breast", "the lung is clear"])
    whole = code_reports.code(load(spec), records)
    part = code_reports.code(load(code_reports.with_tasks(spec, 1, tmp_path / "one")), records)
    assert "histology_code" not in part.column_names
    assert part["site_prob"].to_pylist() == pytest.approx(whole["site_prob"].to_pylist(), abs=1e-6)


def test_without_evidence_there_is_none(spec):
    records = records_of("a", ["carcinoma of the left breast"])
    assert code_reports.code(load(spec), records)["site_evidence"][0].as_py()
    assert not code_reports.code(load(code_reports.without_evidence(spec)), records)["site_evidence"][0].as_py()


def test_real_reports_are_sampled_by_their_text(spec, tmp_path):
    texts = [f"report {i}" for i in range(30)]
    for name, given in (("a", texts), ("b", texts[::-1] + texts[:1])):
        pq.write_table(pa.table({"text": [*given, None]}), tmp_path / f"{name}.parquet")
    picked = [
        code_reports.reports(_config(spec, tmp_path, input=InputConfig(str(tmp_path / f"{name}.parquet"), id=None)), 8, 100)
        for name in ("a", "b")
    ]
    assert picked[0].equals(picked[1]) and len(set(picked[0]["text"].to_pylist())) == 8
    with pytest.raises(ConfigError, match="30 different readable reports, 31 are asked for"):
        code_reports.reports(_config(spec, tmp_path, input=InputConfig(str(tmp_path / "a.parquet"), id=None)), 31, 100)


def test_the_plain_loop_codes_every_report_in_the_shards_of_the_engine(spec, tmp_path, monkeypatch):
    code_reports._write(tmp_path / "in", [code_reports.reports(_config(spec, tmp_path), 20, 30)], rows=8)
    request = {
        "input": asdict(InputConfig(str(tmp_path / "in"), id="record_id")),
        "model": asdict(spec),
        "output": str(tmp_path / "out"),
        "cluster": {"actors": 3},
    }
    cut = []
    monkeypatch.setattr(work, "code", lambda job, system, shard, code=work.code: cut.append(shard) or code(job, system, shard))
    ran = child.run_loop(json.loads(json.dumps(request)))
    coded = pq.read_table(tmp_path / "out" / "codes.parquet")
    assert ran.records == coded.num_rows == len(set(coded["record_id"].to_pylist())) == 20
    assert ran.seconds > 0 and ran.peak > 50
    settings, reader = child._config(request), LocalStorage()
    drafted = plan.draft(settings, reader, Layout(str(tmp_path / "engine")))
    assert len(cut) >= 3 and plan.store(settings, reader, Layout(str(tmp_path / "engine")), drafted).rows == 20
    assert cut == [planned.shard for planned in plan.read(reader, Layout(str(tmp_path / "engine"))).shards]


@pytest.mark.parametrize(
    "changed",
    [{"parts": ("speed",)}, {"s3_reports": 0}, {"parts": ()}, {"repeats": 0}, {"memory_reports": (5,)}, {"batch_sizes": ()}],
)
def test_nonsense_is_refused(spec, changed):
    with pytest.raises(ConfigError, match=r"bench\."):
        BenchConfig(spec, **changed)


@pytest.mark.parametrize("work", ["none", "s3://bucket/work"])
def test_the_folder_to_work_in_must_be_there(spec, work):
    with pytest.raises(ConfigError, match=r"^bench\.work: .* is no folder of this machine"):
        next(code_reports.run(BenchConfig(spec, parts=(CORE,), work=work)))


def test_a_mistake_of_the_user_comes_back_as_one_line(spec, tmp_path):
    missing = _config(spec, tmp_path, input=InputConfig(str(tmp_path / "none.parquet"), id=None))
    question, answer = tmp_path / "request.json", tmp_path / "answer.json"
    question.write_text(json.dumps(missing.to_json()))
    assert child.main(CORE, str(question), str(answer)) == EXIT_CONFIG
    told = json.loads(answer.read_text())
    assert told["code"] == EXIT_CONFIG and "none.parquet" in told["error"]


def test_the_process_that_measures_reaches_s3_as_this_one_does(spec, tmp_path, bucket, monkeypatch):
    def run(command, env):
        use_s3(S3Config())
        return subprocess.CompletedProcess(command, child.main(*command[3:]))

    monkeypatch.setattr(subprocess, "run", run)
    pq.write_table(pa.table({"text": [f"a report, number {i}" for i in range(6)]}), tmp_path / "a.parquet")
    assert storage_for(bucket).create(f"{bucket}/in/a.parquet", (tmp_path / "a.parquet").read_bytes())
    config = _config(spec, tmp_path, input=InputConfig(f"{bucket}/in", id=None), parts=(EVIDENCE,))
    (rows,) = code_reports.run(config)
    assert [row.setting for row in rows] == ["3 whole real reports"] * 2


@pytest.mark.long
def test_all_parts(spec, tmp_path):
    """Every part, the engine and the plain loop in processes of their own."""
    rows = [row for part in code_reports.run(_config(spec, tmp_path)) for row in part]
    assert [row.part for row in rows] == [CORE, CORE, LOOP, EVIDENCE, EVIDENCE, MEMORY, MEMORY, S3]
    assert [row.target for row in rows] == [3.0, None, 1.10, 2.2, 3.4, 1.10, None, 1.20]
    assert rows[-3].figure > rows[-2].figure > 50
    # A run takes dozens of requests however small it is.
    assert int(re.search("24 synthetic reports, ([0-9]+) requests for each 1,000", rows[-1].setting)[1]) > 1000
    assert list(tmp_path.iterdir()) == []
