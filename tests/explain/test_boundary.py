from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.explain.boundary import boundary_checks, boundary_shares, boundary_units, boundary_value
from engine.explain.explain import explained, work_for
from engine.explain.explanation import Target
from tests.explain.toys import Linear, docs

WORK = work_for(Linear([1, 2, 4, 3, 5, 0.5]), docs([1, 2, 3, 4, 5, 6]), torch.tensor([0]))
(FOUND,) = explained(WORK, "occlusion")


def spanned(start, end):
    return replace(FOUND, target=Target("x", "span", start, end))


def test_the_edge_is_inside_and_outside_of_both_ends():
    assert boundary_units(spanned(10, 19)).tolist() == [1, 2, 3, 4]
    assert boundary_units(spanned(0, 4)).tolist() == [0, 1]
    assert boundary_units(spanned(4, 5)).tolist() == boundary_units(FOUND).tolist() == []


def test_mass_and_lift_by_hand():
    checks = boundary_checks(WORK, 0, spanned(10, 19))
    assert checks["boundary_mass"] == pytest.approx(14 / 15.5)
    assert checks["boundary_lift"] == pytest.approx(14 / 15.5 / (4 / 6))
    assert boundary_shares(spanned(10, 19)) == (checks["boundary_mass"], checks["boundary_lift"])


def test_occlusion_is_faithful_to_itself_at_the_boundary():
    assert boundary_checks(WORK, 0, spanned(10, 19))["boundary_faith"] == pytest.approx(1)
    assert boundary_value(WORK, 0, spanned(10, 19)) == pytest.approx(0.5 * (14 / 15.5 + 1))


def test_all_weight_on_the_edge_and_a_target_without_span():
    on_edge = replace(spanned(10, 19), weight=np.array([0, 0.5, 0.5, 0, 0, 0]))
    assert boundary_checks(WORK, 0, on_edge)["boundary_mass"] == 1
    assert set(boundary_checks(WORK, 0, FOUND).values()) == {None}
    nothing = replace(spanned(10, 19), weight=np.zeros(6))
    assert boundary_shares(FOUND) == boundary_shares(nothing) == (None, None)
    assert boundary_value(WORK, 0, FOUND) == 0.0
