"""Entities of a report as HTML: listed by type, and marked in the text."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages.highlight import LANES, Span, alike, highlight, shown, strength
from engine.pages.tables import Column, table
from engine.text.assertions import AFFIRMED


def types_of(entities: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types of the entities, in the order of their lines."""
    return sorted({entity["type"] for entity in entities})


def types_legend(types: Sequence[str]) -> str:
    """The legend of the lines under or over words."""
    lanes = "".join(f'<mark class="{_lane(lane)} swatch">{shown(name)}</mark>' for lane, name in enumerate(types))
    said = '<mark class="negated">denied</mark> <mark class="uncertain">uncertain, of the past, of a relative</mark>'
    rest = f"<span>Strength of colour: score within the report</span><span>The text says: {said}</span>"
    return f'<p class="legend soft"><span>Line: {lanes}</span>{rest}</p>'


def entities_part(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """The entities beside codes: one line per type and, folded, the text with all of them.

    Args:
        entities: `start`, `end` (half-open, in characters of `text`), `type`, `score` (0 to 1) and, if known, `assertion`.
    Raises:
        ContractError: a span lies outside the text.
    """
    if not entities:
        return '<p class="chips soft">entities: none</p>'
    spans = _spans(entities, types_of(entities))
    summary = f'<summary class="soft">{len(spans)} entities in the text</summary>'
    return f"{_lines(text, spans)}<details>{summary}{_marked(text, spans)}</details>"


def entities_card(text: str, entities: Sequence[Mapping[str, Any]], types: Sequence[str]) -> str:
    """The card of a report: one line per type, the text with all entities, and each entity with its evidence.

    Args:
        entities: as in the table. types: of the whole page, in the order of their lines.
    Raises:
        ContractError: a span lies outside the text.
    """
    spans = _spans(entities, types)
    if not entities:
        return f'<p class="chips soft">no entities</p>{_marked(text, spans)}'
    return f"{_lines(text, spans)}{_marked(text, spans)}{_one_by_one(text, entities)}"


def _marked(text: str, spans: Sequence[Span]) -> str:
    return f'<div class="text" dir="auto" tabindex="0">{highlight(text, spans)}</div>'


def _spans(entities: Sequence[Mapping[str, Any]], types: Sequence[str]) -> list[Span]:
    return [
        Span(e["start"], e["end"], e["score"], e["score"], types.index(e["type"]), _label(e), look=_denial(e))
        for e in sorted(entities, key=lambda e: (e["start"], e["end"], e["type"]))
    ]


def _lines(text: str, spans: Sequence[Span]) -> str:
    lines = []
    for lane, name in dict.fromkeys(sorted((span.lane, span.label) for span in spans)):
        groups = alike(text, [span for span in spans if span.label == name])
        chips = " ".join(
            f'<mark class="{f"{_lane(lane)} {span.look}".strip()} swatch">{content}</mark>' for span, content in groups
        )
        lines.append(f'<p class="chips"><span class="soft">{shown(name)}:</span> {chips}</p>')
    return "".join(lines)


def _denial(entity: Mapping[str, Any]) -> str:
    """What the text says of an entity that it does not affirm; empty for others."""
    assertion = entity.get("assertion") or AFFIRMED
    return "" if assertion == AFFIRMED else assertion


def _label(entity: Mapping[str, Any]) -> str:
    denial = _denial(entity)
    return f"{entity['type']}, {denial}" if denial else entity["type"]


def _lane(lane: int) -> str:
    return f"lane{lane % LANES}"


def _one_by_one(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """One row per entity, the least certain first; columns without a value are left out."""
    columns = {
        Column("entity"): lambda e: _words(text, e["start"], e["end"]),
        Column("type"): lambda e: shown(e["type"]) + (' <span class="soft">not trained</span>' if e.get("zero_shot") else ""),
        Column("what the text says of it"): lambda e: _said(text, e),
        Column("score", number=True): lambda e: f"{e['score']:.1%}",
        Column("nearest other type"): rival,
        Column("words that decided", wide=True): lambda e: _evidence(text, e.get("evidence") or ()),
    }
    ordered = sorted(entities, key=lambda e: (e["score"], e["start"]))
    cells = {column: [cell(entity) for entity in ordered] for column, cell in columns.items()}
    used = [column for column, values in cells.items() if any(values)]
    rows = list(zip(*(cells[column] for column in used), strict=True))
    title = f"{len(rows)} entities one by one, the least certain first" if len(rows) > 1 else "The one entity"
    return f'<details><summary class="soft">{title}</summary>{table(used, rows)}</details>'


def _said(text: str, entity: Mapping[str, Any]) -> str:
    """What the text says of an entity that it does not affirm, and the words that say so."""
    denial = _denial(entity)
    return f'{denial} <span class="soft">{_words(text, entity["cue_start"], entity["cue_end"])}</span>' if denial else ""


def rival(entity: Mapping[str, Any]) -> str:
    """The nearest other type and its distance; empty if no other type was asked for."""
    if entity.get("confused_with") is None or entity.get("margin") is None:
        return ""
    ahead = "ahead of this one" if entity["margin"] < 0 else "behind"
    return f'{shown(entity["confused_with"])} <span class="soft">{abs(entity["margin"]):.1f} {ahead}</span>'


def _evidence(text: str, evidence: Sequence[Mapping[str, Any]]) -> str:
    strongest = max((e["weight"] for e in evidence), default=0.0)
    marks = []
    for e in evidence:
        span = Span(e["start"], e["end"], e["score"], e["weight"], 0, "")
        sign = "for" if span.score >= 0 else "against"
        marks.append(f'<mark class="{sign}{strength(span, strongest)}">{_words(text, span.start, span.end)}</mark>')
    return " ".join(marks)


def _words(text: str, start: int, end: int) -> str:
    return shown(" ".join(text[start:end].split()))
