"""The shipped model in bf16: a report alone and the same report among others."""

import pytest

from engine.sources.synthetic import generate
from tests.models.conftest import coded, coder

CLOSE = 0.02


@pytest.mark.timeout(300)
def test_bf16_stays_close_whatever_the_batch():
    texts = generate(16, 9, median_words=40)["text"].to_pylist()
    alone, together = (
        coded(coder("shipped", {"batch_tokens": budget}, precision="bf16", method="none"), texts) for budget in (1, 4096)
    )
    ties = 0
    for one, other in zip(alone, together, strict=True):
        for task in ("site", "histology"):
            first, second = one[f"{task}_top"][:2]
            if first["prob"] - second["prob"] <= 2 * CLOSE:
                ties += 1
                continue
            assert one[f"{task}_code"] == other[f"{task}_code"]
            assert one[f"{task}_prob"] == pytest.approx(other[f"{task}_prob"], abs=CLOSE)
    assert ties < 10
