"""Side tables: a map a part and a reduce, which go on where they were killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, ContractError
from engine.pipeline import tables
from engine.pipeline.tables import make
from engine.storage import storage_for
from tests.toys.counts import SCHEMA, table_of, total

ROOT = Path(__file__).resolve().parents[2]
CANARY = "CANARYPHRASE"
# Forty parts, more than are reduced at a time.
TEXTS = [f"liver cell of part{number} a" for number in range(40)]
WANTED = {"liver": 40, "cell": 40, "of": 40, **{f"part{number}": 1 for number in range(40)}}


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    return f"{tmp_path}/out" if request.param == "local" else f"{request.getfixturevalue('bucket')}/out"


def settings(tmp_path):
    return {"least": 2, "log": f"{tmp_path}/log"}


def logged(tmp_path):
    file = tmp_path / "log"
    return file.read_text().splitlines() if file.exists() else []


def counts(path):
    with storage_for(path).open(path) as file:
        table = pq.read_table(file)
    assert table.schema.equals(SCHEMA)
    return dict(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True))


def files(folder):
    return [entry.path.removeprefix(f"{folder}/") for entry in storage_for(folder).list(folder)]


def test_a_table_is_made_once_and_nothing_else_is_left(folder, tmp_path):
    said = []
    path = make(table_of(TEXTS), settings(tmp_path), folder, said.append)
    assert path == f"{folder}/counts/part-0.parquet" and counts(path) == WANTED
    assert said[0] == "counts: 1 of 40 parts" and said[-1] == "counts: 40 of 40 parts"
    # Where Ray runs already the parts are made side by side.
    assert sorted(logged(tmp_path)[:40]) == sorted(TEXTS) and logged(tmp_path)[40:] == ["total", "total", "total"]
    assert files(folder) == ["_counts/settings.json", "counts/part-0.parquet"]
    assert make(table_of(TEXTS), settings(tmp_path), folder, said.append) == path
    assert len(said) == 40 and len(logged(tmp_path)) == 43


def test_of_no_parts_it_is_empty(folder, tmp_path):
    assert counts(make(table_of([]), settings(tmp_path), folder, print)) == {}


@pytest.mark.parametrize(
    ("parts", "change", "named"),
    [
        (TEXTS[:3], {"least": 3}, "settings.least"),
        (TEXTS[:2], {}, "parts"),
        (TEXTS[:3], {"more": {"words": CANARY}}, "settings.more.words"),
    ],
)
def test_another_table_is_refused_by_the_names_of_what_differs(folder, tmp_path, parts, change, named):
    make(table_of(TEXTS[:3]), settings(tmp_path), folder, print)
    make(table_of(TEXTS[:3]), {**settings(tmp_path), "runtime": {"device": "cuda"}}, folder, print)
    with pytest.raises(ConfigError) as caught:
        make(table_of(parts), {**settings(tmp_path), **change}, folder, print)
    said = f"output.path: {folder}/_counts holds a side table with other settings ({named}); choose a new folder"
    assert str(caught.value) == said


def test_another_map_is_another_table(folder, tmp_path):
    make(table_of(TEXTS[:3]), settings(tmp_path), folder, print)
    with pytest.raises(ConfigError, match=r"\(map\)"):
        make(table_of(TEXTS[:3], map="tests.toys.counts:other"), settings(tmp_path), folder, print)


def test_mistakes_are_told_as_they_are_and_bugs_without_what_they_quote(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.path: there is nothing$"):
        make(table_of(["a b", "mistake"]), settings(tmp_path), f"{folder}/a", print)
    with pytest.raises(ContractError, match=r"counts: tests\.toys\.counts:count raised ValueError at counts\.py:\d+") as caught:
        make(table_of(["a b", f"slip {CANARY}"]), settings(tmp_path), f"{folder}/b", print)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert counts(make(table_of(["aa b", "mistake again"]), settings(tmp_path), f"{folder}/c", print)) == {
        "aa": 1,
        "again": 1,
        "mistake": 1,
    }


def start(folder, tmp_path, **more):
    order = {"folder": folder, "texts": TEXTS, "settings": settings(tmp_path), **more}
    command = [sys.executable, "-m", "tests.toys.counts", json.dumps(order)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("folder", ["local", "s3"], indirect=True)
def test_killed_in_the_map_and_before_the_reduce_it_goes_on(folder, tmp_path, request):
    more = {"endpoint": request.getfixturevalue("store").url} if folder.startswith("s3") else {}
    for die, done in ((TEXTS[17], 17), ("reduce", 40)):
        driver = start(folder, tmp_path, die=die, **more)
        assert (driver.communicate(timeout=100), driver.returncode)[1] == -signal.SIGKILL
        assert logged(tmp_path) == TEXTS[:done]
        assert sum(name.startswith("_counts/receipts/") for name in files(folder)) == done
        assert "counts/part-0.parquet" not in files(folder)
    last = start(folder, tmp_path, **more)
    assert (last.communicate(timeout=100), last.returncode)[1] == 0
    # Nothing of the map is done again.
    assert logged(tmp_path) == [*TEXTS, "total", "total", "total"]
    assert counts(f"{folder}/counts/part-0.parquet") == WANTED
    assert files(folder) == ["_counts/settings.json", "counts/part-0.parquet"]
    other = make(table_of(TEXTS), {**settings(tmp_path), "log": None}, f"{folder}/other", print)
    with storage_for(folder).open(f"{folder}/counts/part-0.parquet") as one, storage_for(folder).open(other) as two:
        assert one.read() == two.read()


def test_two_drivers_on_one_folder_make_one_table(folder, tmp_path):
    done, errors = [], []

    def drive():
        try:
            done.append(make(table_of(TEXTS), settings(tmp_path), folder, lambda line: None))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and counts(done[0]) == WANTED
    make(table_of(TEXTS), settings(tmp_path), folder, print)
    assert files(folder) == ["_counts/settings.json", "counts/part-0.parquet"]


def test_a_driver_whose_parts_another_has_cleared_away_takes_its_table(folder, tmp_path, monkeypatch):
    mapped = tables._map

    def slow(task, storage, say):
        mapped(task, storage, say)
        with monkeypatch.context() as patched:
            patched.setattr(tables, "_map", mapped)
            make(table_of(TEXTS), settings(tmp_path), folder, print)

    monkeypatch.setattr(tables, "_map", slow)
    assert counts(make(table_of(TEXTS), settings(tmp_path), folder, print)) == WANTED


def test_a_receipt_that_is_damaged_or_whose_file_is_lost_counts_for_nothing(folder, tmp_path):
    with pytest.raises(ConfigError):
        make(table_of([*TEXTS[:3], "mistake"]), settings(tmp_path), folder, print)
    storage = storage_for(folder)
    parts = [name for name in files(folder) if name.startswith("_counts/parts/")]
    storage.remove(f"{folder}/{parts[0]}")
    storage.remove(f"{folder}/_counts/receipts/00001.json")
    storage.create(f"{folder}/_counts/receipts/00001.json", b"{")
    with pytest.raises(ConfigError):
        make(table_of([*TEXTS[:3], "mistake"]), settings(tmp_path), folder, print)
    assert sorted(logged(tmp_path)[:3]) == TEXTS[:3] and sorted(logged(tmp_path)[3:]) == TEXTS[:2]


def test_the_toy_reduce_is_associative():
    some = [pa.Table.from_pylist([{"token": token, "count": n}], schema=SCHEMA) for n, token in enumerate(("ab", "cd", "ab"))]
    plain = {"least": 2}
    assert total(some, plain).equals(total([total(some[:2], plain), some[2]], plain))


@pytest.mark.timeout(300)
def test_through_ray_it_is_the_same_and_no_log_has_a_word_of_it(cluster, tmp_path):
    import ray

    folder, logs = f"{tmp_path}/out", Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    assert counts(make(table_of(TEXTS), settings(tmp_path), folder, print)) == WANTED
    assert sorted(logged(tmp_path)) == sorted([*TEXTS, *["total"] * 3])
    with pytest.raises(ContractError, match="raised ValueError at counts"):
        make(table_of(["a b", f"slip {CANARY}"]), settings(tmp_path), f"{folder}/b", print)
    with pytest.raises(ConfigError, match="there is nothing"):
        make(table_of(["a b", "mistake"]), settings(tmp_path), f"{folder}/c", print)
    for path in logs.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
