"""The guarantees for studies of images: by the plain loop, in a child process, and in a cluster with a driver that is killed."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, InputChanged
from engine.models.base import ModelSpec
from engine.models.rows import finish
from engine.models.run import answer, prepare, probe, system_of
from engine.pipeline import ClusterConfig, RunConfig, isolate, plan, run, stages, work
from engine.records import IMAGES, TEXT
from engine.sources import InputConfig
from engine.storage import s3_config, storage_for
from tests.pipeline.conftest import Bench
from tests.pipeline.drivers import ended, start
from tests.small_images import dicom, png, put

SYSTEM = "tests.toys.grey"
KILLER = png(0, 1)
pytestmark = pytest.mark.timeout(400)


def config(path: Path | str, output: Path | str, shard_bytes: int | None = 400, **reading) -> RunConfig:
    reading = {"reads": IMAGES, **reading}
    cluster = ClusterConfig(child_memory_gb=0.5)
    return RunConfig(InputConfig(str(path), **reading), ModelSpec(SYSTEM), str(output), cluster, shard_bytes=shard_bytes)


def greys(count: int) -> dict[str, bytes]:
    return {f"i{n:02}__png": png(5 * n) for n in range(count)}


def published(output: Path) -> list[dict]:
    return [row for path in sorted(Path(output, "findings").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def failures(rows: list[dict]) -> dict[str, str]:
    return {row["record_id"]: row["failure"]["kind"] for row in rows if row["failure"]}


def coded(bench: Bench) -> list[dict]:
    return pa.concat_tables([work.code(bench.job, bench.system, each.shard) for each in bench.plan.shards]).to_pylist()


def test_files_to_rows(tmp_path):
    put(tmp_path / "in", **greys(40), broken__png=b"no image", empty__jpg=b"")
    bench = Bench(config(tmp_path / "in", tmp_path / "out"))
    assert len(bench.plan.shards) > 3
    bench.code()
    bench.publish()
    rows = published(tmp_path / "out")
    assert sorted(row["record_id"] for row in rows) == sorted(path.name for path in (tmp_path / "in").iterdir())
    assert failures(rows) == {"broken.png": "not_an_image", "empty.jpg": "not_an_image"}
    for row in rows:
        if not row["failure"]:
            assert row["labels"][0]["prob"] == pytest.approx(5 * int(row["record_id"][1:3]) / 255)
            assert row["images"][0]["source"] == row["source"] == row["record_id"]


def test_neither_bytes_nor_paths_leave_prepare(tmp_path):
    put(tmp_path / "in", **greys(3))
    pq.write_table(pa.table({"image": [png(1)]}), tmp_path / "m.parquet")
    for path in (tmp_path / "in", tmp_path / "m.parquet"):
        bench = Bench(config(path, tmp_path / f"out-{path.name}"))
        meta, prepared = prepare(bench.system, work.read_shard(bench.job, bench.plan.shards[0].shard))
        assert IMAGES not in meta.column_names
        for table in (meta, prepared):
            assert b"PNG" not in str(table.to_pylist()).encode() and str(tmp_path) not in str(table.to_pylist())
        whole = finish(bench.system, bench.plan.keep, "", meta, answer(bench.system, prepared, bench.plan.keep))
        assert failures(whole.to_pylist()) == {}


def test_studies_of_a_manifest_and_their_plan(tmp_path):
    put(tmp_path / "in", **greys(4))
    table = {
        "image": ["i00.png", "i01.png", "i02.png", "gone.png", "i03.png"],
        "case": [1, 2, 1, 3, 4],
        "day": pa.array([0, 1, 2, 3, 4], pa.date32()),
    }
    pq.write_table(pa.table(table), tmp_path / "in" / "m.parquet")
    settings = config(tmp_path / "in" / "m.parquet", tmp_path / "out", study="case", keep=("day",))
    bench = Bench(settings)
    assert plan.read(bench.storage, bench.layout) == bench.plan
    bench.code()
    bench.publish()
    rows = published(tmp_path / "out")
    assert {row["record_id"]: len(row["images"] or ()) for row in rows} == {"1": 2, "2": 1, "3": 0, "4": 1}
    assert failures(rows) == {"3": "unreadable_file"}
    assert rows[0]["labels"][0]["prob"] == pytest.approx(5 / 255)
    assert [row["day"].day for row in rows] == [1, 2, 4, 5]
    # The same folder elsewhere is the same input.
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = Bench(replace(settings, input=replace(settings.input, path=str(tmp_path / "moved" / "m.parquet"))))
    assert moved.run_id == bench.run_id and failures(coded(moved)) == {"3": "unreadable_file"}


def test_repeated_ids_and_added_files(tmp_path):
    put(tmp_path / "in", **greys(4))
    (tmp_path / "in" / "a.csv").write_text("image,id\ni00.png,x\ni01.png,y\ni02.png,x\n")
    settings = config(tmp_path / "in", tmp_path / "out", id="id", format="csv")
    first = Bench(settings)
    first.code()
    first.publish()
    assert failures(published(tmp_path / "out")) == {"a.csv#2": "duplicate_id"}
    (tmp_path / "in" / "b.csv").write_text("image,id\ni03.png,z\ni03.png,y\n")
    second = Bench(settings)
    assert second.plan.shards[: len(first.plan.shards)] == first.plan.shards
    for each in second.plan.shards[len(first.plan.shards) :]:
        second.commit(each)
    second.publish()
    rows = published(tmp_path / "out")
    assert sorted(row["record_id"] for row in rows if not row["failure"]) == ["x", "y", "z"]
    assert failures(rows) == {"a.csv#2": "duplicate_id", "b.csv#1": "duplicate_id"}


@pytest.mark.parametrize("change", ["other", "gone"])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_changed_image_stops_the_run_by_name(tmp_path, change, isolated):
    put(tmp_path / "in", **greys(3))
    (tmp_path / "in" / "m.csv").write_text("image\ni00.png\ni01.png\n")
    bench = Bench(config(tmp_path / "in" / "m.csv", tmp_path / "out", shard_bytes=10**6))
    if change == "gone":
        (tmp_path / "in" / "i01.png").unlink()
    else:
        put(tmp_path / "in", i01__png=png(200, 9))
    shard = bench.plan.shards[0].shard
    with pytest.raises(InputChanged, match=r"i01\.png"):
        isolate.code_isolated(bench.job, shard) if isolated else work.code(bench.job, bench.system, shard)


def test_a_changed_file_of_a_folder_is_found_before_the_next_start(tmp_path):
    put(tmp_path / "in", **greys(3))
    bench = Bench(config(tmp_path / "in", tmp_path / "out"))
    put(tmp_path / "in", i01__png=png(200, 9))
    with pytest.raises(InputChanged, match=r"i01\.png: changed since"):
        Bench(bench.config)


def test_a_child_gives_the_same_rows_and_finds_the_killer(tmp_path):
    put(tmp_path / "in", **greys(6), broken__png=b"no", a__dcm=dicom())
    bench = Bench(config(tmp_path / "in", tmp_path / "out", shard_bytes=10**6))
    (shard,) = [each.shard for each in bench.plan.shards]

    def isolated() -> list[dict]:
        return finish(bench.system, bench.plan.keep, bench.run_id, *isolate.code_isolated(bench.job, shard)).to_pylist()

    assert isolated() == coded(bench)
    put(tmp_path / "in", k__png=KILLER)
    bench = Bench(config(tmp_path / "in", tmp_path / "out2", shard_bytes=10**6))
    (shard,) = [each.shard for each in bench.plan.shards]
    assert failures(isolated()) == {"a.dcm": "not_an_image", "broken.png": "not_an_image", "k.png": "killed_worker"}


def test_a_slice_that_kills_its_reader_is_one_failed_record(tmp_path, monkeypatch):
    put(tmp_path / "in", **greys(2))
    bench = Bench(config(tmp_path / "in", tmp_path / "out", shard_bytes=10**6))
    monkeypatch.setattr(isolate, "_child", lambda *given, **more: isolate._Death("read"))
    meta, answers = isolate.code_isolated(bench.job, bench.plan.shards[0].shard)
    rows = finish(bench.system, bench.plan.keep, bench.run_id, meta, answers).to_pylist()
    assert [row["failure"]["kind"] for row in rows] == ["killed_worker"] * 2


def test_a_system_of_images_reads_images_alone(tmp_path):
    put(tmp_path / "in", a__png=png(1))
    (tmp_path / "in" / "t.csv").write_text("text\nx\n")
    settings = config(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"model\.system: tests\.toys\.grey reads images; the input is of text"):
        Bench(replace(settings, input=InputConfig(str(tmp_path / "in"))))
    with pytest.raises(ConfigError, match=r"tests\.toys\.plain reads text; the input is of images"):
        Bench(replace(settings, model=ModelSpec("tests.toys.plain")))
    assert not (tmp_path / "out").exists()


def test_a_probe_is_an_image(tmp_path):
    probe(system_of(ModelSpec(SYSTEM)), pa.schema([("view", pa.string()), ("age", pa.int32())]))


def test_shards_by_the_bytes_of_images_and_room_by_their_number(tmp_path):
    big = png(1, 4) + b"\0" * 3_000_000
    put(tmp_path / "in", **{f"i{n}__png": big for n in range(4)})
    (tmp_path / "in" / "m.csv").write_text("image,case\n" + "".join(f"i{n % 4}.png,{n // 2}\n" for n in range(12)))
    settings = config(tmp_path / "in" / "m.csv", tmp_path / "out", shard_bytes=None, study="case")
    assert settings.usual_bytes == 64 * 2**20
    planned = Bench(settings).plan.shards
    assert sum(each.bytes for each in planned) == 12 * len(big)
    # Of 6 MB each, a study is larger than the least size of a shard.
    assert [each.rows for each in planned] == [1] * 6
    assert stages._prepared_bytes(planned[0], IMAGES) == 2 * 448 * 448
    assert stages._prepared_bytes(planned[0], TEXT) == 8 * 2 * len(big)


def test_a_killed_driver_and_the_same_command_again(tmp_path, cluster):
    put(tmp_path / "in", **greys(30), broken__png=b"no", k__png=KILLER)
    order = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "system": SYSTEM, "reading": {"reads": IMAGES}}
    for point in ("update:3", "publish"):
        code, _, err = ended(start(cluster, **order, die=point))
        assert code == -signal.SIGKILL, err
    code, out, err = ended(start(cluster, **order))
    assert code == 0 and json.loads(out)["records"] == 32, err
    rows = published(tmp_path / "out")
    assert sorted(row["record_id"] for row in rows) == sorted(os.listdir(tmp_path / "in"))
    assert failures(rows) == {"broken.png": "not_an_image", "k.png": "killed_worker"}
    (tmp_path / "in" / "k.png").unlink()
    code, _, err = ended(start(cluster, **order))
    assert code == 2 and "k.png: missing" in err


def test_an_image_that_changes_while_a_run_is_at_work_ends_it(tmp_path, cluster, monkeypatch):
    put(tmp_path / "in", **greys(3))
    (tmp_path / "in" / "m.csv").write_text("image\ni00.png\ni01.png\n")
    settings = config(tmp_path / "in" / "m.csv", tmp_path / "out")
    Bench(settings)
    put(tmp_path / "in", i01__png=png(200, 9))
    with pytest.raises(InputChanged, match=r"i01\.png"):
        run(settings)


def test_the_same_on_s3(bucket, cluster):
    for name, data in {"a.png": png(10), "b.png": png(250), "c": b"no", "m.csv": b"image,case\na.png,1\nb.png,1\nc,2\n"}.items():
        assert storage_for(bucket).create(f"{bucket}/in/{name}", data)
    settings = replace(config(f"{bucket}/in/m.csv", f"{bucket}/out", study="case"), s3=s3_config())
    assert run(settings).records == 2
    storage = storage_for(bucket)
    (file,) = storage.list(f"{bucket}/out/findings")
    rows = pq.read_table(pa.BufferReader(storage.read(file.path))).to_pylist()
    assert failures(rows) == {"2": "not_an_image"}
    assert rows[0]["labels"][0]["prob"] == pytest.approx(130 / 255)
