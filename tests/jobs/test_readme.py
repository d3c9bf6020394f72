"""The commands of the README, as written and in their order, on tables as people have them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from engine.sources.synthetic.generate import generate

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(r"^    marginalia (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
# What the path up to the figures takes some seconds for; explaining, entities and training take minutes.
QUICK = ("code_reports", "status", "export", "evidence_page", "evaluate")


def tables(folder: Path, records: int) -> None:
    """reports.csv with numbers that begin with zeros, one text missing and one number twice; labels.csv for most of them, and
    labelled reports of earlier years."""
    made = pl.from_arrow(generate(2 * records, seed=3, median_words=40, sigma=0.3))
    numbers = pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(6)
    made = made.with_columns(report_no=numbers, hospital="facility").rename({"text": "report", "site": "site_code"})
    now, before = made.head(records), made.tail(records)
    reports = now.select("report_no", "report", "patient_id", "hospital").with_columns(
        report=pl.when(pl.col("report_no") == "000002").then(None).otherwise("report"),
        report_no=pl.when(pl.col("report_no") == "000004").then(pl.lit("000003")).otherwise("report_no"),
    )
    reports.write_csv(folder / "reports.csv")
    now.select("report_no", "patient_id", "site_code").head(records - 5).write_csv(folder / "labels.csv")
    labelled = before.select("report_no", "report", "patient_id", "site_code")
    labelled.write_csv(folder / "labelled.csv")
    labelled.write_parquet(folder / "labelled.parquet")


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *shlex.split(command)], cwd=folder, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_the_path_of_the_readme_leads_from_reports_to_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    tables(tmp_path, 40)
    for command in [each for each in COMMANDS if each.split()[0] in QUICK]:
        run(command, tmp_path)
    rows = pl.read_parquet(tmp_path / "coded" / "codes" / "*.parquet")
    assert rows.height == 40 and {"000001", "000040"} <= set(rows["record_id"])
    assert rows.filter(decision="failed")["failure"].struct.field("kind").sort().to_list() == ["duplicate_id", "missing_text"]
    # Every label of the gold table meets its row, but for those whose row has failed.
    metrics = pl.read_parquet(tmp_path / "evaluation" / "metrics" / "*.parquet")
    assert metrics.filter(metric="gold_matched")["value"].to_list() == [34.0]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_command_of_the_readme_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    tables(tmp_path, 300)
    assert {command.split()[0] for command in COMMANDS} > set(QUICK)
    for command in COMMANDS:
        run(command, tmp_path)
