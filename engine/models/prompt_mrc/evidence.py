"""Why a span: gradient times input over the text's words, the template's pieces and the soft vectors.

What is explained is F = s_i + e_j + m_ij, the logits of start, end and match. A token's score is (x - b) . dF/dx with b the
embedding of [MASK], a soft vector's the same with b the mean word embedding (Shrikumar et al. 2017); what deep prompts add at
further layers counts to the soft vector at whose place it stands, with b = 0. Shares are of all units' absolute scores together:
how much of the answer rests on the text, on the template and on the soft prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.explain.explanation import evidence_rows, from_tokens, top_spans
from engine.models.prompt_mrc.instances import Window
from engine.models.prompt_mrc.network import MrcNetwork, collate


@dataclass(frozen=True)
class Wanted:
    """A span to explain: its window, its type, its tokens there (both in it), and offsets and flags of the text's words."""

    window: Window
    type: int
    tokens: tuple[int, int]
    word_start: np.ndarray
    word_end: np.ndarray
    spoken: np.ndarray


def explain(network: MrcNetwork, wanted: Sequence[Wanted], spans: int) -> list[dict[str, Any]]:
    """`evidence` (the `spans` strongest runs of words) and `context_share`, `hard_share` and `soft_share` of each span wanted.

    The tagger has no prompt, and what is explained there are the logits of B at the first word and of I at the last.
    """
    context, prompt, asked = _scores(network, wanted)
    found = []
    for row, each in enumerate(wanted):
        first, stop = int(each.window.word[0]), int(each.window.word[-1]) + 1
        words = from_tokens(
            context[row, : len(each.window)],
            each.window.word - first,
            each.word_start[first:stop],
            each.word_end[first:stop],
        )
        sums = [np.abs(words.score).sum(), *(np.abs(prompt[row][flags[row]]).sum() for flags in asked)]
        total = float(sum(sums))
        shares = [float(value) / total if total > 0 else 0.0 for value in sums]
        runs = evidence_rows(words, top_spans(words, spans, each.spoken[first:stop].astype(bool)))
        found.append(
            {
                "evidence": [run | {"weight": run["weight"] * shares[0]} for run in runs],
                **dict(zip(("context_share", "hard_share", "soft_share"), shares, strict=True)),
            }
        )
    return found


def _scores(network: MrcNetwork, wanted: Sequence[Wanted]) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Scores of the texts' tokens [N, L] and of the prompts' positions [N, P], and flags [N, P] of hard and soft ones."""
    config, device = network.config, next(network.parameters()).device
    contexts = collate([each.window for each in wanted], config.special).to(device)
    rows = torch.arange(len(wanted), device=device)
    with torch.no_grad():
        texts = network.parted.embed(contexts.ids)
        prompts = network.prompt_embeds([each.type for each in wanted])
        blank = network.parted.embed(torch.tensor(config.special[3], device=device)).float()
        mean = network.encoder.get_input_embeddings().weight.float().mean(0)
    with torch.enable_grad():
        texts, before = texts.detach().requires_grad_(), prompts.states.detach().requires_grad_()
        deep = [each.detach().requires_grad_() for each in prompts.deep]
        asked = network.encoded(replace(prompts, states=before, deep=deep))
        found = network.answer(contexts, network.read(contexts, texts), asked, rows, rows)
        total = _target(network, found, wanted, rows)
    slopes = torch.autograd.grad(total, (texts, before, *deep))
    base = torch.where(prompts.soft.bool().unsqueeze(-1), mean, blank)
    context = ((texts.detach().float() - blank) * slopes[0].float()).sum(-1)
    prompt = ((before.detach().float() - base) * slopes[1].float()).sum(-1)
    for each, slope in zip(deep, slopes[2:], strict=True):
        prompt = prompt + (each.detach().float() * slope.float()).sum(-1)
    flags = tuple(each.bool().cpu().numpy() for each in (prompts.hard, prompts.soft))
    return context.double().cpu().numpy(), prompt.double().cpu().numpy(), flags


def _target(network: MrcNetwork, found: Any, wanted: Sequence[Wanted], rows: Tensor) -> Tensor:
    first, last = (torch.tensor([each.tokens[side] for each in wanted], device=rows.device) for side in (0, 1))
    if found.tags is None:
        return (found.start[rows, first] + found.end[rows, last] + network.match(found.states, rows, first, last)).sum()
    kind = torch.tensor([each.type for each in wanted], device=rows.device)
    return (found.tags[rows, first, kind, 1] + found.tags[rows, last, kind, 2]).sum()
