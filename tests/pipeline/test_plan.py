import gzip
import json
import os
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, InputChanged
from engine.pipeline import plan
from engine.pipeline.progress import Progress
from engine.pipeline.run import begin
from engine.storage import storage_for
from tests.pipeline.conftest import Bench, assert_once, config, rows, texts, write_input


def test_shards_cover_the_input_once_and_are_read_back_as_stored(bench):
    one = bench()
    again = plan.read(one.storage, one.layout)
    assert again == one.plan
    assert sum(shard.rows for shard in again.shards) == again.rows == 30
    assert len(again.shards) > 3
    assert [shard.name for shard in again.shards] == sorted(shard.name for shard in again.shards)


def test_another_shard_size_does_not_touch_a_stored_plan(bench, tmp_path):
    one = bench()
    assert Bench(config(tmp_path / "in", tmp_path / "out", shard_bytes=10_000)).plan == one.plan


def test_new_files_become_a_new_part(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "0-first-by-name.jsonl", texts(5, 100))
    two = Bench(one.config)
    assert two.plan.shards[: len(one.plan.shards)] == one.plan.shards
    assert two.plan.shards[len(one.plan.shards)].name == "0001-000000"
    assert two.plan.rows == 35


def month(path, name, **columns):
    path.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table({"id": [f"{name}{i}" for i in range(2)], "text": ["a", "b"], **columns}), path / f"{name}.parquet")


def test_a_second_month_is_read_in_the_types_of_the_run(tmp_path):
    month(tmp_path / "in", "january", age=pa.array([40, 41], pa.int32()), ward=["x", "y"])
    settings = config(tmp_path / "in", tmp_path / "out")
    settings = replace(settings, input=replace(settings.input, keep=("age", "ward")))
    one = Bench(settings)
    one.code()
    one.publish()
    month(tmp_path / "in", "february", age=[42.0, None], ward=pa.array(["z", None], pa.large_string()))
    two = Bench(settings)
    two.code()
    two.publish()
    assert [(row["age"], row["ward"]) for row in rows(tmp_path / "out")] == [(40, "x"), (41, "y"), (42, "z"), (None, None)]
    schemas = [pq.read_schema(path) for path in sorted((tmp_path / "out" / "codes").iterdir())]
    assert schemas[0] == schemas[1] and schemas[0].field("age").type == pa.int32()
    month(tmp_path / "in", "march", age=[0.5, None], ward=["z", None])
    with pytest.raises(ConfigError, match=r"column 'age' of march.parquet is double, in the rest of the run int32"):
        Bench(settings)
    assert plan.read(one.storage, one.layout) == two.plan


def test_a_changed_file_is_named(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "a.jsonl", texts(29))
    with pytest.raises(InputChanged, match=r"a\.jsonl: changed"):
        Bench(one.config)


def test_a_touched_file_of_the_same_size_is_a_changed_one(bench, tmp_path):
    one = bench()
    os.utime(tmp_path / "in" / "a.jsonl", ns=(1, 1))
    with pytest.raises(InputChanged):
        Bench(one.config)


def test_a_missing_file_is_named(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "b.jsonl", texts(2, 50))
    Bench(one.config)
    (tmp_path / "in" / "a.jsonl").unlink()
    with pytest.raises(InputChanged, match=r"a\.jsonl: missing"):
        Bench(one.config)


def move(one, tmp_path, name):
    """The bench's run as the same command with another input path sees it."""
    os.rename(one.config.input.path, tmp_path / name)
    return Bench(config(tmp_path / name, tmp_path / "out"))


def test_an_input_that_was_moved_is_the_same_input(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "deep" / "b.jsonl", texts(10, 50))
    one = Bench(one.config)
    one.code(), one.publish()
    two = move(one, tmp_path, "elsewhere")
    assert [shard.name for shard in two.plan.shards] == [shard.name for shard in one.plan.shards]
    assert {entry.path for entry in two.plan.files} == {str(tmp_path / "elsewhere" / n) for n in ("a.jsonl", "deep/b.jsonl")}
    assert len(two.publish()) == 1
    write_input(tmp_path / "elsewhere" / "c.jsonl", texts(5, 90))
    three = Bench(two.config)
    assert [shard.name for shard in three.plan.shards if shard.name.startswith("0002")] == ["0002-000000"]
    four = move(three, tmp_path, "in")
    for planned in four.plan.shards[-1:]:
        four.commit(planned)
    four.publish()
    assert_once(tmp_path / "out", list({**texts(30), **texts(10, 50), **texts(5, 90)}))


def test_workers_read_a_moved_input_where_it_lies_now(bench, tmp_path):
    one = bench()
    half = len(one.plan.shards) // 2
    for planned in one.plan.shards[:half]:
        one.commit(planned)
    two = move(one, tmp_path, "elsewhere")
    for planned in two.plan.shards[half:]:
        two.commit(planned)
    two.publish()
    assert_once(tmp_path / "out", list(texts(30)))
    assert sorted({row["source"] for row in rows(tmp_path / "out")}) == ["a.jsonl"]


def test_an_input_moved_within_an_object_store_is_the_same_input(tmp_path, bucket):
    storage = storage_for(bucket)
    data = write_input(tmp_path / "a.jsonl", texts(30)).read_bytes()
    assert storage.create(f"{bucket}/in/deep/a.jsonl", data)
    one = Bench(config(f"{bucket}/in", tmp_path / "out"))
    assert storage.link(f"{bucket}/in/deep/a.jsonl", f"{bucket}/moved/deep/a.jsonl")
    storage.remove(f"{bucket}/in/deep/a.jsonl")
    two = Bench(config(f"{bucket}/moved", tmp_path / "out"))
    assert [shard.name for shard in two.plan.shards] == [shard.name for shard in one.plan.shards]
    two.code(), two.publish()
    assert_once(tmp_path / "out", list(texts(30)))
    assert {row["source"] for row in rows(tmp_path / "out")} == {"deep/a.jsonl"}


def test_a_second_month_comes_to_a_moved_input_of_folders_packed_files_and_what_is_left_out(tmp_path):
    """The folders' column, the run's types, and names relative to the input hold together."""
    settings = config(tmp_path / "in", tmp_path / "out")
    settings = replace(settings, input=replace(settings.input, keep=("age", "year")))
    (tmp_path / "in" / "_temporary").mkdir(parents=True)
    (tmp_path / "in" / "_temporary" / "x.csv").write_text("nothing\n")
    month(tmp_path / "in" / "year=2023", "january", age=pa.array([40, 41], pa.int32()))
    one = Bench(settings)
    one.code(), one.publish()
    os.rename(tmp_path / "in", tmp_path / "moved")
    moved = replace(settings, input=replace(settings.input, path=str(tmp_path / "moved")))
    month(tmp_path / "moved" / "year=2024", "february", age=[42.0, None])
    packed = tmp_path / "moved" / "year=2024" / "march.csv.gz"
    packed.write_bytes(gzip.compress(b"id,text,age\nm0,a,43\n"))
    with pytest.raises(ConfigError, match=r"'age' of year=2024/march.csv.gz is string, in the rest of the run int32"):
        Bench(moved)
    assert plan.read(one.storage, one.layout) == one.plan
    packed.unlink()
    two = Bench(moved)
    two.code(), two.publish()
    found = [(row["source"], row["age"], row["year"]) for row in rows(tmp_path / "out")]
    january, february = "year=2023/january.parquet", "year=2024/february.parquet"
    assert found == [(january, 40, "2023"), (january, 41, "2023"), (february, 42, "2024"), (february, None, "2024")]
    assert two.plan.bases == (str(tmp_path / "in"), str(tmp_path / "moved"))


def test_a_copy_whose_times_differ_has_changed_and_the_line_says_why(bench, tmp_path):
    one = bench()
    shutil.copytree(tmp_path / "in", tmp_path / "kept")
    Bench(config(tmp_path / "kept", tmp_path / "out"))
    shutil.copytree(tmp_path / "in", tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / "a.jsonl", ns=(1, 1))
    with pytest.raises(InputChanged, match=r"a\.jsonl: changed .* the input lay in .*/in; a copy must keep the times of change"):
        Bench(config(tmp_path / "copy", tmp_path / "out"))
    assert one.plan.bases == (str(tmp_path / "in"),)
    write_input(tmp_path / "other" / "b.jsonl", texts(3))
    with pytest.raises(InputChanged, match=r"a\.jsonl: missing from the input .* the input lay in .*/in; restore it"):
        Bench(config(tmp_path / "other", tmp_path / "out"))


def test_a_wider_path_adds_to_what_was_planned(tmp_path):
    write_input(tmp_path / "in" / "2023" / "b.jsonl", texts(5, 60))
    one = Bench(config(tmp_path / "in" / "2023", tmp_path / "out"))
    two = Bench(config(tmp_path / "in" / "*" / "*.jsonl", tmp_path / "out"))
    assert two.plan == one.plan
    write_input(tmp_path / "in" / "2024" / "c.jsonl", texts(5, 70))
    three = Bench(config(tmp_path / "in", tmp_path / "out"))
    assert three.plan.rows == 10 and three.plan.bases == (str(tmp_path / "in" / "2023"), str(tmp_path / "in"))


def test_a_new_name_of_a_planned_file_changes_nothing(bench, tmp_path):
    one = bench()
    (tmp_path / "in" / "0.jsonl").hardlink_to(tmp_path / "in" / "a.jsonl")
    assert Bench(one.config).plan == one.plan
    assert Bench(move(one, tmp_path, "moved").config).plan.rows == 30


def test_what_is_left_out_is_told(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "_temporary" / "a.jsonl", texts(2))

    lines = []

    class Told(Progress):
        def note(self, line):
            lines.append(line)

    assert begin(one.config, one.storage, one.system, one.found, Told()) == (one.run_id, one.plan)
    assert [line.split(",")[0] for line in lines] == ["1 file skipped"]


def test_shards_of_packed_files_are_sized_by_their_text(tmp_path):
    data = "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts(3000).items()).encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl.gz").write_bytes(gzip.compress(data))
    one = Bench(config(tmp_path / "in", tmp_path / "out", shard_bytes=1000))
    assert one.plan.rows == 3000 and one.plan.bytes == len(data)
    assert len(one.plan.shards) > 20


@pytest.mark.parametrize("line", ["{}", "[]", "3", "not json", '{"file": ["a"]}', '{"name": "x", "shard": {"slices": [{}]}}'])
def test_a_plan_damaged_in_any_line_is_refused(bench, line):
    one = bench()
    path = one.layout.part(0)
    data = one.storage.read(path)
    one.storage.remove(path)
    one.storage.create(path, data + line.encode() + b"\n")
    with pytest.raises(ConfigError, match="damaged"):
        plan.read(one.storage, one.layout)


def test_a_damaged_plan_is_refused(bench):
    one = bench()
    path = one.layout.part(0)
    one.storage.remove(path)
    one.storage.create(path, b'{"name": "x"}\n')
    with pytest.raises(ConfigError, match="damaged"):
        plan.read(one.storage, one.layout)


def test_a_driver_that_loses_the_part_takes_the_winners(bench, tmp_path, monkeypatch):
    one = bench()
    other = tmp_path / "other"
    settings = config(tmp_path / "in", other, shard_bytes=100)
    create = type(one.storage).create

    def late(self, path, data):
        if path.endswith("part-0000.jsonl") and not os.path.exists(path):
            create(self, path, self.read(one.layout.part(0)))
        return create(self, path, data)

    monkeypatch.setattr(type(one.storage), "create", late)
    assert Bench(settings).plan == one.plan


@pytest.mark.parametrize(
    ("asked", "total", "actors", "wanted"),
    [
        (None, 100, 1, 64 * 1024),  # never below 64 KiB
        (None, 8 * 2**20, 2, 2**19),  # 8 MiB over 2 actors x 8 shards
        (None, 2**30, 1, 2**20),  # usually 1 MiB
        (None, 2**40, 1, 54975582),  # 2^40 / 20,000, rounded up
        (1000, 2**30, 1, 53688),  # an asked size gives way to the limit too
        (500, 1000, 1, 500),
    ],
)
def test_shard_size(tmp_path, asked, total, actors, wanted):
    settings = config(tmp_path, tmp_path / "out", shard_bytes=asked, cluster={"actors": actors})
    assert plan.shard_bytes(settings, total) == wanted


@pytest.mark.parametrize(("total", "wanted"), [(100, 100), (16_000, 1000), (10**6, 1600), (10**9, 50_000)])
def test_shards_of_slow_work_are_smaller_by_as_much(tmp_path, total, wanted):
    settings = config(tmp_path, tmp_path / "out", shard_bytes=None, cluster={"actors": 2}, usual_bytes=1600)
    assert plan.shard_bytes(settings, total) == wanted


def test_files_that_are_named_are_read_whatever_lies_beside_them(bench, tmp_path):
    one = bench()
    write_input(tmp_path / "in" / "b.jsonl", texts(5, 100))
    (tmp_path / "in" / "c.txt").write_text("no table")
    files = plan.files(one.storage, one.layout)
    two = Bench(replace(one.config, output=str(tmp_path / "in" / "other"), files=files))
    assert two.plan.files == one.plan.files and two.plan.rows == 30
    assert Bench(two.config).plan == two.plan
    with pytest.raises(InputChanged, match=r"a\.jsonl: missing"):
        Bench(replace(two.config, files=[]))


def test_one_long_record_makes_no_fewer_shards_for_the_others(tmp_path):
    write_input(tmp_path / "in" / "a.jsonl", {"long": "x " * 2**21, "b": "y " * 50_000, "c": "z " * 50_000})
    settings = config(tmp_path / "in", tmp_path / "out", shard_bytes=None, cluster={"actors": 4})
    assert [shard.rows for shard in Bench(settings).plan.shards] == [1, 1, 1]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_small_input_has_a_shard_for_each_actor_where_there_are_records(tmp_path, format):
    # Of a small Parquet file most is no text at all.
    given = texts(9)
    if format == "jsonl":
        write_input(tmp_path / "in" / "a.jsonl", given)
    else:
        (tmp_path / "in").mkdir()
        pq.write_table(pa.table({"id": list(given), "text": list(given.values())}), tmp_path / "in" / "a.parquet")
    for actors, least in ((1, 1), (3, 3), (4, 4), (50, 9)):
        one = Bench(config(tmp_path / "in", tmp_path / f"out{actors}", shard_bytes=None, cluster={"actors": actors}))
        assert least <= len(one.plan.shards) <= 9
        assert one.plan.rows == 9 and (actors > 1 or len(one.plan.shards) == 1)
    # What is stored stays, whoever goes on with it.
    again = Bench(config(tmp_path / "in", tmp_path / "out3", shard_bytes=None, cluster={"actors": 50}))
    assert 3 <= len(again.plan.shards) < 9
    again.code()
    again.publish()
    assert_once(tmp_path / "out3", list(given))


def test_the_plan_holds_no_text(bench):
    one = bench({"a": "CANARYPHRASE in a report", "b": "x"})
    assert b"CANARYPHRASE" not in one.storage.read(one.layout.part(0))
    assert all(json.loads(line) for line in one.storage.read(one.layout.part(0)).splitlines())


def test_tables_within_the_input_folder_are_refused(tmp_path):
    write_input(tmp_path / "in" / "a.jsonl", texts(3))
    with pytest.raises(ConfigError, match="inside the input folder"):
        Bench(config(tmp_path / "in", tmp_path / "in" / "out"))
