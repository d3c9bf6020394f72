"""One self-contained page that shows reports with what a run says of them, and the words that decided: no outside resource, one
script of its own."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.pages import words
from engine.pages.entities import entities_card, entities_part, types_legend, types_of
from engine.pages.examples import Example, verified
from engine.pages.highlight import LANES, STRENGTHS, Span, alike, highlight, shown, strength
from engine.pages.sifting import POLICY, SCRIPT, SIFT_STYLE, sift, sifted_by
from engine.pages.style import page
from engine.pages.tables import Column, table
from engine.records import AUTO, CODES, DECISIONS, FAILED, REVIEW
from engine.storage import storage_for

_FOLLOWING, _CHECK = "next in line", "without the evidence"
_WIDE = ("code", "decision", _FOLLOWING, _CHECK)
_STYLE = """
td ul.reasons { margin:.2rem 0 0 } td.num meter { margin-right:.3rem }
@media screen and (max-width:40rem) { nav ol { columns:1 } .stack td.num { grid-column:1/-1 } }
"""


def write_evidence_page(
    path: str,
    title: str,
    examples: Sequence[Example],
    summary: Mapping[str, object],
    tasks: Sequence[str] = (),
    note: str = "",
    table: str = CODES,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        examples: rows with their texts, in the order of the page; each text is checked against the row's digest.
        summary: tiles on top, in order; values under the names of decisions are counts and are also drawn as a bar.
        tasks: the tasks of a table of codes, as `records.tasks_of` tells them.
        note: one line under the title, such as the model and the date. table: the name of the table that the rows are of.
    Raises:
        ConfigError: a text is not the one that was coded.
    """
    examples = [replace(verified(example.row, example.text), entities=example.entities) for example in examples]
    held = sum(example.text is not None for example in examples)
    legend, told = _of_codes(examples, tasks) if table == CODES else _of_entities(examples)
    said = words.decisions(table)
    cards = [_card(number, example, tasks, said, told) for number, example in enumerate(examples, 1)]
    parts = [
        f'<p class="warning"><strong>This page holds the text of {held} reports.</strong> '
        "Keep it where the reports themselves may be kept.</p>",
        _tiles(summary, said),
        legend,
        sift(examples, said),
        _contents(examples, tasks, said),
        *cards,
    ]
    with storage_for(path).writer(path) as file:
        file.write(page(title, note, parts, _STYLE + SIFT_STYLE, POLICY, f"<script>{SCRIPT}</script>"))


def _tiles(summary: Mapping[str, object], said: Mapping[str, str]) -> str:
    tiles = "".join(
        f'<div class="tile"><b>{shown(_figure(value))}</b><span>{shown(said.get(key, key))}</span></div>'
        for key, value in summary.items()
    )
    counts = {key: int(value) for key, value in summary.items() if key in DECISIONS and isinstance(value, int)}
    total = sum(counts.values())
    if not total:
        return f'<div class="tiles">{tiles}</div>'
    parts = "".join(f'<i class="{key}" style="width:{100 * count / total:.2f}%"></i>' for key, count in counts.items())
    told = ", ".join(f"{said[key]} {count}" for key, count in counts.items())
    return f'<div class="tiles">{tiles}</div><div class="bar" role="img" aria-label="{shown(told)}">{parts}</div>'


def _legend(tasks: Sequence[str]) -> str:
    lanes = "".join(f'<mark class="lane{i % LANES} swatch">{shown(task)}</mark>' for i, task in enumerate(tasks))
    return (
        '<p class="legend soft"><span>Colour: '
        f'<mark class="for{STRENGTHS - 3} swatch">speaks for the code</mark> '
        f'<mark class="against{STRENGTHS - 3} swatch">speaks against it</mark></span>'
        f"<span>Strength of colour: weight within the report</span><span>Line: {lanes}</span></p>"
    )


def _contents(examples: Sequence[Example], tasks: Sequence[str], said: Mapping[str, str]) -> str:
    entries = "".join(
        f'<li value="{number}" {sifted_by(e.row)}><a href="#r{number}">{shown(str(e.row["record_id"]))}</a> '
        f'<span class="soft">{shown(", ".join(told for _, told in _standing(e.row, tasks, said)))}</span></li>'
        for number, e in enumerate(examples, 1)
    )
    return f"<nav><ol>{entries}</ol></nav>"


def _card(
    number: int, example: Example, tasks: Sequence[str], said: Mapping[str, str], told: Callable[[int, Example], str]
) -> str:
    row = example.row
    badges = "".join(_badge(decision, standing) for decision, standing in _standing(row, tasks, said))
    head = (
        f'<article id="r{number}" {sifted_by(row)}><header><h2>{number}. {shown(str(row["record_id"]))}</h2>{badges}'
        f'<span class="soft">{shown(str(row["source"]))}, record {row["position"]}</span></header>'
    )
    if row["decision"] == FAILED:
        failure = row["failure"] or {}
        kind, detail = str(failure.get("kind")), str(failure.get("detail") or "")
        why = f"{shown(words.FAILURES.get(kind, kind))} <code>{shown(kind)}{': ' + shown(detail) if detail else ''}</code>"
        return f'{head}<ul class="reasons"><li>{why}</li></ul></article>'
    of_tasks = {reason for task in tasks for reason in row.get(f"{task}_reasons") or ()}
    reasons = _reasons([each for each in row["reasons"] or () if each not in of_tasks])
    return f"{head}{reasons}{told(number, example)}{_counts(row)}</article>"


def _of_codes(examples: Sequence[Example], tasks: Sequence[str]) -> tuple[str, Callable[[int, Example], str]]:
    """The legend of codes, and from a card's number and example what the card tells."""
    columns = _columns(examples, tasks)

    def told(number: int, example: Example) -> str:
        row, spans = example.row, _spans(number, example.row, tasks)
        return "".join(
            [
                _answers(row, tasks, columns),
                *(_chips(task, spans[task], example.text) for task in tasks),
                _text(example.text, spans, tasks),
                "" if example.entities is None else entities_part(example.text, example.entities),
            ]
        )

    return _legend(tasks), told


def _of_entities(examples: Sequence[Example]) -> tuple[str, Callable[[int, Example], str]]:
    """The same of entities."""
    types = types_of([entity for example in examples for entity in example.row["entities"] or ()])
    return types_legend(types), lambda number, example: entities_card(example.text, example.row["entities"] or (), types)


def _standing(row: Mapping[str, Any], tasks: Sequence[str], said: Mapping[str, str]) -> list[tuple[str, str]]:
    """The row's decision with its words, and beside `auto` those of each task that must be looked at all the same."""
    decision = row["decision"]
    open_tasks = [task for task in tasks if decision == AUTO and row[f"{task}_decision"] == REVIEW]
    return [(decision, said[decision]), *((REVIEW, f"{task}: {said[REVIEW]}") for task in open_tasks)]


def _reasons(reasons: Sequence[str] | None) -> str:
    entries = "".join(f"<li>{shown(words.REASONS.get(r, r))} <code>{shown(r)}</code></li>" for r in reasons or ())
    return f'<ul class="reasons">{entries}</ul>' if entries else ""


def _spans(number: int, row: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, list[Span]]:
    return {
        task: [
            Span(e["start"], e["end"], e["score"] or 0.0, e["weight"] or 0.0, lane, task, f"r{number}-{lane}-{i}")
            for i, e in enumerate(row[f"{task}_evidence"] or ())
        ]
        for lane, task in enumerate(tasks)
    }


def _columns(examples: Sequence[Example], tasks: Sequence[str]) -> list[str]:
    """The columns of the cards' tables; of those that a run may not have filled, the ones that some row here has."""
    every = [(example.row, task) for example in examples for task in tasks]
    there = {
        _FOLLOWING: any(_others(row, task) for row, task in every),
        _CHECK: any(row.get(f"{task}_comprehensiveness") is not None for row, task in every),
    }
    return [name for name in ("task", "code", "probability", "decision", *there) if there.get(name, True)]


def _answers(row: Mapping[str, Any], tasks: Sequence[str], columns: Sequence[str]) -> str:
    rows = []
    for task in tasks:
        code, decision = row[f"{task}_code"], row[f"{task}_decision"]
        badge = _badge(decision, words.DECISIONS[decision]) if decision else ""
        cells = {
            "task": shown(task),
            "code": f'<span class="code">{shown(code or "none")}</span> {_name(row, task)}',
            "probability": _prob(row[f"{task}_prob"]),
            "decision": badge + _reasons(row.get(f"{task}_reasons")),
            _FOLLOWING: "<br>".join(_other(task, top) for top in _others(row, task)),
            _CHECK: _check(row, task),
        }
        rows.append([cells[name] for name in columns])
    return table([Column(name, number=name == "probability", wide=name in _WIDE) for name in columns], rows)


def _others(row: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    return [top for top in row[f"{task}_top"] or () if top["code"] != row[f"{task}_code"]]


def _name(row: Mapping[str, Any], task: str) -> str:
    return shown(row.get(f"{task}_name") or words.name_of(task, row[f"{task}_code"]))


def _other(task: str, top: Mapping[str, Any]) -> str:
    return f'{shown(top["code"])} {shown(words.name_of(task, top["code"]))} <span class="soft">{_percent(top["prob"])}</span>'


def _prob(prob: float | None) -> str:
    return "" if prob is None else f'<meter min="0" max="1" value="{prob:.4f}"></meter> {_percent(prob)}'


def _percent(prob: float) -> str:
    """To a tenth of a percent; nothing that is possible reads as impossible, and nothing that is not certain as certain."""
    if 0 < prob < 0.001:
        return "&lt;&nbsp;0.1%"
    return "&gt;&nbsp;99.9%" if 0.999 < prob < 1 else f"{prob:.1%}"


def _check(row: Mapping[str, Any], task: str) -> str:
    """How much the probability falls when the evidence is taken out, beside as many words taken at random."""
    fall, chance = row.get(f"{task}_comprehensiveness"), row.get(f"{task}_random_comprehensiveness")
    if fall is None:
        return '<span class="soft">not measured</span>'
    return f"{-fall:+.2f}" + ("" if chance is None else f' <span class="soft">({-chance:+.2f} without random words)</span>')


def _text(text: str, spans: Mapping[str, Sequence[Span]], tasks: Sequence[str]) -> str:
    """The text with its marks; the strongest one of the first task that has any is brought into view."""
    leading = next((spans[task] for task in tasks if spans[task]), ())
    strongest = max(leading, key=lambda span: abs(span.weight), default=None)
    seen = "" if strongest is None else f' data-strongest="{strongest.anchor}"'
    return f'<div class="text" dir="auto" tabindex="0"{seen}>{highlight(text, [s for t in tasks for s in spans[t]])}</div>'


def _chips(task: str, spans: Sequence[Span], text: str) -> str:
    """The words of the evidence, strongest first; those that are alike as one, with their count."""
    if not spans:
        return f'<p class="chips soft">{shown(task)}: no evidence</p>'
    strongest = max(abs(span.weight) for span in spans)
    ranked = sorted(spans, key=lambda s: -abs(s.weight))
    chips = [
        f'<a href="#{first.anchor}"><mark class="{"for" if first.score >= 0 else "against"}{strength(first, strongest)} '
        f'lane{first.lane % LANES}">{told}</mark></a>'
        for first, told in alike(text, ranked)
    ]
    return f'<p class="chips"><span class="soft">{shown(task)}:</span> {" ".join(chips)}</p>'


def _counts(row: Mapping[str, Any]) -> str:
    cut = row.get("truncated_chars") or 0
    told = [
        f"{row['n_tokens']:,} tokens" if row.get("n_tokens") is not None else "",
        f"{cut:,} characters not read" if cut else "",
    ]
    return f'<p class="soft">{", ".join(t for t in told if t)}</p>' if any(told) else ""


def _badge(decision: str, told: str) -> str:
    return f'<span class="badge {html.escape(decision)}">{shown(told)}</span>'


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
