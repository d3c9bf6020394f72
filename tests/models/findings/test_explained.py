"""The findings of a run explained over the cells of their images, by every method and with every measure."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.errors import ConfigError, ContractError
from engine.explain.explain import explained, work_for
from engine.explain.protocol import Explainable
from engine.explain.settings import Settings
from engine.models.base import ModelSpec
from engine.models.explanations import load as load_explaining
from engine.models.findings.explainable import FindingExplainable
from engine.models.findings.explained import explained as load_explained
from engine.models.rows import finish
from engine.models.run import answer, prepare, probe
from engine.records import IMAGES
from engine.text.units import UNIT_KINDS
from tests.models.findings.conftest import load, spec_of
from tests.toys import seen

METHODS = ("gradient_x_input", "integrated_gradients", "grad_l2", "attnlrp", "occlusion", "lime", "kernel_shap", "fused")
WHITE, MIDDLE, BLACK = (seen.picture((40, 16, 8, level)) for level in (255, 191, 127))
FILES = {"white": [BLACK, WHITE], "middle": [MIDDLE], "black": [BLACK]}


@pytest.fixture(scope="module")
def model(bounded):
    return FindingExplainable(load(bounded))


@pytest.fixture(scope="module")
def batch(model):
    return model.studies(prepare(model.system, seen.studies(**FILES))[1])


def test_it_is_what_every_method_asks_for(model, batch):
    assert isinstance(model, Explainable)
    assert model.sizes(batch).tolist() == [128, 64, 64] and model.embed(batch).shape == (256, 1)
    units = model.units(batch)
    assert [len(each) for each in units] == [128, 64, 64] and units[0].kind == "patch"
    # The square at (40, 16) is the cell of row 2 and column 5 of the second image.
    assert units[0].boxes[64 + 2 * 8 + 5].tolist() == [1, 40, 16, 48, 24]
    targets = torch.tensor([[0, 1], [1, 0], [2, 1]])
    assert model.score(batch, targets).tolist() == pytest.approx([0.0, -3.5, 2.0])
    assert [target.name for target in model.named(batch, targets)] == ["Bright", "Wide", "No Finding"]
    assert model.holds(batch, targets).tolist() == [True, True, True]
    with pytest.raises(ContractError):
        model.erase(batch, np.ones(256, bool), "delete")


def test_an_erased_cell_is_blanked(model, batch):
    keep = np.ones(256, bool)
    keep[64 + 21] = False
    erased = model.erase(batch, keep)
    targets = torch.tensor([[0, 1]] * 3)
    assert model.score(erased, targets).tolist() == pytest.approx([-2.0, 0.0, -2.0])
    assert model.holds(erased, targets).tolist() == [False, True, False]
    assert model.probability(erased, targets)[0].item() == pytest.approx(1 / (1 + np.exp(2.0)))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_square(model, batch, method):
    study = model.take(batch, [1])
    settings = Settings(samples=400, perturbations=2, steps=4)
    (explanation,) = explained(work_for(model, study, torch.tensor([[1, 0]]), settings), method)
    assert explanation.status == "ok" and explanation.boxes.shape == (64, 5)
    strongest = int(explanation.score.argmax()) if method != "grad_l2" else 21
    assert strongest == 21


@pytest.fixture(scope="module")
def run(bounded, tmp_path_factory):
    """The file of a finished run's table."""
    path = tmp_path_factory.mktemp("run") / "0001-0000.parquet"
    system = load(bounded)
    meta, prepared = prepare(system, seen.studies(**FILES, lost=[WHITE], broken=[b"?"]))
    pq.write_table(finish(system, pa.schema([]), "run", meta, answer(system, prepared, pa.schema([]))), path)
    return path


def explaining(folder, run, **options):
    spec = spec_of(folder)
    values = {"run": "run", "of": spec.system, "options": dict(spec.options), "faithfulness": 1.0, "stability": 1.0, "tasks": []}
    values |= {"perturbations": 2, "method": "gradient_x_input", **options}
    return load_explaining(ModelSpec("engine.models.explanations", spec.path, values, {"answers": [str(run)], "threads": 1}))


def rows_of(system, **files):
    meta, prepared = prepare(system, seen.studies(**files))
    table = finish(system, pa.schema([]), "explaining", meta, answer(system, prepared, pa.schema([])))
    return {row["record_id"]: row for row in table.to_pylist()}


def test_a_runs_findings_are_explained_with_boxes_and_measures(bounded, run):
    system = explaining(bounded, run)
    assert system.reads == IMAGES
    rows = rows_of(system, **FILES, lost=[BLACK], broken=[b"?"], new=[WHITE])
    kinds = {name: row["failure"] and row["failure"]["kind"] for name, row in rows.items()}
    assert kinds == {
        "white": None,
        "middle": None,
        "black": None,
        "lost": "text_changed",
        "broken": "not_coded",
        "new": "not_coded",
    }
    assert [target["target_name"] for target in rows["middle"]["targets"]] == ["Bright", "No Finding"]
    (bright, _) = rows["white"]["targets"]
    # Of two images the maximum is (0 + 1) / 2, so the logit is 0; the square has half of 4 of it.
    assert (bright["status"], bright["target_kind"], bright["unit_kind"], bright["units_total"]) == ("ok", "label", "patch", 128)
    assert bright["target_score"] == pytest.approx(0.0) and bright["score_at_baseline"] == pytest.approx(-2.0)
    assert bright["residual"] == pytest.approx(0.0, abs=1e-6)
    (cell,) = [unit for unit in bright["units"] if unit["weight"] > 0.5]
    assert [cell[name] for name in ("image", "x0", "y0", "x1", "y1", "start", "end")] == [1, 40, 16, 48, 24, None, None]
    assert cell["kind"] == UNIT_KINDS.index("patch") and cell["score"] == pytest.approx(2.0)
    assert bright["m_comp_aopc"] == pytest.approx(0.5 - 1 / (1 + np.exp(2.0)), abs=1e-6)
    assert bright["m_flip_rate"] is not None
    assert (rows["white"]["n_tokens"], rows["white"]["n_windows"], rows["white"]["text_sha256"]) == (128, 2, None)


def test_named_findings_are_explained_whatever_the_run_says(bounded, run):
    rows = rows_of(explaining(bounded, run, tasks=["Wide"], method="occlusion", stability=0.0), **FILES)
    assert all([target["target_name"] for target in row["targets"]] == ["Wide"] for row in rows.values())
    assert rows["middle"]["targets"][0]["status"] == "ok" and rows["black"]["targets"][0]["status"] == "degenerate"


def test_an_explanation_is_that_of_the_runs_own_evidence(bounded, run):
    (region,) = [each for each in pq.read_table(run)["evidence"][1].as_py() if each["label"] == "Bright"]
    target = rows_of(explaining(bounded, run), middle=[MIDDLE])["middle"]["targets"][0]
    (unit,) = [unit for unit in target["units"] if unit["weight"] > 0]
    assert {name: unit[name] for name in region if name != "label"} == {k: v for k, v in region.items() if k != "label"}


def test_the_probe_passes_and_a_sample_leaves_others_out(bounded, run):
    probe(explaining(bounded, run), pa.schema([]))
    rows = rows_of(explaining(bounded, run, below=0), white=FILES["white"])
    assert rows["white"]["decision"] == "not_applicable" and rows["white"]["targets"] is None


def test_what_cannot_be_explained_is_refused_in_one_line(bounded, run):
    with pytest.raises(ConfigError, match=r"^explain.tasks: the model has no finding 'Edema'; it has Bright, Wide, No Finding$"):
        load_explained(spec_of(bounded), ["Edema"], {})
    with pytest.raises(ConfigError, match=r"^explain.targets: findings have no codes"):
        load_explained(spec_of(bounded), [], {"Bright": "yes"})
    with pytest.raises(ConfigError, match=r"^explain.units: a system of findings reads images"):
        explaining(bounded, run, units="sentence")
    with pytest.raises(ConfigError, match=r"^explain.perturb: a system of findings has no 'noise'; it has mask$"):
        explaining(bounded, run, perturb="noise")
