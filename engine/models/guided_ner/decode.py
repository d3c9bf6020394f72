"""From logits to spans: the best tags of each window, their runs, and the score of each run.

A span's score is exp(log p / words), p its probability under `network.Network.spans`. An I without a B of its type before it in
its part of the text begins a span; such repairs are counted (a CRF gives none but at the beginning of a part).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine.models.entities.candidates import Candidate, Start
from engine.models.entities.spans import BEGIN, INSIDE, OUTSIDE, Window, runs
from engine.models.guided_ner.config import Decoding
from engine.models.guided_ner.network import Words

if TYPE_CHECKING:
    from engine.models.guided_ner.network import Network


@torch.no_grad()
def best_tags(network: "Network", words: Words, logits: Tensor, outside: float) -> np.ndarray:
    """The best tag of each word [W, N] with `outside` subtracted from the score of O."""
    emissions = words.of(logits.float()).clone()
    emissions[..., 0] -= outside
    return emissions.argmax(-1).cpu().numpy() if network.crf is None else network.crf.best(emissions, words.mask)


def by_window(
    network: "Network", windows: Sequence[Window], logits: Tensor, types: Sequence[int], decoding: Decoding
) -> list[list[Candidate]]:
    """The spans of `types` in each window, by the logits [W, L, K] of their tokens."""
    words = Words(windows, logits.device)
    tags, places = best_tags(network, words, logits, decoding.outside), []
    for row, window in enumerate(windows):
        parts = window.part[window.words[0]]
        for kind in types:
            places += [(row, *span, kind) for span in runs(_labels(tags[row, : len(parts)], kind), parts, decoding.longest)]
    spans: list[list[Candidate]] = [[] for _ in windows]
    if not places:
        return spans
    rows, first, last, kinds = torch.tensor(places, device=logits.device).unbind(-1)
    with torch.no_grad():
        scores = (network.spans(logits.float(), words, rows, first, last, kinds) / (last - first + 1)).exp().cpu().tolist()
    for (row, begin, end, kind), score in zip(places, scores, strict=True):
        at, stops = windows[row].words
        if score > decoding.score:
            tokens = int(at[begin]), int(stops[end])
            spans[row].append(Candidate.of(windows[row], kind, tokens, score, outside=decoding.outside))
    return spans


def repaired(network: "Network", windows: Sequence[Window], logits: Tensor, types: Sequence[int], outside: float) -> set[Start]:
    """The places of tags I that a B should stand before: (text, word, type). A window that begins within a text tells nothing of
    its first word."""
    tags, found = best_tags(network, Words(windows, logits.device), logits, outside), set()
    for row, window in enumerate(windows):
        at = window.words[0]
        for kind in types:
            labels, parts = _labels(tags[row, : len(at)], kind), window.part[at]
            opened = np.r_[not window.is_first, (labels[:-1] != OUTSIDE) & (parts[:-1] == parts[1:])]
            found |= {(window.text, int(window.word[at[word]]), kind) for word in np.flatnonzero((labels == INSIDE) & ~opened)}
    return found


def _labels(tags: np.ndarray, kind: int) -> np.ndarray:
    """The tags [N] as those of one type."""
    return np.select([tags == 1 + 2 * kind, tags == 2 + 2 * kind], [BEGIN, INSIDE], OUTSIDE)
