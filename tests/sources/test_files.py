"""Paths as people have them, and what a folder's files are taken for."""

import json
import os

import pytest

from engine.errors import ConfigError
from engine.sources import InputConfig, input_base, list_files, source_of, survey
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
        (["a.csv", "b.csv.bz2"], "", "b.csv.bz2 is packed; unpack it"),
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


def notes(path, **settings):
    return survey(InputConfig(str(path), None, **settings), LocalStorage()).notes


def test_what_other_programs_keep_for_themselves_is_left_out_and_counted(tmp_path):
    write(
        tmp_path / "in", "part-0.csv", "_temporary/0/part-0.csv", "_temporary/0/part-1.csv", "_SUCCESS", "a/_b.csv", "_c=1/x.csv"
    )
    assert sources(tmp_path / "in") == ["_c=1/x.csv", "part-0.csv"]
    assert notes(tmp_path / "in") == [
        "3 files skipped, of a name or in a folder that begins with _ (such as _temporary/0/part-0.csv); "
        "to read them, name them in input.path"
    ]
    assert sources(tmp_path / "in" / "**" / "*.csv") == ["_c=1/x.csv", "part-0.csv"]
    assert sources(tmp_path / "in", format="csv") == ["_c=1/x.csv", "part-0.csv"]
    assert notes(tmp_path / "in" / "part*.csv") == []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("_raw", ["a.csv"]),
        ("_raw/a.csv", ["a.csv"]),
        ("_raw/*.csv", ["a.csv"]),
        ("_r*/*.csv", ["_raw/a.csv"]),
        ("**/_raw/*.csv", ["_raw/a.csv", "x/_raw/b.csv"]),
        ("x/_c.csv", ["_c.csv"]),
        ("x/_*.csv", ["_c.csv"]),
    ],
)
def test_a_path_that_names_them_is_taken_at_its_word(tmp_path, path, wanted):
    write(tmp_path, "_raw/a.csv", "_raw/_more/d.csv", "x/_raw/b.csv", "x/_c.csv")
    assert sources(tmp_path / path) == wanted


def test_a_folder_of_nothing_else_says_so(tmp_path):
    write(tmp_path, "_temporary/0/a.csv")
    with pytest.raises(ConfigError, match=r"all names in .* begin with _"):
        sources(tmp_path)


def commit(table, number, *actions):
    path = table / "_delta_log" / f"{number:020}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def test_rows_that_a_delta_table_has_deleted_are_told_of(tmp_path):
    table = tmp_path / "in" / "table"
    write(table, "a b.csv", "h=x%20y/b.csv", "c.csv", "d.csv", "e.csv", "_delta_log/00000000000000000010.checkpoint.parquet")
    commit(table, 0, *({"add": {"path": name}} for name in ("a%20b.csv", "h=x%2520y/b.csv", "c.csv", "d.csv")))
    assert notes(tmp_path / "in") == []
    commit(table, 1, {"remove": {"path": "a%20b.csv"}}, {"remove": {"path": "h=x%2520y/b.csv"}}, {"remove": {"path": "gone.csv"}})
    commit(table, 2, {"add": {"path": "c.csv", "deletionVector": {"cardinality": 1}}}, {"remove": {"path": "c.csv"}})
    commit(table, 3, {"add": {"path": "d.csv"}}, {"remove": {"path": "d.csv"}})
    (told,) = notes(tmp_path / "in")
    assert told.startswith("3 files read although the Delta table has deleted them or rows in them")
    assert notes(table / "*.csv")[0].startswith("2 files read although")
    assert len(sources(tmp_path / "in")) == 5


def test_a_log_that_says_nothing_costs_nothing(tmp_path):
    write(tmp_path, "a.csv", "_delta_log/x.json")
    damaged = b'not json\n[1]\n"remove"\n{"remove": 3}\n{"remove": {"path": 1}}\n\xff\n' + b"[" * 200_000
    (tmp_path / "_delta_log" / "00000000000000000001.json").write_bytes(damaged)
    assert notes(tmp_path) == []


def test_each_file_is_read_once_by_its_real_name_else_by_the_first(tmp_path):
    write(tmp_path, "in/b/1.csv", "in/c/2.csv", "elsewhere/3.csv")
    for link, target in {
        "in/a": "b",
        "in/b/up": "..",
        "in/0.csv": "c/2.csv",
        "in/y": "../elsewhere",
        "in/x": "../elsewhere",
        "in/p.csv": "../elsewhere/3.csv",
        "in/gone.csv": "nowhere.csv",
    }.items():
        (tmp_path / link).symlink_to(target)
    (tmp_path / "in" / "z.csv").hardlink_to(tmp_path / "in" / "c" / "2.csv")
    once = ["b/1.csv", "c/2.csv", "p.csv"]
    assert sources(tmp_path / "in") == sources(tmp_path / "in" / "**") == once
    assert sources(tmp_path / "in" / "*" / "*.csv") == ["b/1.csv", "c/2.csv", "x/3.csv"]
    assert any("another name (a link)" in each for each in notes(tmp_path / "in"))
    assert sources(tmp_path / "in" / "0.csv") == ["0.csv"]


def test_a_name_that_is_known_is_kept(tmp_path):
    write(tmp_path, "b.csv")
    (tmp_path / "a.csv").hardlink_to(tmp_path / "b.csv")
    known = {str(tmp_path / "b.csv")}
    found = survey(InputConfig(str(tmp_path), None), LocalStorage(), known).files
    assert [entry.path for entry in found] == list(known)
    assert sources(tmp_path) == ["a.csv"]


def test_json_lines_may_be_called_json_if_the_format_says_so(tmp_path):
    write(tmp_path, "a.json", "b.json.gz", "c.jsonl", "meta.yaml")
    assert sources(tmp_path) == ["c.jsonl"]
    assert sources(tmp_path, format="jsonl") == ["a.json", "b.json.gz", "c.jsonl"]
    (tmp_path / "c.jsonl").unlink()
    (tmp_path / "meta.yaml").unlink()
    with pytest.raises(ConfigError, match=r"2 files, none .*if they hold one object a line, set input.format=jsonl"):
        sources(tmp_path)
