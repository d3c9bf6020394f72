"""Entities of a report as its card, or as a part of one: named by type, and marked in the text."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages.highlight import LANES, Span, alike, highlight, shown, strength
from engine.pages.tables import Column, table


def types_of(entities: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types of some entities, in the order of their lines."""
    return sorted({each["type"] for each in entities})


def types_legend(types: Sequence[str]) -> str:
    """What a line under or over a word says."""
    lanes = "".join(f'<mark class="{_lane(lane)} swatch">{shown(name)}</mark>' for lane, name in enumerate(types))
    return f'<p class="legend soft"><span>Line: {lanes}</span><span>Strength of colour: score within the report</span></p>'


def entities_part(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """What was found, a line a type, and below it the text with all of them; nothing where nothing was found.

    Args:
        entities: `start`, `end` (half-open, in characters of `text`), `type` and `score` (0 to 1) of each.
    Raises:
        ContractError: a span lies outside the text.
    """
    if not entities:
        return '<p class="chips soft">entities: none</p>'
    spans = _spans(entities, types_of(entities))
    return (
        f'{_lines(text, spans)}<details><summary class="soft">{len(spans)} entities in the text</summary>'
        f'<div class="text" dir="auto" tabindex="0">{highlight(text, spans)}</div></details>'
    )


def entities_card(text: str, entities: Sequence[Mapping[str, Any]], types: Sequence[str]) -> str:
    """What a run found in a report: a line a type, the text with all of them, and each with what speaks for it.

    Args:
        entities: as the table has them. types: of the whole page, in the order of their lines.
    Raises:
        ContractError: a span lies outside the text.
    """
    spans = _spans(entities, types)
    marked = f'<div class="text" dir="auto" tabindex="0">{highlight(text, spans)}</div>'
    if not entities:
        return f'<p class="chips soft">no entities</p>{marked}'
    return f"{_lines(text, spans)}{marked}{_one_by_one(text, entities)}"


def _spans(entities: Sequence[Mapping[str, Any]], types: Sequence[str]) -> list[Span]:
    return [
        Span(each["start"], each["end"], each["score"], each["score"], types.index(each["type"]), each["type"])
        for each in sorted(entities, key=lambda e: (e["start"], e["end"], e["type"]))
    ]


def _lines(text: str, spans: Sequence[Span]) -> str:
    lanes = dict.fromkeys(sorted((span.lane, span.label) for span in spans))
    return "".join(_line(text, lane, name, [span for span in spans if span.lane == lane]) for lane, name in lanes)


def _line(text: str, lane: int, name: str, spans: Sequence[Span]) -> str:
    chips = " ".join(f'<mark class="{_lane(lane)} swatch">{told}</mark>' for _, told in alike(text, spans))
    return f'<p class="chips"><span class="soft">{shown(name)}:</span> {chips}</p>'


def _lane(lane: int) -> str:
    return f"lane{lane % LANES}"


def _one_by_one(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """A line an entity, the least sure first; columns that no entity has are left out."""
    columns = {
        Column("entity"): lambda e: _words(text, e["start"], e["end"]),
        Column("type"): lambda e: shown(e["type"]) + (' <span class="soft">not trained</span>' if e.get("zero_shot") else ""),
        Column("score", number=True): lambda e: f"{e['score']:.1%}",
        Column("nearest other type"): rival,
        Column("words that decided", wide=True): lambda e: _evidence(text, e.get("evidence") or ()),
    }
    ordered = sorted(entities, key=lambda e: (e["score"], e["start"]))
    cells = {column: [cell(entity) for entity in ordered] for column, cell in columns.items()}
    there = [column for column, values in cells.items() if any(values)]
    rows = list(zip(*(cells[column] for column in there), strict=True))
    title = f"{len(rows)} entities one by one, the least sure first" if len(rows) > 1 else "The one entity"
    return f'<details><summary class="soft">{title}</summary>{table(there, rows)}</details>'


def rival(entity: Mapping[str, Any]) -> str:
    """The type that lies nearest, and by how much; nothing where none was asked."""
    if entity.get("confused_with") is None or entity.get("margin") is None:
        return ""
    ahead = "ahead of this one" if entity["margin"] < 0 else "behind"
    return f'{shown(entity["confused_with"])} <span class="soft">{abs(entity["margin"]):.1f} {ahead}</span>'


def _evidence(text: str, evidence: Sequence[Mapping[str, Any]]) -> str:
    strongest = max((each["weight"] for each in evidence), default=0.0)
    marks = []
    for each in evidence:
        span = Span(each["start"], each["end"], each["score"], each["weight"], 0, "")
        sign = "for" if span.score >= 0 else "against"
        marks.append(f'<mark class="{sign}{strength(span, strongest)}">{_words(text, span.start, span.end)}</mark>')
    return " ".join(marks)


def _words(text: str, start: int, end: int) -> str:
    return shown(" ".join(text[start:end].split()))
