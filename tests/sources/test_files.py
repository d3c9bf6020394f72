"""Paths as people have them, and what a folder's files are taken for."""

import os

import pytest

from engine.errors import ConfigError
from engine.sources import InputConfig, input_base, list_files, source_of
from engine.storage import LocalStorage


def sources(path, **settings):
    config = InputConfig(str(path), None, **settings)
    base = input_base(config)
    return [source_of(entry, base) for entry in list_files(config, LocalStorage())]


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id,text\n1,a\n")


@pytest.mark.parametrize(
    "name",
    [
        "two words.csv",
        "export [2024].csv",
        "site=C50.csv",
        "a,b.csv",
        "~tilde.csv",
        "Befund-Größe.csv",
        "报告.csv",
        "what?.csv",
        "*.csv",
    ],
)
def test_a_file_or_folder_that_exists_is_never_a_glob(tmp_path, name):
    write(tmp_path / name[:-4], name, "other.csv")
    assert sources(tmp_path / name[:-4] / name) == [name]
    assert sources(tmp_path / name[:-4]) == sorted([name, "other.csv"])


def test_a_folder_is_read_with_everything_below_and_sources_are_relative_to_it(tmp_path):
    write(tmp_path, "b.csv", "2024/may/a.CSV", "2024/.hidden.csv", "2024/readme.md", "c.tsv")
    assert sources(tmp_path) == ["2024/may/a.CSV", "b.csv", "c.tsv"]


def test_a_glob_is_relative_to_its_fixed_beginning_even_where_that_holds_brackets(tmp_path):
    write(tmp_path, "reports [old]/x/1.csv", "reports [old]/y/2.csv", "reports o/x/3.csv", "reports [old]/4.csv")
    assert sources(tmp_path / "reports [old]" / "*" / "*.csv") == ["x/1.csv", "y/2.csv"]
    assert sources(tmp_path / "reports [old]" / "**" / "*.csv") == ["4.csv", "x/1.csv", "y/2.csv"]


def test_a_glob_that_matches_a_folder_takes_its_files_once(tmp_path):
    write(tmp_path, "in/a/1.csv", "in/b/2.csv")
    assert sources(tmp_path / "in" / "**") == ["a/1.csv", "b/2.csv"]


def test_only_a_leading_tilde_and_slash_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "data/a.csv", "data/~/b.csv")
    assert sources("~/data/a.csv") == ["a.csv"]
    monkeypatch.chdir(tmp_path / "data")
    assert sources("./~/b.csv") == ["b.csv"]
    assert sources("~/data") == ["a.csv", "~/b.csv"]


def test_listed_paths_are_absolute_so_that_any_process_finds_them(tmp_path, monkeypatch):
    write(tmp_path, "a.csv")
    monkeypatch.chdir(tmp_path)
    assert [e.path for e in list_files(InputConfig("a.csv", None), LocalStorage())] == [str(tmp_path / "a.csv")]


@pytest.mark.parametrize(
    ("names", "path", "message"),
    [
        ([], "", "is empty"),
        (["a.md", "b.xml"], "", r"2 files, none that can be read.*\.parquet \.pq \.csv \.tsv \.jsonl \.ndjson \.txt"),
        ([], "absent", "no file or folder"),
        (["a.csv"], "*.parquet", "nothing matches"),
        (["a.csv", "b.csv.gz"], "", "b.csv.gz is packed; unpack it"),
        (["a.csv", "notes.txt"], "", "tables and .txt files; set input.format"),
        (["a.doc"], "a.doc", "1 file, none"),
    ],
)
def test_nothing_to_read_is_one_clear_line(tmp_path, names, path, message):
    write(tmp_path, *names)
    with pytest.raises(ConfigError, match=message) as caught:
        sources(tmp_path / path)
    assert "\n" not in str(caught.value)


def test_a_format_picks_its_files_from_a_folder_and_fits_any_name_elsewhere(tmp_path):
    write(tmp_path, "a.csv", "notes.txt", "b.dat")
    assert sources(tmp_path, format="csv") == ["a.csv"]
    assert sources(tmp_path, format="text") == ["notes.txt"]
    assert sources(tmp_path / "b.dat", format="csv") == ["b.dat"]
    assert sources(tmp_path / "*.*", format="csv") == ["a.csv", "b.dat", "notes.txt"]


def test_a_name_that_is_not_unicode_is_refused(tmp_path):
    with open(os.fsencode(tmp_path) + b"/bad\xff.csv", "wb"):
        pass
    with pytest.raises(ConfigError, match=r"bad\\udcff.csv"):
        sources(tmp_path)
