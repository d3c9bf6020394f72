"""The shipped model, with all its heads."""

import json

import pytest

from engine.models.site_classifier.checkpoint import SHIPPED, read_checkpoint
from engine.sources.synthetic import generate
from tests.models.conftest import coded, coder

FURTHER = ("dpla",)


def test_the_shipped_model_is_small():
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 15e6


def test_every_head_is_a_model_of_its_own():
    digests = [read_checkpoint("shipped", head).digest for head in (None, *FURTHER)]
    assert len(set(digests)) == 2
    assert digests[0] == json.loads((SHIPPED / "digest.json").read_text())["digest"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("head", FURTHER)
def test_a_further_head_codes_reports_with_evidence(head):
    table = generate(24, 9, median_words=60)
    rows = coded(coder("shipped", head=head, method="attention"), table["text"].to_pylist())
    right = [row["site_code"] == gold for row, gold in zip(rows, table["site"].to_pylist(), strict=True)]
    assert sum(right) > 8
    for row in rows:
        assert row["site_evidence"] and all(0 <= each["start"] < each["end"] for each in row["site_evidence"])
