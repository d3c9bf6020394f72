"""A finished run's input, read again."""

import shutil

import pytest

from engine.errors import InputChanged
from engine.pipeline.again import input_of
from tests.pipeline.conftest import texts, write_input

READING = {"id": "id"}


@pytest.fixture
def run(bench, tmp_path):
    """A planned run over two files, and its folder."""
    write_input(tmp_path / "in" / "b.jsonl", texts(3, 100))
    bench()
    return str(tmp_path / "out")


def names(files):
    return [entry.path.rpartition("/")[2] for entry in files]


def test_where_the_run_read_it(run, tmp_path):
    reading, files = input_of(run, READING)
    assert (reading.path, reading.id, names(files)) == (str(tmp_path / "in"), "id", ["a.jsonl", "b.jsonl"])


def test_a_file_that_is_gone_or_changed_is_named(run, tmp_path):
    write_input(tmp_path / "in" / "b.jsonl", texts(4, 100))
    with pytest.raises(InputChanged, match=r"^input.path: \S+/in/b.jsonl is gone or changed since the run read it"):
        input_of(run, READING)
    (tmp_path / "in" / "a.jsonl").unlink()
    with pytest.raises(InputChanged, match=r"in/a.jsonl \(and 1 more\) is gone"):
        input_of(run, READING)


def test_in_a_new_place_it_is_the_same_input_and_other_reports_are_others(run, tmp_path):
    shutil.copytree(tmp_path / "in", tmp_path / "moved", copy_function=shutil.copy2)
    shutil.rmtree(tmp_path / "in")
    reading, files = input_of(run, READING, str(tmp_path / "moved"))
    assert (reading.path, names(files)) == (str(tmp_path / "moved"), ["a.jsonl", "b.jsonl"])
    some = write_input(tmp_path / "some" / "c.jsonl", texts(2))
    reading, files = input_of(run, READING, str(some))
    assert (reading.path, files) == (str(some), None)
