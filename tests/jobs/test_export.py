"""The export of a run as its user sees it: the file, what is said, and what is refused."""

import csv
from pathlib import Path

import pytest

from engine.pipeline import status
from engine.records import DECISIONS
from jobs import export


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_as_csv(coded_run, tmp_path, capsys):
    path = tmp_path / "new folder" / "coded.csv"
    assert export.main.run([f"output.path={coded_run.output}", f"export.path={path}"]) == 0
    assert capsys.readouterr().out == f"{path}: 60 lines and a header\n"
    found = {line["record_id"]: line for line in lines(path)}
    table = {row["record_id"]: row for row in coded_run.codes.to_dicts()}
    assert found.keys() == table.keys() and len(found) == 60
    for name, line in found.items():
        row = table[name]
        assert line["site_code"] == (row["site_code"] or "") and line["site_name"] == (row["site_name"] or "")
        assert line["histology_prob"] == ("" if row["histology_prob"] is None else f"{row['histology_prob']:.4f}")
        assert line["reasons"] == "; ".join(row["reasons"]) and line["facility"] == (row["facility"] or "")
        assert line["failure"] == (row["failure"]["kind"] if row["failure"] else "")


def test_rows_of_one_decision(coded_run, tmp_path):
    counts = status(str(coded_run.output)).decisions
    for decision in ("auto", "review", "failed"):
        path = tmp_path / f"{decision}.csv"
        order = [f"output.path={coded_run.output}", f"export.path={path}", f"rows={decision}", "export.delimiter=;"]
        assert export.main.run(order) == 0
        with open(path, encoding="utf-8-sig", newline="") as file:
            assert sum(1 for _ in csv.reader(file, delimiter=";")) - 1 == counts.get(decision, 0)
    assert set(counts) <= set(DECISIONS)


def test_of_a_run_that_goes_on_there_is_what_is_published(coded_run, tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    whole = status(str(coded_run.output))
    monkeypatch.setattr("engine.pipeline.status", lambda output: replace(whole, shards_total=whole.shards + 1))
    assert export.main.run([f"output.path={coded_run.output}", f"export.path={tmp_path / 'a.csv'}"]) == 0
    assert "The run is not finished: the file has what is published so far" in capsys.readouterr().out
    monkeypatch.setattr("engine.pipeline.status", lambda output: replace(whole, files=()))
    assert export.main.run([f"output.path={coded_run.output}", f"export.path={tmp_path / 'b.csv'}"]) == 2
    assert "has no tables yet; let the run finish first" in capsys.readouterr().err
    assert not (tmp_path / "b.csv").exists()


def test_more_lines_than_excel_opens_are_told_of(coded_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "MOST_LINES", 59)
    assert export.main.run([f"output.path={coded_run.output}", f"export.path={tmp_path / 'a.csv'}"]) == 0
    assert "Excel opens the first 59 only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("export.path={run}/codes/review.csv", "holds the run's tables; name another folder"),
        ("export.path={run}", "is a folder; name a file to write"),
        ("export.path={run}/_run.json", "_run.json exists and is no export of a run; name another file"),
        ("rows=reviewed", "did you mean 'review'?"),
        ("export.delimiter=|", "wants one of ,, ;"),
        ("output.path={run}/codes", "holds no run"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(coded_run, tmp_path, capsys, override, words):
    order = [f"output.path={coded_run.output}", f"export.path={tmp_path / 'a.csv'}", override.format(run=coded_run.output)]
    assert export.main.run(order) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())
