import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.sources.synthetic import CorpusConfig, Radiographs, Settings, encode, generate, write

SETTINGS = Settings(7, median_words=60, broken=0.05)


def config(path, **more) -> CorpusConfig:
    return CorpusConfig(**{"path": str(path), "records": 90, "settings": SETTINGS, "file_records": 40, **more})


def names(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_parquet_holds_what_generate_gives(tmp_path):
    done = write(config(tmp_path / "c"))
    assert (done.files, done.written) == (3, 90)
    assert names(tmp_path / "c") == [".corpus.json"] + [f"corpus-0000{n}.parquet" for n in range(3)]
    tables = [pq.read_table(tmp_path / "c" / f"corpus-0000{n}.parquet") for n in range(3)]
    assert [table.num_rows for table in tables] == [40, 40, 10]
    assert pa.concat_tables(tables).combine_chunks().equals(generate(90, 7, median_words=60, broken=0.05).combine_chunks())


def test_the_same_command_does_nothing_and_one_file_that_is_missing_is_made_again(tmp_path):
    write(config(tmp_path))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert write(config(tmp_path)).written == 0
    (tmp_path / "corpus-00001.parquet").unlink()
    assert write(config(tmp_path)).written == 40
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("other", [{"records": 91}, {"format": "csv"}, {"settings": Settings(8)}, {"file_records": 41}])
def test_another_corpus_is_refused_with_what_differs(tmp_path, other):
    write(config(tmp_path))
    before = names(tmp_path)
    with pytest.raises(ConfigError, match="holds another corpus") as caught:
        write(config(tmp_path, **other))
    assert "seed is 7, not 8" in str(caught.value) if "settings" in other else next(iter(other)) in str(caught.value)
    assert names(tmp_path) == before


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        write(config(tmp_path))
    assert names(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("below", ["", "/corpus"])
def test_a_file_where_the_folder_should_be_is_refused(tmp_path, below):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="notes"):
        write(config(f"{tmp_path}/notes{below}"))
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_settings_file_is_refused(tmp_path, content):
    (tmp_path / ".corpus.json").write_bytes(content)
    with pytest.raises(ConfigError, match="unreadable"):
        write(config(tmp_path))


def test_csv_keeps_texts_and_gold(tmp_path):
    clean = Settings(7, median_words=60)
    write(config(tmp_path, format="csv", settings=clean, file_records=100))
    with (tmp_path / "corpus-00000.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = generate(90, 7, median_words=60).to_pylist()
    assert [row["text"] for row in rows] == [row["text"] for row in wanted]
    assert [row["site"] for row in rows] == [row["site"] for row in wanted]
    first = wanted[0]["evidence_site"]
    assert json.loads(rows[0]["evidence_site"]) == [[span["start"], span["end"]] for span in first]


def test_jsonl_writes_a_surrogate_as_escape_and_bad_bytes_raw(tmp_path):
    write(config(tmp_path, format="jsonl", records=400, file_records=400))
    lines = (tmp_path / "corpus-00000.jsonl").read_bytes().splitlines()
    wanted = generate(400, 7, median_words=60, broken=0.05).drop_columns("text").to_pylist()
    assert len(lines) == 400
    for line, row in zip(lines, wanted, strict=True):
        if row["broken"] == "invalid_encoding":
            with pytest.raises(UnicodeDecodeError):
                line.decode()
            continue
        read = json.loads(line)
        assert {key: read[key] for key in row} == row
        if row["broken"] == "lone_surrogate":
            assert b"\\ud83d" in line and read["text"].endswith("\ud83d")


def test_a_folder_of_texts_has_its_gold_beside_it(tmp_path):
    write(config(tmp_path, format="text", records=30, file_records=20))
    gold = pa.concat_tables(pq.read_table(tmp_path / "gold" / f"gold-0000{n}.parquet") for n in range(2)).to_pylist()
    assert [row["record_id"] for row in gold][19:21] == ["00000/syn-7-00000019.txt", "00001/syn-7-00000020.txt"]
    assert len(names(tmp_path / "texts")) == 30
    for row in gold:
        raw = (tmp_path / "texts" / row["record_id"]).read_bytes()
        for span in row["evidence_site"]:
            assert raw.decode()[span["start"] : span["end"]].strip()
    assert {row["broken"] for row in gold} <= {None, *encode.kinds("text")}


def test_images_are_files_beside_their_manifest(tmp_path):
    whole, files = (CorpusConfig(f"{tmp_path}/{form}", 30, Radiographs(7, 32), form, 20) for form in ("parquet", "files"))
    assert [write(each).written for each in (whole, files, files)] == [30, 30, 0]
    assert len(names(tmp_path / "files")) == 30 + 3
    for number in range(2):
        rows = pq.read_table(f"{whole.path}/corpus-0000{number}.parquet").to_pylist()
        manifest = pq.read_table(f"{files.path}/manifest-0000{number}.parquet").to_pylist()
        for row, listed in zip(rows, manifest, strict=True):
            assert listed["image"] == f"images/{row['site']}/0000{number}/{row['record_id']}.png"
            assert (tmp_path / "files" / listed["image"]).read_bytes() == row["image"]
            assert {**listed, "image": None} == {**row, "image": None}
    (tmp_path / "files/manifest-00001.parquet").unlink()
    assert write(files).written == 10


@pytest.mark.parametrize(("settings", "format"), [(Radiographs(7), "csv"), (Radiographs(7), "text"), (SETTINGS, "files")])
def test_a_format_of_other_corpora_is_refused(tmp_path, settings, format):
    with pytest.raises(ConfigError, match=f"output.format: {format} is not for corpus="):
        write(config(tmp_path / "c", settings=settings, format=format))
    assert not (tmp_path / "c").exists()


def test_each_format_gets_only_damage_that_it_can_hold():
    assert not set(encode.kinds("text")) & {"null_text", "null_id", "duplicate_id"}
    assert "null_text" not in encode.kinds("csv") and "null_text" in encode.kinds("parquet")


@pytest.mark.parametrize("wrong", [{"path": ""}, {"records": 0}, {"format": "xlsx"}, {"file_records": 0}])
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ConfigError):
        CorpusConfig(**{"path": "c", "records": 1, "settings": SETTINGS, **wrong})
