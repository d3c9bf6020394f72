"""The guarantees where input and output lie on an object store that misbehaves, by really killing and really failing."""

import io
import json
import signal
import subprocess
import time
from dataclasses import asdict, replace

import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, RetryableError
from engine.models.rows import finish
from engine.pipeline import RunConfig, isolate, run, status
from engine.storage import s3_config, storage_for
from tests.pipeline.conftest import MEBI, Bench, config, texts
from tests.pipeline.conftest import rows as local_rows
from tests.pipeline.drivers import ended, start
from tests.store import CUT, LOST, SLOW, Fault, error

ALWAYS = 10**6
pytestmark = pytest.mark.timeout(600)


def put(bucket: str, records: dict[str, str], name: str = "a") -> None:
    data = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in records.items())
    assert storage_for(bucket).create(f"{bucket}/in/{name}.jsonl", data.encode())


def drive(bucket: str, cluster: str, **order) -> subprocess.Popen:
    """Starts a driver on `in` and `out`."""
    s3 = {**asdict(s3_config()), "retry_seconds": 60.0, **order.pop("s3", {})}
    return start(cluster, **{"input": f"{bucket}/in", "output": f"{bucket}/out", "s3": s3, **order})


def rows(output: str) -> list[dict]:
    storage = storage_for(output)
    return [row for e in storage.list(f"{output}/codes") for row in pq.read_table(io.BytesIO(storage.read(e.path))).to_pylist()]


def assert_once(output: str, names) -> None:
    found = rows(output)
    assert sorted(row["record_id"] for row in found) == sorted(names)
    assert {row["decision"] for row in found} <= {"auto", "review"}


def settings(bucket: str, **more) -> RunConfig:
    return config(f"{bucket}/in", f"{bucket}/out", s3=s3_config(), **more)


@pytest.mark.long
@pytest.mark.parametrize("points", [["update:3"], ["start", "publish", "manifest"]])
def test_a_killed_driver_and_the_same_command_again(bucket, store, cluster, points):
    put(bucket, texts(60))
    for point in points:
        code, _, err = ended(drive(bucket, cluster, die=point, runtime={"pause": 0.05}))
        assert code == -signal.SIGKILL, err
        if point == "update:3":
            assert status(f"{bucket}/out").shards >= 3
    assert not storage_for(bucket).is_folder(f"{bucket}/out/codes")
    code, out, err = ended(drive(bucket, cluster))
    assert code == 0, err
    # Where all was coded when the publication was cut off, the next driver neither codes nor starts Ray.
    assert json.loads(out)["records"] == 60 and json.loads(out)["ray"] is (points == ["update:3"])
    assert_once(f"{bucket}/out", texts(60))
    # Where things lay on their way out nothing is left, and nothing tells of the service or its keys.
    left = [entry.path.removeprefix(f"{bucket}/out/").split("/")[0] for entry in storage_for(bucket).list(f"{bucket}/out")]
    assert sorted(set(left)) == ["_manifests", "_plan", "_run.json", "codes"]
    for entry in storage_for(bucket).list(bucket):
        data = storage_for(bucket).read(entry.path)
        assert store.url.encode() not in data and b"testing" not in data
    before = list(storage_for(bucket).list(bucket))
    store.reset()
    assert ended(drive(bucket, cluster))[0] == 0
    assert list(storage_for(bucket).list(bucket)) == before
    assert store.count(r"PUT .*/out/(?!\.probe)") == 0


@pytest.mark.long
def test_two_drivers_at_once(bucket, cluster):
    put(bucket, texts(60))
    for driver in [drive(bucket, cluster, runtime={"pause": 0.05}) for _ in range(2)]:
        code, _, err = ended(driver)
        assert code == 0, err
    assert_once(f"{bucket}/out", texts(60))
    assert status(f"{bucket}/out").generations == 1


def test_a_bad_day_costs_nothing_but_time(bucket, store, cluster):
    """Throttling, lost answers, late ones and broken bodies all along."""
    put(bucket, texts(60))
    harm = [
        error("SlowDown", 503, "PUT .*_shards", 4),
        error("InternalError", 500, "GET .*_receipts", 3),
        Fault("PUT .*_receipts", LOST, 3),
        Fault("PUT .*_attempts", LOST, 3),
        Fault("PUT .*_manifests/0001.json", LOST, 1),
        Fault("PUT .*_plan", LOST, 1),
        Fault("PUT .*codes", LOST, 1),
        Fault("GET .*/in/a.jsonl", CUT, 4),
        Fault("GET .*_shards", CUT, 3),
        Fault("PUT .*_receipts", SLOW, 1, seconds=7.0),
    ]
    with store.harmed(*harm):
        run(config(f"{bucket}/in", f"{bucket}/out", s3=replace(s3_config(), timeout_seconds=5.0, retry_seconds=60.0)))
    assert [fault.pattern for fault in harm if not fault.met and "GET .*_receipts" not in fault.pattern] == []
    assert_once(f"{bucket}/out", texts(60))
    # A lost answer must not look like a lost race: no shard was done twice.
    assert status(f"{bucket}/out").retried == 0


@pytest.mark.parametrize("stage", [*(pytest.param(s, marks=pytest.mark.long) for s in ("_attempts", "_shards")), "_publish"])
def test_a_bucket_that_vanishes_is_exit_3_and_the_same_command_goes_on(bucket, store, cluster, stage):
    put(bucket, texts(60))
    # From the fourth request of its kind on the bucket is gone, for everyone.
    gone = error("NoSuchBucket", 404, "/bucket-", ALWAYS)
    store.faults = [Trigger(f"PUT .*{stage}", store, gone, 4 if stage != "_publish" else 1)]
    with pytest.raises(RetryableError, match="the bucket is gone; run the same command again") as caught:
        run(settings(bucket))
    assert gone.met > 0 and caught.value.exit_code == 3 and store.url not in str(caught.value)
    store.reset()
    run(settings(bucket))
    assert_once(f"{bucket}/out", texts(60))


class Trigger(Fault):
    """Lets requests through, and with the n-th that matches puts another fault in its place."""

    def __init__(self, pattern: str, store, then: Fault, nth: int) -> None:
        super().__init__(pattern, "nothing", ALWAYS)
        self._store, self._then, self._nth = store, then, nth

    def meets(self, request: str) -> bool:
        if super().meets(request) and self.met >= self._nth:
            self._store.faults = [self._then]
        return False


@pytest.mark.long
def test_a_service_that_stays_slow_is_exit_3_and_the_same_command_goes_on(bucket, store, cluster):
    put(bucket, texts(30))
    with store.harmed(error("SlowDown", 503, "PUT .*_shards", ALWAYS)):
        code, _, err = ended(drive(bucket, cluster, s3={"retry_seconds": 2.0}))
    assert code == 3 and "run the same command again" in err
    code, _, err = ended(drive(bucket, cluster))
    assert code == 0, err
    assert_once(f"{bucket}/out", texts(30))


@pytest.mark.long
def test_a_file_that_changes_while_it_is_read_stops_the_run(bucket, store, cluster):
    put(bucket, texts(60))
    put(bucket, texts(10, 60), "b")
    changed = Trigger("PUT .*_attempts", store, Fault("nothing", "error"), 2)
    with store.harmed(changed):
        driver = drive(bucket, cluster, runtime={"pause": 0.5})
        end = time.monotonic() + 300
        while changed in store.faults and time.monotonic() < end:
            time.sleep(0.05)
        with storage_for(bucket).writer(f"{bucket}/in/a.jsonl") as file:
            file.write(b'{"id": "other", "text": "another"}\n')
        code, _, err = ended(driver)
    assert code == 2, err
    assert "a.jsonl" in err and "changed" in err


def test_requests_for_a_thousand_reports(bucket, store, cluster, monkeypatch):
    """Every request costs money and some milliseconds: four PUTs and three GETs a shard, and some fifty a run. The sign of life
    takes five, and then one or two each time that it is given again, which goes by the clock and is left out here."""
    monkeypatch.setattr("engine.pipeline.alive.BEAT", 1e6)
    put(bucket, texts(1000))
    store.reset()
    summary = run(settings(bucket, shard_bytes=8000))
    shards = summary.shards_total
    assert shards >= 8 and summary.records == 1000
    kinds = {kind: store.count(f"^{kind} ") for kind in ("PUT", "GET", "HEAD", "POST", "DELETE")}
    signs = store.count("_drivers")
    assert signs <= 5, signs
    assert len(store.requests) - signs <= 7 * shards + 54, (shards, kinds)
    assert kinds["HEAD"] <= 4, kinds
    assert store.count("_attempts") <= 2 * shards + 3
    assert_once(f"{bucket}/out", texts(1000))


def by_hand(where: RunConfig) -> list[dict]:
    """A run without Ray; the manifests."""
    one = Bench(where, storage_for(where.output))
    one.code()
    return one.publish()


def test_new_files_are_a_new_generation_and_ids_are_unique_over_both(bucket):
    put(bucket, texts(20))
    by_hand(settings(bucket))
    put(bucket, {**texts(5, 20), "r0003": "again"}, "b")
    assert [manifest["rows"] for manifest in by_hand(settings(bucket))] == [20, 6]
    found = {row["record_id"]: row for row in rows(f"{bucket}/out")}
    assert len(found) == 26
    assert found["b.jsonl#5"]["failure"]["kind"] == "duplicate_id" and found["b.jsonl#5"]["source_id"] == "r0003"


def test_local_input_to_s3_and_back(bucket, tmp_path):
    put(bucket, texts(20))
    by_hand(config(f"{bucket}/in", tmp_path / "out"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(storage_for(bucket).read(f"{bucket}/in/a.jsonl"))
    by_hand(config(tmp_path / "in", f"{bucket}/out"))
    assert rows(f"{bucket}/out") == local_rows(tmp_path / "out") and len(rows(f"{bucket}/out")) == 20


def test_an_output_inside_the_input_is_refused(bucket):
    put(bucket, texts(2))
    with pytest.raises(ConfigError, match="lies inside the input folder"):
        run(config(f"{bucket}/in", f"{bucket}/in/out", s3=s3_config()))
    assert not storage_for(bucket).is_folder(f"{bucket}/in/out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "s3://no-such-bucket-here/in"}, "no such bucket"),
        ({"output": "s3://no-such-bucket-here/out"}, "no such bucket"),
        ({"input": "absent"}, "no file or folder"),
        ({"s3": {"endpoint": "http://127.0.0.1:9"}}, "storage.endpoint"),
    ],
    ids=["input", "output", "key", "endpoint"],
)
def test_a_wrong_setting_is_exit_2_within_a_minute_and_one_line(bucket, change, message):
    put(bucket, texts(2))
    if change.get("input") == "absent":
        change = {"input": f"{bucket}/absent"}
    begun = time.monotonic()
    places = {"input": f"{bucket}/in", "output": f"{bucket}/out", **change}
    s3 = replace(s3_config(), **places.pop("s3", {}))
    with pytest.raises(ConfigError, match=message) as caught:
        run(config(places["input"], places["output"], s3=s3))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert time.monotonic() - begun < 60


def test_a_child_process_reads_from_s3_too(bucket):
    put(bucket, {**texts(4), "killer": "EXITNOW"})
    one = Bench(settings(bucket, shard_bytes=100_000), storage_for(bucket))
    job = replace(one.job, s3=s3_config(), child_memory=1024 * MEBI)
    meta, answers = isolate.code_isolated(job, one.plan.shards[0].shard)
    found = finish(one.system, one.plan.keep, one.run_id, meta, answers).to_pylist()
    assert [row["record_id"] for row in found if row["failure"]] == ["killer"] and len(found) == 5
