"""Why a span, for its row: gradient times input over the text's words, the template's pieces and the soft vectors.

Shares are of all units' absolute scores together: how much of the answer rests on the text, on the template and on the soft
prompt. What is explained is said in `attributable`.
"""

from collections.abc import Sequence
from typing import Any

import torch

from engine.explain.explain import explain
from engine.explain.explanation import NOT_FINITE, evidence_rows, top_spans
from engine.explain.settings import Settings
from engine.models.prompt_mrc.attributable import Place, SpanModel

SHARES = {"word": "context_share", "prompt": "hard_share", "soft_prompt": "soft_share"}


def evidence(model: SpanModel, places: Sequence[Place], tokens: Sequence[tuple[int, int]], spans: int) -> list[dict[str, Any]]:
    """`evidence` (the `spans` strongest runs of words) and `context_share`, `hard_share` and `soft_share` of each span, given by
    its place and its first and last token there. All pass together.

    Raises:
        ValueError: a score is not finite.
    """
    batch = model.spans(places, [""] * len(places))
    settings = Settings(tokens_per_pass=max(1, int(model.sizes(batch).sum())), residual=False)
    told = []
    for explanation, units in zip(explain(model, batch, torch.tensor(tokens), settings=settings), batch.units, strict=True):
        if explanation.status == NOT_FINITE:
            raise ValueError("a score is not finite")
        shares = {column: explanation.shares.get(kind, 0.0) for kind, column in SHARES.items()}
        runs = evidence_rows(explanation.of_text, top_spans(explanation, spans, units.spoken))
        told.append({"evidence": [run | {"weight": run["weight"] * shares["context_share"]} for run in runs], **shares})
    return told
