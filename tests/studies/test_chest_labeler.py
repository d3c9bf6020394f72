"""The labeler against headings: counts of a few invented reports, by hand."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.studies.run import Place, Runner
from engine.studies.study import study_of

REPORT = {"split": "test", "findings": None, "impression": None}
REPORTS = [
    {
        **REPORT,
        "report_id": "1",
        "findings": "Cardiomegaly.",
        "impression": "Left effusion.",
        "mesh_major": ["Cardiomegaly/mild"],
    },
    {**REPORT, "report_id": "2", "findings": "Heart size is normal.", "mesh_major": ["Cardiomegaly"]},
    {**REPORT, "report_id": "3", "findings": "Possible cardiomegaly.", "mesh_major": ["Cardiomegaly"]},
    {**REPORT, "report_id": "4", "findings": "Cardiomegaly.", "mesh_major": ["Cardiomegaly/borderline"]},
    {**REPORT, "report_id": "5", "findings": "Cardiomegaly.", "mesh_major": ["No Indexing"]},
    {**REPORT, "report_id": "6", "findings": "Cardiomegaly.", "mesh_major": ["Cardiomegaly"], "split": "train"},
]


def figures(folder, finding, split="test"):
    file = folder / "reports.parquet"
    pq.write_table(pa.Table.from_pylist(REPORTS), file)
    settings = {"labeler.finding": finding, "labeler.split": split}
    values = {"question": "?", "system": "chest", "fit": "labeler", "corpora": {"one": file.name}, "measure": ["labeler"]}
    study = study_of("toy/labeler", {**values, "arms": {"a": settings}, "rounds": 10})
    rows = Runner(study, Place(str(folder), folder / "out", folder / "models"), lambda line: None).run()
    return {row["metric"]: row["value"] for row in rows.to_pylist()}


def test_counts_and_figures_of_a_finding(tmp_path):
    rows = figures(tmp_path, "Cardiomegaly")
    assert {name: rows[name] for name in ("positives", "stated", "right", "left_out")} == {
        **{"positives": 3, "stated": 1, "right": 1, "left_out": 1}
    }
    assert rows["precision"] == 1 and rows["recall"] == pytest.approx(1 / 3) and rows["f1"] == pytest.approx(1 / 2)
    # The heart of normal size is denied, which is never stated.
    assert rows["stated.unsure"] == 2 and rows["recall.unsure"] == pytest.approx(2 / 3)


def test_all_counts_pairs(tmp_path):
    rows = figures(tmp_path, "all")
    assert (rows["positives"], rows["stated"], rows["right"]) == (3, 2, 1)


def test_an_unknown_finding_or_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no 'Heart'"):
        figures(tmp_path, "Heart")
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="no report of valid"):
        figures(tmp_path / "other", "all", "valid")
