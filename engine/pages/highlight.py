"""Evidence spans over a text, as HTML: strength by weight, colour by sign, one line per task, overlaps included."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine.errors import ContractError

STRENGTHS = 10
LANES = 4

_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {0x7F: 0x2421}


@dataclass(frozen=True)
class Span:
    """One piece of evidence: half-open offsets in code points, signed score, weight (share), and the number `lane` of its
    task. `look` is a further class of its mark."""

    start: int
    end: int
    score: float
    weight: float
    lane: int
    label: str
    anchor: str = ""
    look: str = ""


def shown(text: str) -> str:
    """Text as HTML: markup escaped, line ends normalised, control characters made visible."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS)
    return html.escape(plain, quote=True)


def strength(span: Span, strongest: float) -> int:
    """1 to `STRENGTHS`: the span's weight relative to the strongest of its task in the same report."""
    share = abs(span.weight) / strongest if strongest > 0 else 0.0
    return max(1, min(STRENGTHS, round(share * STRENGTHS)))


def alike(text: str, spans: Sequence[Span]) -> list[tuple[Span, str]]:
    """Groups of spans with equal words, apart from case and blanks: the first span, and its words as HTML with the group's size.

    A span that speaks for an answer is not grouped with one that speaks against it.
    """
    groups: dict[tuple[str, bool], list[Span]] = {}
    for span in spans:
        groups.setdefault((_words(text, span).casefold(), span.score >= 0), []).append(span)
    return [
        (group[0], shown(_words(text, group[0])) + (f" × {len(group)}" if len(group) > 1 else "")) for group in groups.values()
    ]


def _words(text: str, span: Span) -> str:
    return " ".join(text[span.start : span.end].split())


def highlight(text: str, spans: Sequence[Span], max_chars: int = 20_000, context: int = 300) -> str:
    """The text with its spans marked.

    Overlapping spans are cut at every boundary: a piece has the colour of its strongest span, a line for each task that covers
    it, and a tooltip that names all of them. Of a text above `max_chars` only the beginning and `context` characters around each
    span are shown, with the number of characters left out.

    Raises:
        ContractError: a span lies outside the text or is empty.
    """
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise ContractError(f"span {span.start}:{span.end} in a text of {len(text)} characters")
    strongest = {lane: max(abs(s.weight) for s in spans if s.lane == lane) for lane in {s.lane for s in spans}}
    pieces, at = [], 0
    for start, end in _visible(len(text), spans, max_chars, context):
        pieces.append(_gap(start - at))
        cuts = sorted({start, end, *(p for s in spans for p in (s.start, s.end) if start < p < end)})
        for left, right in pairwise(cuts):
            covering = [s for s in spans if s.start <= left and right <= s.end]
            pieces.append(_piece(text[left:right], left, covering, strongest))
        at = end
    return "".join([*pieces, _gap(len(text) - at)])


def _piece(text: str, left: int, covering: Sequence[Span], strongest: dict[int, float]) -> str:
    if not covering:
        return shown(text)
    top = max(covering, key=lambda s: strength(s, strongest[s.lane]))
    classes = [f"{'for' if top.score >= 0 else 'against'}{strength(top, strongest[top.lane])}"]
    classes += sorted({f"lane{s.lane % LANES}" for s in covering} | {s.look for s in covering if s.look})
    title = "; ".join(f"{s.label}: score {s.score:+.3f}, weight {s.weight:.0%}" for s in covering)
    anchors = "".join(f'<a id="{html.escape(s.anchor)}"></a>' for s in covering if s.anchor and s.start == left)
    return f'{anchors}<mark class="{" ".join(classes)}" title="{html.escape(title)}">{shown(text)}</mark>'


def _visible(length: int, spans: Sequence[Span], max_chars: int, context: int) -> list[tuple[int, int]]:
    if length <= max_chars:
        return [(0, length)]
    wanted = sorted([(0, max_chars), *((max(0, s.start - context), min(length, s.end + context)) for s in spans)])
    merged = [wanted[0]]
    for start, end in wanted[1:]:
        if start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _gap(characters: int) -> str:
    return f'<span class="gap">… {characters:,} characters not shown …</span>' if characters else ""
