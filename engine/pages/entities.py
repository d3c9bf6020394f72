"""Entities of a report as a part of its card: named by type, and marked in the text."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages.highlight import LANES, Span, alike, highlight, shown


def entities_part(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """What was found, a line a type, and below it the text with all of them; nothing where nothing was found.

    Args:
        entities: `start`, `end` (half-open, in characters of `text`), `type` and `score` (0 to 1) of each.
    Raises:
        ContractError: a span lies outside the text.
    """
    if not entities:
        return '<p class="chips soft">entities: none</p>'
    types = list(dict.fromkeys(sorted(each["type"] for each in entities)))
    spans = [
        Span(each["start"], each["end"], each["score"], each["score"], types.index(each["type"]), each["type"])
        for each in sorted(entities, key=lambda e: (e["start"], e["end"], e["type"]))
    ]
    lines = "".join(_line(text, lane, name, [span for span in spans if span.lane == lane]) for lane, name in enumerate(types))
    return (
        f'{lines}<details><summary class="soft">{len(spans)} entities in the text</summary>'
        f'<div class="text" dir="auto" tabindex="0">{highlight(text, spans)}</div></details>'
    )


def _line(text: str, lane: int, name: str, spans: Sequence[Span]) -> str:
    chips = " ".join(f'<mark class="lane{lane % LANES} swatch">{told}</mark>' for _, told in alike(text, spans))
    return f'<p class="chips"><span class="soft">{shown(name)}:</span> {chips}</p>'
