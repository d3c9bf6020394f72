"""From logits to spans: candidates of each window, their scores, and which of all windows' candidates are kept.

A span (i, j) of a type is a candidate if sigma(s_i), sigma(e_j) and sigma(m_ij) pass their thresholds, i <= j, it lies in one
part of the text (see `engine.text.sentences`), and it has at most `longest` words. Its score is the cube root of the three
probabilities' product. A start with predicted ends of its part only before it is counted and gives no span. A tagger's span has
one threshold, `match`, which its score must pass.

Flat decoding keeps one type a place: a span's margin is how far F, the sum of its three logits, lies above the highest F of the
same span under another type's prompt; where it is negative, the other type claims the place. Types that only a user's question
asks for compete among themselves, since their logits were never trained against those of the model's types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.instances import BEGIN, INSIDE, MAX_WORDS, OUTSIDE, Window

if TYPE_CHECKING:
    from engine.models.prompt_mrc.network import Contexts, Logits, MrcNetwork

# Pairs that the match head scores in one call.
MATCH_AT_ONCE = 65536
# A text's number, a word of it, and the type that seems to begin there.
Start = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A span from one window: words `first` to `last` of text number `text`, both included.

    Its logits are in row `row` of the batch, at its first and last of `tokens` in the window that begins at token `window` of the
    text. `edge`: the span touches an end of the window where the text goes on. `margin` is how far F lies above that of the same
    span under the best other type, `rival`; both None for a tagger and where no other type is looked for. `zero_shot`: the type
    was not trained.
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
    zero_shot: bool = False

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells the spans of a text apart."""
        return self.first, self.last, self.type

    def overlaps(self, other: "Candidate") -> bool:
        return self.first <= other.last and other.first <= self.last


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
        beside = (None, None) if np.isinf(margin) else (margin, types[rival])
        spans.append(_candidate(windows[n // count], types[n % count], n, (a, b), probs, *beside, bool(new[n % count])))
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


def select(spans: Sequence[Candidate], decoding: Decoding) -> list[Candidate]:
    """The spans of one text that are kept, in its order. Equal ones from several windows count once: the best one seen whole.

    With `flat_across_types` a span whose place another type claims is dropped, and of overlapping ones the better score is kept.

    A span at the edge of its window, which may have been cut there, gives way to any span of its type that overlaps it and that
    another window saw whole, whatever the scores. Of two overlapping edge spans from different windows the better one is kept.
    """
    best: dict[tuple[int, int, int], Candidate] = {}
    for span in spans:
        if span.key not in best or _rank(span) > _rank(best[span.key]):
            best[span.key] = span
    if decoding.flat_across_types:
        best = {key: span for key, span in best.items() if span.margin is None or span.margin >= 0}
    whole = [span for span in best.values() if not span.edge]
    left = [span for span in best.values() if not (span.edge and any(_same_from_elsewhere(span, other) for other in whole))]
    kept: list[Candidate] = []
    for span in sorted(left, key=lambda span: (-span.score, *span.key)):
        if not any(exclude(span, other, decoding) for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.key)


def _rank(span: Candidate) -> tuple[bool, float, int]:
    return not span.edge, span.score, -span.window


def _same_from_elsewhere(span: Candidate, other: Candidate) -> bool:
    """Whether two spans of different windows may be the same entity."""
    return span.type == other.type and span.window != other.window and span.overlaps(other)


def exclude(span: Candidate, other: Candidate, decoding: Decoding) -> bool:
    """Whether only one of two spans of a text can be kept."""
    if not span.overlaps(other):
        return False
    if decoding.flat_across_types and span.zero_shot == other.zero_shot:
        return True
    if span.type == other.type and not decoding.nested:
        return True
    return span.edge and other.edge and _same_from_elsewhere(span, other)


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


def _candidate(window: Window, kind: int, row: int, tokens: tuple[int, int], scores: Sequence[float], *rest: Any) -> Candidate:
    a, b = tokens
    score = float(np.prod(scores) ** (1 / len(scores)))
    match = scores[2] if len(scores) > 2 else None
    words = int(window.word[a]), int(window.word[b])
    edge = window.cuts(a, b)
    return Candidate(window.text, kind, *words, score, scores[0], scores[1], match, row, tokens, window.start, edge, *rest)


def _tagged(tags: Tensor, windows: Sequence[Window], types: Sequence[int], decoding: Decoding) -> list[Candidate]:
    """Spans of a tagger: a B and the I that follow, word by word. An I without a B before it in its part of the text begins a
    span, as is usual.

    The score is the geometric mean of the first tag's probability and of the mean over the words' tags, which take the place of
    the start and end scores.
    """
    logits = tags.float().clone()
    logits[..., OUTSIDE] -= decoding.outside
    probs = logits.softmax(-1).cpu().numpy()
    spans = []
    for row, window in enumerate(windows):
        at = np.flatnonzero(window.starts)
        stops = np.r_[at[1:], len(window)] - 1
        for kind in types:
            of_type = probs[row, at, kind]
            for first, last in _runs(of_type.argmax(-1), window.part[at], decoding.longest):
                scores = [float(of_type[first].max()), float(of_type[first : last + 1].max(-1).mean())]
                spans.append(_candidate(window, kind, row, (int(at[first]), int(stops[last])), scores))
    return [span for span in spans if span.score > decoding.match]


def _runs(labels: np.ndarray, parts: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Spans (first, last) of BIO labels [words], each within one of `parts` [words] and of at most `longest` words."""
    runs: list[tuple[int, int]] = []
    begin = -1
    for place, label in enumerate([*labels.tolist(), OUTSIDE]):
        if begin >= 0 and (label != INSIDE or parts[place] != parts[begin]):
            runs.append((begin, place - 1))
            begin = -1
        if label == BEGIN or (label == INSIDE and begin < 0):
            begin = place
    return [(first, last) for first, last in runs if last - first < longest]
