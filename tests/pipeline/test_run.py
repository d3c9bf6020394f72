"""The guarantees, by really killing: each test ends with the same command, and every record has one row."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.pipeline import cluster as local
from engine.pipeline import plan, run, stages, status
from engine.pipeline.progress import Progress
from tests.pipeline.conftest import Bench, assert_once, config, rows, texts, write_input
from tests.pipeline.drivers import ended, start

CANARY = "CANARYPHRASE"
pytestmark = pytest.mark.timeout(400)


def drive(tmp_path: Path, cluster: str, /, **order) -> subprocess.Popen:
    """Starts a driver on `in` and `out`."""
    return start(cluster, **{"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), **order})


def test_a_driver_killed_at_four_points_and_the_same_command_again(tmp_path, cluster):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    for point in ("start", "update:3", "publish", "manifest"):
        code, _, err = ended(drive(tmp_path, cluster, die=point, runtime={"pause": 0.05}))
        assert code == -signal.SIGKILL, err
        if point == "update:3":
            assert status(str(tmp_path / "out")).shards >= 3
    assert not list(Path(tmp_path, "out").glob("codes/*"))
    code, out, err = ended(drive(tmp_path, cluster))
    assert code == 0, err
    # All was coded when the publication was cut off, so this driver neither codes nor starts Ray.
    assert json.loads(out) == {"records": 60, "new": 0, "ray": False}
    assert_once(tmp_path / "out", list(texts(60)))
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(tmp_path, "out").rglob("*"))
    assert ended(drive(tmp_path, cluster))[0] == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in Path(tmp_path, "out").rglob("*")) == before


def test_records_that_kill_cost_themselves_only_and_no_text_gets_out(tmp_path, cluster, capfd, caplog):
    import ray

    records = {name: f"{CANARY} {text}" for name, text in texts(40).items()}
    records["r0005"] += " EXITNOW"
    records["r0020"] += " HOGMEMORY"
    records["r0030"] += " RAISENOW"
    records["r0035"] += " NANNOW"
    path = write_input(tmp_path / "in" / "a.jsonl", records)
    with path.open("a") as file:
        file.write(f'{{"id": "broken", "text": "{CANARY}\n')
    caplog.set_level("INFO")
    run(config(tmp_path / "in", tmp_path / "out"))
    found = {row["record_id"]: row["failure"] for row in rows(tmp_path / "out") if row["failure"]}
    assert {name: failure["kind"] for name, failure in found.items()} == {
        "r0005": "killed_worker",
        "r0020": "out_of_memory",
        "r0030": "model_error",
        "r0035": "model_error",
        "a.jsonl:40": "parse_error",
    }
    assert found["r0030"]["detail"] == "ValueError"
    assert len(rows(tmp_path / "out")) == 41
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    places = [path for path in [*session.rglob("*"), *Path(tmp_path, "out").rglob("*")] if path.is_file()]
    assert len(places) > 10
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err + caplog.text
    assert "committed" in caplog.text
    assert [path for path in places if CANARY.encode() in path.read_bytes()] == []


def test_a_killed_actor_accuses_nobody(tmp_path, cluster):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    pids = tmp_path / "pids"
    pids.mkdir()
    driver = drive(tmp_path, cluster, runtime={"pause": 0.3, "pids": str(pids)})
    end = time.monotonic() + 200
    while not list(Path(tmp_path, "out").glob("_receipts/*.json")) and time.monotonic() < end:
        time.sleep(0.1)
    (victim,) = [int(path.name) for path in pids.iterdir()]
    os.kill(victim, signal.SIGKILL)
    code, _, err = ended(driver)
    assert code == 0, err
    assert len(list(pids.iterdir())) > 1
    assert_once(tmp_path / "out", list(texts(60)))


def test_two_drivers_at_once(tmp_path, cluster):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    both = [drive(tmp_path, cluster, runtime={"pause": 0.05}) for _ in range(2)]
    for driver in both:
        code, _, err = ended(driver)
        assert code == 0, err
    assert_once(tmp_path / "out", list(texts(60)))
    assert status(str(tmp_path / "out")).generations == 1


def test_a_single_record_starts_a_single_actor_and_ray_has_nothing_to_say(tmp_path, cluster):
    write_input(tmp_path / "in" / "a.jsonl", texts(1))
    places = tmp_path / "places"
    places.mkdir()
    settings = config(tmp_path / "in", tmp_path / "out", shard_bytes=None, cluster={"actors": 3}, runtime={"places": str(places)})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(settings)
    assert len(list(places.glob("run-*"))) == 1
    assert_once(tmp_path / "out", list(texts(1)))


def test_rows_do_not_depend_on_shards_and_actors(tmp_path, cluster):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    run(config(tmp_path / "in", tmp_path / "few", shard_bytes=100_000))
    run(config(tmp_path / "in", tmp_path / "many", shard_bytes=300, cluster={"actors": 2}))
    assert rows(tmp_path / "few") == rows(tmp_path / "many")


def test_three_operators(bench, cluster):
    one = bench()
    planned = stages.dataset(one.plan.shards, one.job, one.config.cluster, {})
    assert [name.split("(")[1].rstrip(")") for name in stages.operators(planned)] == ["read_stage", "ModelStage", "commit_stage"]


def test_what_is_read_ahead_has_bounded_room(bench, cluster):
    one = bench()
    planned = stages.dataset(one.plan.shards, one.job, one.config.cluster, {})
    assert planned.context.execution_options.resource_limits.object_store_memory == 64 << 20
    large = [SimpleNamespace(name=item.name, shard=item.shard, bytes=5 << 20) for item in one.plan.shards]
    planned = stages.dataset(large, one.job, replace(one.config.cluster, actors=3), {})
    assert planned.context.execution_options.resource_limits.object_store_memory == 3 * 32 * (5 << 20)


def test_a_file_that_changes_after_planning_stops_the_run_by_name(tmp_path, cluster):
    from engine.errors import InputChanged

    write_input(tmp_path / "in" / "a.jsonl", texts(30))
    one = Bench(config(tmp_path / "in", tmp_path / "out"))
    write_input(tmp_path / "in" / "a.jsonl", texts(31))
    with pytest.raises(InputChanged, match=r"a\.jsonl"):
        list(stages.receipts(one.plan.shards, one.job, one.config.cluster, {}))


def keeping(settings, *names):
    return replace(settings, input=replace(settings.input, keep=names))


@pytest.mark.parametrize("existing", [False, True])
def test_a_refused_command_leaves_the_folder_as_it_was_and_the_corrected_one_runs(tmp_path, existing):
    out = tmp_path / "out"
    if existing:
        out.mkdir()
    settings = config(tmp_path / "in", out)
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="is empty"):
        Bench(settings)
    ids = [f"r{i}" for i in range(3)]
    table = {"id": ids, "text": ["a"] * 3, "ward": [["x"]] * 3, "stay": [1.5] * 3, "decision": ["d"] * 3}
    pq.write_table(pa.table(table), tmp_path / "in" / "a.parquet")
    other = {"ward": ["x"] * 3, "stay": [2**53 + 1] * 3}
    pq.write_table(pa.table({**table, **other}), tmp_path / "in" / "b.parquet")
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(b"id,text\n" + b'1,"a \\"small\\" one"\n' * 20))
    refused = [
        (replace(settings, input=replace(settings.input, text="report")), "no column 'report'"),
        (replace(settings, input=replace(settings.input, id="stay")), "column 'stay' of a.parquet is double"),
        (keeping(settings, "ward"), "'ward' is"),
        (keeping(settings, "stay"), "'stay' of b.parquet is int64"),
        (keeping(settings, "decision"), "name of a result column"),
        (replace(settings, input=replace(settings.input, path=str(tmp_path / "nowhere"))), "no file or folder"),
        (replace(settings, input=replace(settings.input, path=str(torn))), r"torn\.csv\.gz, line 2: .*input\.escape"),
        (replace(settings, output=str(tmp_path / "in" / "out")), "inside the input folder"),
    ]
    for each, message in refused:
        with pytest.raises(ConfigError, match=message):
            Bench(each)
    assert (out.exists(), [path.name for path in tmp_path.rglob("*") if path.name[0] in "._"]) == (existing, [])
    one = Bench(keeping(settings))
    one.code()
    one.publish()
    assert len(rows(out)) == 6


def test_a_folder_of_another_run_is_refused_before_its_input_is_looked_at(tmp_path):
    write_input(tmp_path / "in" / "a.jsonl", texts(3))
    Bench(config(tmp_path / "in", tmp_path / "out"))
    with pytest.raises(ConfigError, match="belongs to another run"):
        Bench(config(tmp_path / "nowhere", tmp_path / "out", options={"x": 1}))


def test_a_driver_whose_settings_lose_the_race_for_the_folder_is_told(tmp_path, monkeypatch):
    write_input(tmp_path / "in" / "a.jsonl", texts(3))
    draft = plan.draft

    def late(settings, *more):
        """Another driver claims the folder while this one cuts its input."""
        drafted = draft(settings, *more)
        monkeypatch.setattr(plan, "draft", draft)
        Bench(config(tmp_path / "in", tmp_path / "out", options={"x": 1}))
        return drafted

    monkeypatch.setattr(plan, "draft", late)
    with pytest.raises(ConfigError, match="belongs to another run"):
        Bench(config(tmp_path / "in", tmp_path / "out"))


@pytest.mark.long
def test_a_record_that_kills_the_reader(tmp_path, cluster):
    records = texts(20)
    records["r0005"] += " EXITNOW"
    write_input(tmp_path / "in" / "a.jsonl", records)
    run(config(tmp_path / "in", tmp_path / "out", options={"stage": "prepare"}))
    assert_once(tmp_path / "out", list(records), {"r0005": "killed_worker"})


RUN = sys.modules["engine.pipeline.run"]


@pytest.mark.parametrize(
    ("begun", "most", "since"),
    [
        (20, 100.0, 20.0),
        (2, 100.0, 5.0),  # less than was worked: the clocks do not agree
        (9000, 100.0, 100.0),  # longer than Ray has been there: the model's clock is behind
    ],
)
def test_how_long_a_shard_took_is_bounded_by_what_this_process_has_seen(begun, most, since):
    ended = datetime.now(UTC)
    times = {"model_at": (ended - timedelta(seconds=begun)).isoformat(), "at": ended.isoformat()}
    assert RUN._since({**times, "seconds": {"read": 50.0, "model": 4.0, "commit": 1.0}}, most) == pytest.approx(since)


@pytest.mark.parametrize(("actors", "threads", "working"), [(2, 4, 2), (8, 2, 4)])
def test_models_that_have_no_work_take_no_threads_from_the_others(bench, monkeypatch, actors, threads, working):
    one = bench()
    todo = one.plan.shards[-4:]
    for planned in one.plan.shards[:-4]:
        one.commit(planned)
    seen, standing = [], []

    def receipts(todo, job, crew, environment):
        seen.append((crew.actors, environment["OMP_NUM_THREADS"]))
        return [{**one.commit(planned), "seconds": {}} for planned in todo]

    class Told(Progress):
        def start(self, state):
            standing.append(state.at_once)

    monkeypatch.setattr(stages, "receipts", receipts)
    monkeypatch.setattr(local, "connected", lambda _: nullcontext())
    monkeypatch.setattr(local, "processors", lambda: 8)
    monkeypatch.setattr(RUN, "_since", lambda *_: 1.0)
    run(replace(one.config, cluster=replace(one.config.cluster, actors=actors)), Told())
    assert len(todo) == 4 and seen == [(working, str(threads))] and standing == [working]
