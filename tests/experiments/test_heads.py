"""Heads of a tiny checkpoint beside each other; differences worked by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.experiments.heads import COVERAGE, Heads, HeadsConfig, differences
from engine.experiments.run import run
from engine.models.code_task import Task, TaskCalibration
from engine.models.columns import matrix_column
from engine.models.site_classifier.checkpoint import write_head
from engine.models.site_classifier.coder import SiteCoder
from tests.experiments.marked import write_abstracts
from tests.models.conftest import tiny_config, tiny_tensors, write_tiny

pytestmark = pytest.mark.timeout(300)
NAMES = {"C50": "breast", "C34": "lung"}


@pytest.fixture
def reports(tmp_path):
    """Reports whose site is named in them, as a silver set is laid out."""
    folder = tmp_path / "set" / "reports"
    folder.mkdir(parents=True)
    (folder.parent / "registry").mkdir()
    (folder.parent / "registry" / "reportability_keywords.txt").write_text("adenocarcinoma|Positive\n")
    rows = []
    for number in range(12):
        code = ("C50", "C34", "C99")[number % 3]
        rows.append(
            {
                "report_id": f"r{number}",
                "patient_id": f"p{number // 2}",
                "split": ("valid", "test")[number // 6],
                "icdo3_topography_3": code,
                "ocr_source": "made",
                "text": f"Specimen {number}: {NAMES.get(code, 'no place')} tissue. Final diagnosis: adenocarcinoma.",
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "reports_ocr.parquet")
    return str(folder)


@pytest.fixture
def model(tmp_path):
    task = Task("site", ("C34", "C50"), (3, 3))
    folder = write_tiny(tmp_path / "model", tiny_config(tasks=(task,)))
    further = tiny_config(tasks=(task,), head="target")
    mine = {name: value for name, value in tiny_tensors(further).items() if not name.startswith("encoder.")}
    write_head(folder, further, mine, {"site": TaskCalibration()}, "attention", "a card\n")
    return str(folder)


def test_each_head_on_each_split_and_the_others_against_the_first(reports, model, tmp_path, monkeypatch):
    # Of every split six reports: two are of lung, two of breast, two of a site that the model does not know.
    says = {"pooling": [1] * 6, "target": [1, 1, 1, 0, 0, 0]}

    def scores(self, prepared):
        logits = np.eye(2)[says[self.config.head][: len(prepared)]]
        return pa.table({"row": prepared["row"], "site_logits": matrix_column(logits)})

    monkeypatch.setattr(SiteCoder, "scores", scores)
    config = HeadsConfig(reports, model, heads=("pooling", "target"), slow_records=0, rounds=20, draws=2, threads=1)
    table = run(Heads(config), tmp_path / "out", "command", lambda line: None)
    found = {(row["arm"], row["metric"]): row for row in table.to_pylist()}
    assert {arm for arm, _ in found} == {
        *(f"{split}-{name}" for split in ("valid", "test") for name in ("pooling", "target", "target-against-pooling"))
    }
    for split in ("valid", "test"):
        values = {head: pq.read_table(tmp_path / "out" / "work" / f"{split}-{head}.parquet").to_pylist() for head in says}
        for head in says:
            assert (found[f"{split}-{head}", "accuracy"]["value"], found[f"{split}-{head}", "accuracy"]["n"]) == (2 / 6, 6)
            # What is wrong, as every code that the model does not know, is not explained.
            assert [row["own_cov_mass"] is not None for row in values[head]] == [row["right"] == 1 for row in values[head]]
            assert found[f"{split}-{head}", "own_cov_mass"]["n"] == 2
        assert found[f"{split}-target-against-pooling", "right_difference"]["value"] == 0
        gaps = [
            mine["attention_cov_mass"] - theirs["attention_cov_mass"]
            for mine, theirs in zip(values["target"], values["pooling"], strict=True)
            if mine["right"] and theirs["right"]
        ]
        told = found[f"{split}-target-against-pooling", "attention_cov_mass_difference"]
        assert told["n"] == len(gaps) == 1 and told["value"] == pytest.approx(gaps[0])
    assert ("valid-target-against-pooling", "takes_the_place") in found
    assert ("test-target-against-pooling", "takes_the_place") not in found


def test_a_rival_takes_the_place_if_it_is_no_worse_in_both():
    def rows(right, coverage):
        columns = {"record_id": ["a", "b"], "group": ["a", "b"], "right": right, COVERAGE: coverage}
        return pa.table(columns).cast(
            pa.schema([("record_id", "string"), ("group", "string"), ("right", "double"), (COVERAGE, "double")])
        )

    def takes(*sides):
        return {each.metric: each.value for each in differences(*sides, 10, chosen=True)}

    before = rows([1.0, 0.0], [0.25, None])
    assert takes(rows([1.0, 0.0], [0.5, None]), before)["takes_the_place"] == 1
    worse = takes(rows([0.0, 0.0], [0.5, 1.0]), before)
    assert worse["takes_the_place"] == 0 and worse["right_difference"] == -0.5
    # Only the report that both have counts.
    assert worse[f"{COVERAGE}_difference"] == 0.25
    assert takes(rows([1.0, 1.0], [0.0, 1.0]), before)["takes_the_place"] == 0
    # On test nothing is chosen.
    assert {each.metric for each in differences(before, before, 10, chosen=False)} == {
        "right_difference",
        f"{COVERAGE}_difference",
    }
    # Without any coverage in common nothing shows that it is no worse.
    assert takes(rows([1.0, 1.0], [None, 1.0]), before)["takes_the_place"] == 0


def test_mistakes_are_told_in_one_line(reports, model, tmp_path):
    with pytest.raises(ConfigError, match="at least two heads"):
        HeadsConfig(reports, model, heads=("pooling",))
    with pytest.raises(ConfigError, match="pooling stands there twice"):
        HeadsConfig(reports, model, heads=("pooling", "pooling"))
    with pytest.raises(ConfigError, match="one label a text"):
        Heads(HeadsConfig(write_abstracts(tmp_path / "abstracts"), model))
    with pytest.raises(ConfigError, match="no head dpla"):
        Heads(HeadsConfig(reports, model)).settings()
