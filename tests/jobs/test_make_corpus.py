import os

import pyarrow.parquet as pq
import pytest

from engine.errors import EXIT_CONFIG, EXIT_OK
from jobs.make_corpus import main


def test_a_corpus_is_written_once(tmp_path, capsys):
    folder = tmp_path / "my corpus, 2024=a"
    command = [f"output.path={folder}", "records=50", "seed=3", "text.median_words=50", "skew=uniform"]
    assert main.run(command) == EXIT_OK
    assert "wrote 50 records" in capsys.readouterr().out
    assert pq.read_table(folder / "corpus-00000.parquet").num_rows == 50
    assert main.run(command) == EXIT_OK
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "named"),
    [("records=0", "records"), ("output.format=xml", "output.format"), ("broken=2", "broken"), ("skwe=uniform", "skew")],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, capsys, override, named):
    assert main.run([f"output.path={tmp_path / 'c'}", override]) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert named in message and message.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_a_folder_of_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.md").write_text("x")
    assert main.run([f"output.path={tmp_path}", "records=10"]) == EXIT_CONFIG
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]


def test_a_folder_that_cannot_be_made_is_one_line(capsys):
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs a file system of the kernel's")
    assert main.run(["output.path=/proc/corpus", "records=10"]) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert "/proc/corpus" in message and message.count("\n") == 1


def test_texts_that_are_not_reportable_are_a_corpus_of_their_own(tmp_path, capsys):
    command = [f"output.path={tmp_path / 'c'}", "corpus=unreportable", "records=40", "seed=3"]
    assert main.run(command) == EXIT_OK
    assert "wrote 40 records" in capsys.readouterr().out
    assert len(set(pq.read_table(tmp_path / "c" / "corpus-00000.parquet")["kind"].to_pylist())) == 20
    assert main.run([f"output.path={tmp_path / 'c'}", "records=40", "seed=3"]) == EXIT_CONFIG
    assert "corpus is unreportable, not reports" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["text.median_words=50", "text.sigma=0", "skew=uniform", "broken=0.1"])
def test_a_key_of_reports_is_refused_for_other_texts(tmp_path, capsys, override):
    assert main.run([f"output.path={tmp_path / 'c'}", "corpus=unreportable", override]) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert override.split("=")[0].split(".")[0] in message and message.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_chinese_records_are_a_corpus_of_their_own(tmp_path, capsys):
    command = [f"output.path={tmp_path / 'c'}", "corpus=dermatology", "records=40", "seed=3", "broken=0.1"]
    assert main.run(command) == EXIT_OK
    assert "wrote 40 records" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "c" / "corpus-00000.parquet", columns=["spans", "broken"])
    assert 4 <= len(table) - table["broken"].null_count <= 5 and sum(map(len, table["spans"].to_pylist())) > 200
    assert main.run([*command[:3], "seed=4", "skew=uniform"]) == EXIT_CONFIG
    assert "skew: not for corpus=dermatology" in capsys.readouterr().err


def test_radiographs_are_a_corpus_of_their_own(tmp_path, capsys):
    command = [f"output.path={tmp_path / 'c'}", "corpus=radiographs", "records=40", "pixels=32", "prevalence=3", "studies=3"]
    marker = ["marker.finding=Pleural Effusion", "marker.positives=1", "marker.negatives=0"]
    assert main.run([*command, *marker, "noise.left_out=0.5", "noise.copied=0.5"]) == EXIT_OK
    assert "wrote 40 records" in capsys.readouterr().out
    rows = pq.read_table(tmp_path / "c" / "corpus-00000.parquet").to_pylist()
    assert all(row["marker"] == any(box["name"] == "Pleural Effusion" for box in row["boxes"]) for row in rows)
    assert {kind for row in rows for kind in row["noise"]} == {"left_out", "copied"}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["corpus=radiographs", "broken=0.1"], "broken: not for corpus=radiographs"),
        (["marker.finding=Edema"], "marker.finding: not for corpus=reports"),
        (["corpus=radiographs", "marker.finding=Oedema"], "did you mean 'Edema'"),
        (["corpus=radiographs", "output.format=csv"], "output.format: csv is not for corpus=radiographs"),
        (["output.format=files"], "output.format: files is not for corpus=reports"),
    ],
)
def test_a_key_of_another_corpus_is_refused(tmp_path, capsys, overrides, named):
    assert main.run([f"output.path={tmp_path / 'c'}", *overrides]) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert named in message and message.count("\n") == 1
    assert not (tmp_path / "c").exists()
