"""Units beside the text, such as words and vectors of a prompt: positions of a second kind with blanks of their own."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from engine.explain.boundary import boundary_checks, boundary_units
from engine.explain.explain import explain, explained, work_for
from engine.explain.explanation import Target, top_spans
from engine.explain.faithfulness import faithfulness
from engine.explain.methods import METHODS
from engine.explain.rows import TARGETS, target_row
from engine.explain.settings import Measures, Settings
from engine.explain.stability import perturbed, stability
from engine.text.units import UNIT_KINDS
from tests.explain.toys import Prompted, docs

# Three words of text, then a word and two vectors of the prompt; the last vector has 2 at a further layer.
MODEL = Prompted([1, -4, 2, 3, 1.5, 0.5], deep={6: 2.0})
BATCH, TARGET = docs([1, 2, 3, 4, 5, 6]), torch.tensor([0])
# A word loses itself, a vector what it has above the mean, and what it adds further up.
EXPECTED = [1, -4, 2, 3, 1.5 - 0.5, (0.5 - 0.5) + 2.0]


@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients", "occlusion", "kernel_shap", "lime"])
def test_each_position_is_held_against_its_own_blank(method):
    (found,) = explain(MODEL, BATCH, TARGET, method, Settings(samples=400, ridge=1e-6))
    assert found.score.tolist() == pytest.approx(EXPECTED, abs=1e-3)
    assert found.target_score == pytest.approx(6.0) and found.blank_score == pytest.approx(1.0)
    assert found.residual == pytest.approx(0, abs=1e-3)


def test_relevance_is_held_against_nothing():
    (found,) = explain(MODEL, BATCH, TARGET, "attnlrp")
    assert found.score.tolist() == pytest.approx([1, -4, 2, 3, 1.5, 2.5])


def test_shares_by_kind_and_the_text_alone():
    (found,) = explain(MODEL, BATCH, TARGET)
    assert found.shares == pytest.approx({"word": 7 / 13, "prompt": 3 / 13, "soft_prompt": 3 / 13})
    assert found.of_text.weight.tolist() == pytest.approx([1 / 7, 4 / 7, 2 / 7])
    assert found.of_text.shares == {"word": 1.0}
    assert top_spans(found, 1) == [(2, 3)]


def test_a_row_has_both_kinds_of_units_and_text_of_the_prompt_alone():
    (found,) = explain(MODEL, BATCH, TARGET)
    row = pa.array([[target_row("r", found, gold=np.array([True, False, False]))]], TARGETS).to_pylist()[0][0]
    assert (row["unit_kind"], row["units_total"], row["weight_dropped"]) == ("word", 6, 0)
    kinds = [UNIT_KINDS[unit["kind"]] for unit in row["units"]]
    assert kinds == ["word", "word", "word", "prompt", "soft_prompt", "soft_prompt"]
    assert [unit["start"] for unit in row["units"]] == [0, 5, 10, None, None, None]
    assert [unit["text"] for unit in row["units"]] == [None, None, None, "which", None, None]
    assert [unit["gold"] for unit in row["units"]] == [True, False, False, None, None, None]
    assert row["selected_spans"] == [{"start": 10, "end": 14, "score": 2.0}, {"start": 0, "end": 4, "score": 1.0}]


@pytest.mark.parametrize("method", [*METHODS, "fused", "uniform"])
def test_every_method_scores_every_unit(method):
    work = work_for(MODEL, BATCH, TARGET)
    (found,) = explained(work, method)
    assert len(found.score) == 6 and found.status == "ok" and found.weight.sum() == pytest.approx(1)
    (faithful,) = faithfulness(work, [found], Measures(shares=(0.5,)))
    (steady,) = stability(work, method, [found], perturbed(work), explained)
    assert faithful is not None and len(steady.units) == 6


def test_erasing_takes_the_prompt_along():
    work = work_for(MODEL, BATCH, TARGET)
    (found,) = explained(work, "occlusion")
    (faithful,) = faithfulness(work, [found], Measures(shares=(0.2,)))
    # The strongest two are the prompt's word (3) and a word or the last vector (2 each).
    whole, without = torch.sigmoid(torch.tensor([6.0, 1.0])).tolist()
    assert faithful.comp[0] == pytest.approx(whole - without)


def test_the_edge_of_a_span_ends_with_the_text():
    (found,) = explain(MODEL, BATCH, TARGET)
    assert boundary_units(replace(found, target=Target("x", "span", 10, 14))).tolist() == [1, 2]


def test_larger_units_leave_the_prompt_as_it_is():
    (units,) = MODEL.units(BATCH)
    merged = units.merged("sentence", np.array([0, 10]), np.array([9, 19]))
    assert merged.of_position.tolist() == [0, 0, 1, 2, 3, 4] and len(merged) == 5
    (found,) = explain(MODEL, BATCH, TARGET, units=[merged])
    assert found.score.tolist() == pytest.approx([-3, 2, 3, 1, 2])
    assert list(found.shares) == ["sentence", "prompt", "soft_prompt"]
    assert set(boundary_checks(work_for(MODEL, BATCH, TARGET), 0, found).values()) == {None}
