import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from engine.explain.explain import explain, explained, work_for
from engine.explain.faithfulness import faithfulness
from engine.explain.methods import METHODS
from engine.explain.rows import CHECKS, TARGETS, target_row
from engine.explain.settings import Measures, Settings
from engine.explain.stability import perturbed, stability
from tests.explain.toys import Linear, docs

FIRST = torch.tensor([0])
MODEL, BATCH = Linear([1, 4, -2, 3]), docs([1, 2, 3, 4])


@pytest.mark.parametrize("method", [*METHODS, "fused", "uniform"])
def test_every_method_fits_the_table(method):
    batch = docs([1, 2, 3, 4], [])
    found = explain(MODEL, batch, torch.tensor([0, 0]), method)
    rows = [target_row(name, one, gold=np.zeros(len(one.score), bool)) for name, one in zip(batch.names, found, strict=True)]
    table = pa.array([[row] for row in rows], TARGETS).to_pylist()
    first, empty = table[0][0], table[1][0]
    assert [unit["start"] for unit in first["units"]] == [0, 5, 10, 15]
    assert sum(unit["weight"] for unit in first["units"]) == pytest.approx(1)
    assert (empty["status"], empty["units"], empty["selected_spans"]) == ("no_units", [], [])


def test_a_row_by_hand():
    (found,) = explain(MODEL, BATCH, FIRST, "occlusion")
    row = target_row("r", found, spans=1, max_units=3)
    assert [(unit["id"], unit["score"], unit["selected"]) for unit in row["units"]] == [
        (1, 4.0, True),
        (2, -2.0, False),
        (3, 3.0, False),
    ]
    assert row["weight_dropped"] == pytest.approx(0.1) and row["units_total"] == 4
    assert row["selected_spans"] == [{"start": 0, "end": 9, "score": 5.0}]
    assert (row["target_score"], row["score_at_baseline"], row["target_name"]) == (6.0, 0.0, "label 0")


def test_checks_become_columns():
    work = work_for(MODEL, BATCH, FIRST)
    found = explained(work, "occlusion")
    (faithful,) = faithfulness(work, found, Measures())
    (steady,) = stability(work, "occlusion", found, perturbed(work))
    row = target_row("r", found[0].checked({**faithful.checks(), **steady.checks()}))
    assert {*faithful.checks(), *steady.checks()} - {"n_perturb"} <= set(CHECKS)
    assert row["m_comp_aopc"] == faithful.checks()["comp_aopc"] and row["m_stability"] == 1.0 and row["n_perturb"] == 8
    assert row["m_auprc"] is None


def test_ids_are_of_all_that_makes_an_explanation():
    def ident(record="r", method="lime", target=FIRST, **settings):
        return target_row(record, explain(MODEL, BATCH, target, method, Settings(**settings))[0])["explanation_id"]

    ids = [ident(), ident("s"), ident(method="random"), ident(target=torch.tensor([1])), ident(samples=70)]
    assert len(set(ids)) == 5 and ident() == ids[0] == ident(steps=3)


def test_settings_are_json():
    (found,) = explain(MODEL, BATCH, FIRST, "fused", Settings(fuse=("occlusion",)))
    assert json.loads(target_row("r", found)["method_params"])["fuse"] == ["occlusion"]
