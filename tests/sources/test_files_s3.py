"""Folders, globs and files of every format on S3, found and read as on a disk."""

import json
from pathlib import Path

import pytest

from engine.errors import ConfigError, InputChanged
from engine.sources import InputConfig, cut, input_base, keep_fields, list_files, read, source_of, survey
from engine.sources.synthetic import CorpusConfig, Settings, write
from engine.storage import storage_for


def sources(path, **settings):
    config = InputConfig(str(path), None, **settings)
    base = input_base(config)
    return [source_of(entry, base) for entry in list_files(config, storage_for(str(path)))]


def put(bucket, *names):
    for name in names:
        assert storage_for(bucket).create(f"{bucket}/{name}", b"id,text\n1,a\n")


@pytest.mark.parametrize(
    "name",
    [
        "two words.csv",
        "export [2024].csv",
        "site=C50.csv",
        "a,b.csv",
        "~tilde.csv",
        "报告.csv",
        "what?.csv",
        "*.csv",
        "a+%20.csv",
    ],
)
def test_a_file_or_folder_that_exists_is_never_a_glob(bucket, name):
    put(bucket, f"{name[:-4]}/{name}", f"{name[:-4]}/other.csv", f"{name[:-4]}-2/x.csv")
    assert sources(f"{bucket}/{name[:-4]}/{name}") == [name]
    assert sources(f"{bucket}/{name[:-4]}/") == sorted([name, "other.csv"])


def test_globs_mean_what_they_mean_on_a_disk(bucket, tmp_path):
    names = [
        "in/a/1.csv",
        "in/b/2.csv",
        "in/b/c/3.csv",
        "in/4.csv",
        "in/b.csv/5.csv",
        "in/.h/6.csv",
        "in [old]/a/7.csv",
        "in/x.md",
    ]
    put(bucket, *names)
    for name in names:
        Path(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        Path(tmp_path, name).write_text("id,text\n1,a\n")
    patterns = [
        "in/*/*.csv",
        "in/**/*.csv",
        "in/**",
        "*/a/*",
        "in/?.csv",
        "in/[ab]/*.csv",
        "in [old]/*/*.csv",
        "in*/a",
        "**/b/*",
        "in/*.csv",
    ]
    for pattern in patterns:
        assert sources(f"{bucket}/{pattern}") == sources(tmp_path / pattern), pattern


def test_what_other_programs_keep_for_themselves_is_left_out(bucket):
    put(bucket, "in/a.csv", "in/_temporary/0/a.csv", "in/_d=1/b.csv")
    log = b'{"remove": {"path": "a.csv"}}\n'
    assert storage_for(bucket).create(f"{bucket}/in/_delta_log/{1:020}.json", log)
    assert sources(f"{bucket}/in") == sources(f"{bucket}/in/**") == ["_d=1/b.csv", "a.csv"]
    assert sources(f"{bucket}/in/_t*/0/*") == ["_temporary/0/a.csv"]
    for path in (f"{bucket}/in", f"{bucket}/in/*.csv"):
        told = survey(InputConfig(path, None), storage_for(bucket)).notes
        assert told[-1].startswith("1 file read although the Delta table")


def test_a_bucket_is_a_folder_and_marks_of_folders_are_no_files(bucket):
    put(bucket, "a.csv", "b/c.csv")
    storage_for(bucket)._client.call("put_object", f"{bucket}/b/", Body=b"")
    assert sources(bucket) == sources(bucket + "/") == ["a.csv", "b/c.csv"]


@pytest.mark.parametrize(
    ("names", "path", "message"),
    [
        (["x/a.md"], "x", r"1 file, none that can be read"),
        ([], "absent", "no file or folder"),
        ([], "absent/*.csv", "nothing matches"),
        (["x/a.csv"], "x/*.parquet", "nothing matches"),
        (["x/a.csv.xz"], "x", "is packed"),
    ],
)
def test_nothing_to_read_is_one_clear_line(bucket, names, path, message):
    put(bucket, *names)
    with pytest.raises(ConfigError, match=message):
        sources(f"{bucket}/{path}")


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl", "text"])
def test_every_format_gives_the_same_records_as_on_a_disk(bucket, tmp_path, format, load):
    settings = Settings(seed=3, broken=0.1)
    for path in (str(tmp_path), f"{bucket}/corpus"):
        assert write(CorpusConfig(path, 60, settings, format, file_records=40)).written == 60
    inner, more = ("/texts", {}) if format == "text" else ("", {"id": "record_id"})
    one = load(f"{tmp_path}{inner}", 3000, **more)
    storage, config = storage_for(bucket), InputConfig(f"{bucket}/corpus{inner}", more.get("id"))
    files = list_files(config, storage)
    keep = keep_fields(config, storage, files)
    rows = [row for shard in cut(config, storage, files, 3000) for row in read(config, storage, shard, keep).to_pylist()]
    assert rows == one.rows and len(rows) >= 58


def test_a_shard_of_a_large_file_is_read_in_few_requests(bucket, store):
    lines = "".join(json.dumps({"id": i, "text": "word " * 500}) + "\n" for i in range(3000))
    storage_for(bucket).create(f"{bucket}/a.jsonl", lines.encode())
    config = InputConfig(f"{bucket}/a.jsonl", "id")
    storage = storage_for(bucket)
    files = list_files(config, storage)
    shards = list(cut(config, storage, files, 1 << 20))
    assert len(shards) > 5
    store.reset()
    tables = [read(config, storage, shard, []) for shard in shards]
    assert sum(table.num_rows for table in tables) == 3000
    assert len(store.requests) == len(shards)


def test_an_object_that_changed_since_the_plan_stops_the_reading(bucket):
    put(bucket, "a.csv")
    config, storage = InputConfig(f"{bucket}/a.csv", "id"), storage_for(bucket)
    (shard,) = cut(config, storage, list_files(config, storage), 1000)
    with storage.writer(f"{bucket}/a.csv") as file:
        file.write(b"id,text\n1,b\n")
    with pytest.raises(InputChanged, match=r"a\.csv"):
        read(config, storage, shard, [])
