"""The notebook runs from top to bottom on a small finished run, on a disk and on S3, and is kept without outputs."""

import json
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from engine.pipeline import status
from tests.pipeline.conftest import Bench, config, rows, texts, write_input

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "first_look.ipynb"
ASK = """
import json
print(json.dumps({"decisions": dict(decisions.iter_rows()), "words": spans.to_dict(as_series=False).get("words")}))
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of the toy system over thirty reports, one of which failed, with one span of one character each."""
    write_input(tmp_path / "in" / "a.jsonl", {**texts(29), "big": "TOOLARGE"})
    bench = Bench(config(tmp_path / "in", tmp_path / "out"))
    bench.code()
    bench.publish()
    assert status(str(tmp_path / "out")).decisions["failed"] == 1
    return tmp_path


def execute(run: str | None, parameters: str, folder: Path) -> tuple[str, dict]:
    """All that the notebook prints and shows, and what a question at its end finds."""
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (first,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    first.source += parameters if run is None else f"\nRUN = {run!r}\n{parameters}"
    notebook.cells.append(nbformat.v4.new_code_cell(ASK))
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    told = "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    return told, json.loads(outputs[-1]["text"])


@pytest.mark.long
def test_a_run_on_a_disk_with_its_reports(finished: Path) -> None:
    parameters = f"REPORTS = {str(finished / 'in' / 'a.jsonl')!r}\nID = 'id'"
    told, found = execute(str(finished / "out"), parameters, finished)
    assert "30 reports in 1 file(s)" in told
    assert found["decisions"] == Counter(row["decision"] for row in rows(finished / "out"))
    # The toy's evidence is the first character, and every text begins with "report".
    assert found["words"] == ["r"] * 6


@pytest.mark.long
def test_a_run_on_s3_without_its_reports(finished: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, store) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    s3 = s3fs.S3FileSystem(endpoint_url=store.url, use_listings_cache=False, skip_instance_cache=True)
    s3.put(str(finished / "out"), f"{bucket}/coded", recursive=True)
    told, found = execute(f"{bucket}/coded", "REPORTS = None", finished)
    assert "30 reports in 1 file(s)" in told and "Places only." in told
    assert found == {"decisions": Counter(row["decision"] for row in rows(finished / "out")), "words": None}


def test_it_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_it_opens_what_the_demo_leaves_and_says_so_where_there_is_none(finished: Path) -> None:
    """The folders as they lie beside the notebook after `make demo`."""
    import shutil

    import polars as pl
    from nbclient.exceptions import CellExecutionError

    (finished / "notebooks").mkdir()
    with pytest.raises(CellExecutionError, match=r"\.\./demo/coded has no table: run `make demo`, or set RUN"):
        execute(None, "", finished / "notebooks")
    shutil.copytree(finished / "out", finished / "demo" / "coded")
    (finished / "demo" / "corpus").mkdir()
    reports = pl.read_ndjson(finished / "in" / "a.jsonl").rename({"id": "record_id"})
    # The demo's corpus has ids twice; the later report is no part of the answer.
    reports = pl.concat([reports, reports.with_columns(text=pl.lit("another"))])
    reports.write_parquet(finished / "demo" / "corpus" / "corpus-00000.parquet")
    told, found = execute(None, "", finished / "notebooks")
    assert "30 reports in 1 file(s)" in told and found["words"] == ["r"] * 6
