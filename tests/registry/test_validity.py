"""Pairs of codes that cannot be, and the many of which nothing is said."""

import json

import pytest

from engine.models.site_classifier.checkpoint import SHIPPED
from engine.registry.validity import impossible


@pytest.mark.parametrize(
    ("site", "histology"),
    [("C50", "8170/3"), ("C34", "8520/3"), ("C77", "8140/3"), ("C42", "8500/3"), ("C18", "9440/3"), ("C50", "9861/3")],
)
def test_pairs_that_cannot_be(site, histology):
    assert impossible(site, histology)


@pytest.mark.parametrize(
    ("site", "histology"),
    [
        ("C22", "8170/3"),
        ("C50", "8520/3"),
        ("C77", "9680/3"),
        ("C42", "9861/3"),
        ("C34", "8140/3"),
        ("C77", "8000/3"),
        ("C80", "8170/3"),
        ("C18;C50", "8170/3"),
        ("C18", "8140/3;9440/3"),
        ("C99", "8170/3"),
        ("", ""),
    ],
)
def test_nothing_is_said_of_what_may_be_or_is_no_code(site, histology):
    assert not impossible(site, histology)


def test_every_pair_that_training_has_seen_is_let_pass():
    pairs = json.loads((SHIPPED / "labels.json").read_text())["pairs"]
    assert len(pairs) > 100
    assert [pair for pair in pairs if impossible(*pair)] == []
