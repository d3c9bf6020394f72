"""From logits to spans: the candidates of each window and their scores.

A span (i, j) of a type is a candidate if sigma(s_i), sigma(e_j) and sigma(m_ij) pass their thresholds, i <= j, it lies in one
part of the text (see `engine.text.sentences`), and it has at most `longest` words. Its score is the cube root of the three
probabilities' product. A start with predicted ends of its part only before it is counted and gives no span. A tagger's span has
one threshold, `match`, which its score must pass.

Flat decoding keeps one type a place: a span's margin is how far F, the sum of its three logits, lies above the highest F of the
same span under another type's prompt; where it is negative, the other type claims the place. Types that only a user's question
asks for compete among themselves, since their logits were never trained against those of the model's types.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from engine.models.entities.candidates import Start
from engine.models.entities.spans import MAX_WORDS, OUTSIDE, Window, runs
from engine.models.prompt_mrc.config import Candidate, Decoding

if TYPE_CHECKING:
    from engine.models.prompt_mrc.network import Contexts, Logits, MrcNetwork

# Pairs that the match head scores in one call.
MATCH_AT_ONCE = 65536


def window_candidates(
    network: "MrcNetwork",
    logits: "Logits",
    contexts: "Contexts",
    windows: Sequence[Window],
    types: Sequence[int],
    decoding: Decoding,
) -> tuple[list[Candidate], set[Start]]:
    """Candidates of a batch of windows under `types`, and the starts with ends only before them.

    Margins cost no further pass of the encoder, since all prompts of a window are in the batch.

    Args:
        logits: a row for each window and, within it, each of `types`; of a tagger a row for each window.
    """
    if logits.tags is not None:
        return _tagged(logits.tags, windows, types, decoding), set()
    count = len(types)
    start, end = torch.sigmoid(logits.start), torch.sigmoid(logits.end)
    window = torch.arange(len(windows), device=start.device).repeat_interleave(count)
    begins = (start > decoding.start) & contexts.starts[window]
    ends = (end > decoding.end) & contexts.ends[window]
    row, first, last, lost = _pairs(begins, ends, windows, types, decoding.longest)
    match = torch.sigmoid(_match(network, logits, row, first, last))
    passing = (match > decoding.match).nonzero().squeeze(-1)
    row, first, last = row[passing], first[passing], last[passing]
    scores = torch.stack([start[row, first], end[row, last], match[passing]], -1).double().cpu().tolist()
    new = np.array(types) >= len(network.config.types)
    margins, rivals = _margins(network, logits, row, first, last, new)
    spans = []
    for n, a, b, probs, margin, rival in zip(
        *(side.cpu().tolist() for side in (row, first, last)), scores, margins.tolist(), rivals.tolist(), strict=True
    ):
        beside = {} if np.isinf(margin) else {"margin": margin, "rival": types[rival]}
        zero_shot = bool(new[n % count])
        spans.append(_candidate(windows[n // count], types[n % count], (a, b), probs, **beside, zero_shot=zero_shot))
    return spans, lost


def _match(network: "MrcNetwork", logits: "Logits", row: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Match logits of pairs."""
    parts = [
        network.match(logits.states, *(side[at : at + MATCH_AT_ONCE] for side in (row, first, last)))
        for at in range(0, len(row), MATCH_AT_ONCE)
    ]
    return torch.cat(parts or [torch.zeros(0, device=row.device)])


@torch.no_grad()
def _margins(
    network: "MrcNetwork", logits: "Logits", row: Tensor, first: Tensor, last: Tensor, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The margin of each span (infinite without another type), and the place of the best other type among those of the window.

    Args:
        new: whether each of the window's types [types] was not trained.
    """
    count, spans = len(new), np.arange(len(row))
    rows = ((row - row % count).unsqueeze(1) + torch.arange(count, device=row.device)).flatten()
    first, last = first.repeat_interleave(count), last.repeat_interleave(count)
    score = logits.start[rows, first] + logits.end[rows, last] + _match(network, logits, rows, first, last)
    score = score.unflatten(0, (-1, count)).double().cpu().numpy() if len(row) else np.zeros((0, count))
    own = (row % count).cpu().numpy()
    rivals = new[own][:, None] == new[None, :]
    rivals[spans, own] = False
    others = np.where(rivals, score, -np.inf)
    best = others.argmax(1)
    return score[spans, own] - others[spans, best], best


def possible_pairs(window: Window, starts: np.ndarray, ends: np.ndarray, longest: int = MAX_WORDS) -> np.ndarray:
    """Which pairs [starts, ends] of first and last pieces of words, as tokens, bound at most `longest` words of one part."""
    gap, together = _gaps(window, starts, ends)
    return (gap >= 0) & (gap < longest) & together


def _gaps(window: Window, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many words after each start each end lies [starts, ends], and whether in the same part of the text."""
    gap, apart = (column[ends][None, :] - column[starts][:, None] for column in (window.word, window.part))
    return gap, apart == 0


def _pairs(
    begins: Tensor, ends: Tensor, windows: Sequence[Window], types: Sequence[int], longest: int
) -> tuple[Tensor, Tensor, Tensor, set[Start]]:
    """All possible pairs of predicted starts and ends, as (row, first token, last token), and the starts with ends of their part
    only before them, less than `MAX_WORDS` words away."""
    device = begins.device
    begins, ends = begins.cpu().numpy(), ends.cpu().numpy()
    pairs: list[np.ndarray] = [np.zeros((3, 0), np.int64)]
    lost: set[Start] = set()
    for row in np.flatnonzero(begins.any(1)):
        window, kind = windows[row // len(types)], types[row % len(types)]
        a, b = np.flatnonzero(begins[row]), np.flatnonzero(ends[row])
        possible = possible_pairs(window, a, b, longest)
        gap, together = _gaps(window, a, b)
        near = together & (abs(gap) < MAX_WORDS)
        orphans = a[(near & (gap < 0)).any(1) & ~(near & (gap >= 0)).any(1)]
        lost |= {(window.text, word, kind) for word in window.word[orphans].tolist()}
        i, j = np.nonzero(possible)
        pairs.append(np.stack([np.full(len(i), row), a[i], b[j]]))
    row, first, last = (torch.from_numpy(side).to(device) for side in np.concatenate(pairs, 1).astype(np.int64))
    return row, first, last, lost


def _candidate(window: Window, kind: int, tokens: tuple[int, int], scores: Sequence[float], **more: Any) -> Candidate:
    """A candidate whose score is the geometric mean of the scores of start, end and, if there is one, match."""
    named = dict(zip_longest(("start_score", "end_score", "match_score"), scores))
    return Candidate.of(window, kind, tokens, float(np.prod(scores) ** (1 / len(scores))), **named, **more)


def _tagged(tags: Tensor, windows: Sequence[Window], types: Sequence[int], decoding: Decoding) -> list[Candidate]:
    """Spans of a tagger: a B and the I that follow, word by word (see `runs`).

    The score is the geometric mean of the first tag's probability and of the mean over the words' tags, which take the place of
    the start and end scores.
    """
    logits = tags.float().clone()
    logits[..., OUTSIDE] -= decoding.outside
    probs = logits.softmax(-1).cpu().numpy()
    spans = []
    for row, window in enumerate(windows):
        at, stops = window.words
        for kind in types:
            of_type = probs[row, at, kind]
            for first, last in runs(of_type.argmax(-1), window.part[at], decoding.longest):
                scores = [float(of_type[first].max()), float(of_type[first : last + 1].max(-1).mean())]
                tokens = int(at[first]), int(stops[last])
                spans.append(_candidate(window, kind, tokens, scores, outside=decoding.outside))
    return [span for span in spans if span.score > decoding.match]
