"""From made radiographs to a model and its rows: what is stored adds up, and the shortest way works whole."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import sources
from engine.models.base import ModelSpec, load
from engine.models.rows import finish
from engine.models.run import answer, image_records_of, prepare
from engine.sources import InputConfig
from engine.storage import storage_for
from engine.text.chest import FINDINGS
from tests.radiographs import SYSTEM

EXPLAINING = "engine.models.explanations"
EXPLAIN = {"run": "run", "tasks": ["Cardiomegaly"], "faithfulness": 1.0, "stability": 0.0, "steps": 400}


def _rows(radiographs, **options):
    system = load(ModelSpec(SYSTEM, str(radiographs.model), {"precision": "fp32", **options}))
    config = InputConfig(str(radiographs.corpus), id="record_id", reads="images")
    storage = storage_for(config.path)
    files = sources.list_files(config, storage)
    shard = next(sources.cut(config, storage, files, 1 << 30))
    records = sources.read(config, storage, shard, [])
    _meta, prepared = prepare(system, records.slice(0, 12))
    return system, answer(system, prepared, pa.schema([])).to_pylist()


def test_the_answers_of_a_row_add_up(radiographs):
    system, rows = _rows(radiographs)
    assert len(rows) == 12
    for row in rows:
        by_label = {label["name"]: label for label in row["labels"]}
        for name, label in by_label.items():
            listed = sum(each["score"] for each in row["concepts"] if each["label"] == name)
            assert label["logit"] == pytest.approx(label["intercept"] + listed + label["rest"], abs=1e-4)
        assert row["n_concepts"] == len(system.texts) and row["decision"] in ("auto", "review")


def test_a_concept_counts_as_its_cosine_says(radiographs):
    system, rows = _rows(radiographs, embedding=True)
    space = system.space
    row = rows[0]
    z = np.array(row["embedding"], np.float64)
    assert np.linalg.norm(z) == pytest.approx(1, abs=1e-5)
    for at, _name in enumerate(system.names):
        assert z @ space.directions[:, at] + space.intercepts[at] == pytest.approx(row["labels"][at]["logit"], abs=1e-4)
    one = row["concepts"][0]
    assert system.checkpoint.config.bank["path"] == "bank.parquet"
    bank = system.checkpoint.bank()
    assert bank.texts[one["concept"]] == one["text"]


def test_figures_and_card(radiographs):
    folder, figures = radiographs.model, radiographs.figures
    assert set(figures["studies"]) == {"train", "valid", "test"} and 0 <= figures["test"]["all"]["macro_auroc"][0] <= 1
    card = (folder / "README.md").read_text()
    assert "a command" in card and f"{figures['bank']['concepts']:,} concepts" in card
    assert json.loads((folder / "config.json").read_text())["bank"]["sha256"]
    assert set(figures["rare"]) <= set(FINDINGS)


@pytest.mark.parametrize("method", ["gradient_x_input", "occlusion", "integrated_gradients"])
def test_findings_of_a_run_are_explained_over_cells(radiographs, tmp_path, method):
    options = {"precision": "fp32", "deterministic": True}
    spec = ModelSpec(SYSTEM, str(radiographs.model), options, {"threads": 1})
    records = image_records_of(("a", "b"), [radiographs.images(2), radiographs.images(1)])
    tables = []
    for each in (
        spec,
        ModelSpec(EXPLAINING, spec.path, {"of": SYSTEM, "options": options, **EXPLAIN, "method": method}, {"answers": []}),
    ):
        if tables:
            pq.write_table(tables[0], tmp_path / "run.parquet")
            each = replace(each, runtime={"answers": [str(tmp_path / "run.parquet")], "threads": 1})
        system = load(each)
        meta, prepared = prepare(system, records)
        tables.append(finish(system, pa.schema([]), "run", meta, answer(system, prepared, pa.schema([]))))
    run, explained = (table.to_pylist() for table in tables)
    for row, images in zip(explained, (2, 1), strict=True):
        (target,) = row["targets"]
        assert (target["target_name"], target["unit_kind"], row["n_windows"]) == ("Cardiomegaly", "patch", images)
        assert target["status"] == "ok" and target["m_comp_aopc"] is not None
        assert all(0 <= unit["x0"] < unit["x1"] <= 64 and unit["image"] < images for unit in target["units"])
        # The score rises within the first hundredth of the path, so it takes many steps.
        if method == "integrated_gradients":
            assert abs(target["residual"]) < 0.1 * max(1.0, abs(target["target_score"] - target["score_at_baseline"]))
    assert [image["sha256"] for image in run[0]["images"]][:1] == [image["sha256"] for image in run[1]["images"]]
