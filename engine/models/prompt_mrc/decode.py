"""From logits to spans of text: candidates, their scores, and what of all windows stays.

A span (i, j) of a type is a candidate where sigma(s_i), sigma(e_j) and sigma(m_ij) pass their thresholds, i <= j, and it is at
most `max_words` words long. Its score is the cube root of the three probabilities' product. A start for which only ends before it
were found is counted and gives nothing. A tagger's span has one threshold, that of `match`, which its score must pass; `outside`
sets how readily a word belongs to a span.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.instances import BEGIN, INSIDE, OUTSIDE, Window

if TYPE_CHECKING:
    from engine.models.prompt_mrc.network import Contexts, Found, MrcNetwork

MATCH_AT_ONCE = 65536
# A text's number, a word of it, and the type that seems to begin there.
Start = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A span that one window gave: words `first` to `last` of text number `text`, both in it.

    `row` and `tokens` say where its logits are: the row of the batch, and its first and last token in the window, which begins
    at token `window` of the text. `edge` tells that the span touches an end of the window where the text goes on. `margin` is how
    far F lies above that of the same span under the best other type, `rival`, where it was asked for (see `margins`).
    """

    text: int
    type: int
    first: int
    last: int
    score: float
    start_score: float
    end_score: float
    match_score: float | None
    row: int
    tokens: tuple[int, int]
    window: int
    edge: bool
    margin: float | None = None
    rival: int | None = None


def candidates(
    network: "MrcNetwork",
    found: "Found",
    contexts: "Contexts",
    windows: Sequence[Window],
    types: Sequence[int],
    decoding: Decoding,
) -> tuple[list[Candidate], set[Start]]:
    """Candidates of a batch of windows under some types, and the starts that had ends before them only.

    Args:
        found: rows for each window, and in each for each of `types`, in these orders (the tagger: a row a window).
    """
    if found.tags is not None:
        return _tagged(found.tags, windows, types, decoding), set()
    count = len(types)
    start, end = torch.sigmoid(found.start), torch.sigmoid(found.end)
    window = torch.arange(len(windows), device=start.device).repeat_interleave(count)
    begins = (start > decoding.start) & contexts.starts[window]
    ends = (end > decoding.end) & contexts.ends[window]
    row, first, last, lost = _reachable(begins, ends, windows, types, network.config.max_words)
    match = torch.cat(
        [
            torch.sigmoid(network.match(found.states, *(each[at : at + MATCH_AT_ONCE] for each in (row, first, last))))
            for at in range(0, len(row), MATCH_AT_ONCE)
        ]
        or [torch.zeros(0)]
    )
    kept = (match > decoding.match).nonzero().squeeze(-1)
    row, first, last = row[kept], first[kept], last[kept]
    scores = torch.stack([start[row, first], end[row, last], match[kept].to(start.device)], -1).double().cpu().numpy()
    rows, firsts, lasts = (each.cpu().tolist() for each in (row, first, last))
    made = []
    for place, (at, a, b) in enumerate(zip(rows, firsts, lasts, strict=True)):
        of, kind = windows[at // count], types[at % count]
        made.append(_candidate(of, kind, at, (a, b), scores[place].tolist()))
    return made, lost


@torch.no_grad()
def margins(network: "MrcNetwork", found: "Found", made: Sequence[Candidate], types: Sequence[int]) -> list[Candidate]:
    """Candidates with their confusion margin: F, the sum of the three logits, less the most that another type's prompt gives the
    same span. All prompts of a window are in the batch, so this costs no pass of its own."""
    count = len(types)
    if count < 2 or not made or found.tags is not None:
        return list(made)
    first, last = (torch.tensor([each.tokens[side] for each in made], device=found.start.device) for side in (0, 1))
    top = torch.tensor([each.row - each.row % count for each in made], device=found.start.device)
    row = (top.unsqueeze(1) + torch.arange(count, device=top.device)).flatten()
    first, last = first.repeat_interleave(count), last.repeat_interleave(count)
    score = found.start[row, first] + found.end[row, last] + network.match(found.states, row, first, last)
    score = score.unflatten(0, (-1, count)).double().cpu().numpy()
    told = []
    for each, values in zip(made, score, strict=True):
        own = each.row % count
        others = np.where(np.arange(count) == own, -np.inf, values)
        rival = int(others.argmax())
        told.append(replace(each, margin=float(values[own] - others[rival]), rival=types[rival]))
    return told


def _reachable(
    begins: Tensor, ends: Tensor, windows: Sequence[Window], types: Sequence[int], longest: int
) -> tuple[Tensor, Tensor, Tensor, set[Start]]:
    """All pairs of a start and an end at or after it within `longest` words, as (row, first, last), and the lost starts."""
    device = begins.device
    begins, ends = begins.cpu().numpy(), ends.cpu().numpy()
    found: list[np.ndarray] = []
    lost: set[Start] = set()
    for row in np.flatnonzero(begins.any(1)):
        window, kind = windows[row // len(types)], types[row % len(types)]
        a, b = np.flatnonzero(begins[row]), np.flatnonzero(ends[row])
        gap = window.word[b][None, :] - window.word[a][:, None]
        fits = (gap >= 0) & (gap < longest) & (b[None, :] >= a[:, None])
        orphans = a[~fits.any(1) & ((gap < 0) & (gap > -longest)).any(1)]
        lost |= {(window.text, word, kind) for word in window.word[orphans].tolist()}
        i, j = np.nonzero(fits)
        found.append(np.stack([np.full(len(i), row), a[i], b[j]]))
    whole = np.concatenate(found, 1) if found else np.zeros((3, 0), np.int64)
    row, first, last = (torch.from_numpy(each).to(device) for each in whole.astype(np.int64))
    return row, first, last, lost


def _candidate(window: Window, kind: int, row: int, tokens: tuple[int, int], scores: Sequence[float]) -> Candidate:
    a, b = tokens
    score = float(np.prod(scores) ** (1 / len(scores)))
    match = scores[2] if len(scores) > 2 else None
    words = int(window.word[a]), int(window.word[b])
    return Candidate(window.text, kind, *words, score, scores[0], scores[1], match, row, tokens, window.start, window.cuts(a, b))


def _tagged(tags: Tensor, windows: Sequence[Window], types: Sequence[int], decoding: Decoding) -> list[Candidate]:
    """Spans of a tagger: a B and the I that follow, word by word; an I without a B before it begins a span, as is usual.

    Its score is the geometric mean of its first tag's probability and the mean one of its words' tags, in place of start and end;
    one that is not above the threshold is left out.
    """
    logits = tags.float().clone()
    logits[..., OUTSIDE] -= decoding.outside
    prob = logits.softmax(-1).cpu().numpy()
    made = []
    for number, window in enumerate(windows):
        at = np.flatnonzero(window.starts)
        stops = np.r_[at[1:], len(window)] - 1
        for kind in types:
            mine = prob[number, at, kind]
            for first, last in _runs(mine.argmax(-1)):
                begin, inner = float(mine[first].max()), mine[first : last + 1].max(-1)
                place = int(at[first]), int(stops[last])
                each = _candidate(window, kind, number, place, [begin, float(inner.mean())])
                if each.score > decoding.match:
                    made.append(each)
    return made


def _runs(labels: np.ndarray) -> list[tuple[int, int]]:
    """Spans (first, last) of BIO labels [words]."""
    found: list[tuple[int, int]] = []
    begun = -1
    for place, label in enumerate([*labels.tolist(), OUTSIDE]):
        if begun >= 0 and label != INSIDE:
            found.append((begun, place - 1))
            begun = -1
        if label == BEGIN or (label == INSIDE and begun < 0):
            begun = place
    return found


def settle(found: Sequence[Candidate], decoding: Decoding) -> list[Candidate]:
    """The spans of one text that stay, in its order: equal ones of several windows are one, the best scored that was seen whole.

    A span that a window may have cut, as it touches its end, gives way to any of its type that it overlaps and that another
    window saw whole, whatever the scores, and never drives one out; of two such spans of different windows the better one stays.
    """
    best: dict[tuple[int, int, int], Candidate] = {}
    for each in found:
        key = (each.first, each.last, each.type)
        if key not in best or _worth(each) > _worth(best[key]):
            best[key] = each
    whole = [each for each in best.values() if not each.edge]
    left = [each for each in best.values() if not (each.edge and any(_cuts(each, other) for other in whole))]
    kept: list[Candidate] = []
    for each in sorted(left, key=lambda span: (-span.score, span.first, span.last, span.type)):
        if not any(_conflict(each, other, decoding) for other in kept):
            kept.append(each)
    return sorted(kept, key=lambda span: (span.first, span.last, span.type))


def _worth(each: Candidate) -> tuple[bool, float, int]:
    return not each.edge, each.score, -each.window


def _overlap(one: Candidate, other: Candidate) -> bool:
    return one.first <= other.last and other.first <= one.last


def _cuts(one: Candidate, other: Candidate) -> bool:
    return one.type == other.type and one.window != other.window and _overlap(one, other)


def _conflict(one: Candidate, other: Candidate, decoding: Decoding) -> bool:
    if not _overlap(one, other):
        return False
    if decoding.flat_across_types:
        return True
    if one.type != other.type:
        return False
    return not decoding.nested or (one.edge and other.edge and one.window != other.window)
