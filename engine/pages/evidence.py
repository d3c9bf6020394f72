"""A self-contained page that shows reports with the run's answers and the words that decided them: no outside resource, and one
script of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.pages import cards, words
from engine.pages.entities import entities_card, entities_part, types_legend, types_of
from engine.pages.examples import Example, verified
from engine.pages.highlight import LANES, STRENGTHS, Span, alike, highlight, shown, strength
from engine.pages.sifting import POLICY, SCRIPT, SIFT_STYLE, sift, sifted_by
from engine.pages.style import page
from engine.pages.tables import Column, table
from engine.records import AUTO, CODES, FAILED, REVIEW
from engine.storage import storage_for

_NEXT, _CHECK = "next in line", "without the evidence"
_WIDE = ("code", "decision", _NEXT, _CHECK)
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
        summary: tiles on top, in order; values under the names of decisions are counts and also appear as a bar.
        tasks: the tasks of a table of codes, see `records.tasks_of`.
        note: one line under the title, such as the model and the date. table: the name of the rows' table.
    Raises:
        ConfigError: a text is not the one that was coded.
    """
    examples = [replace(verified(example.row, example.text), entities=example.entities) for example in examples]
    texts = sum(example.text is not None for example in examples)
    legend, contents = _codes(examples, tasks) if table == CODES else _entities(examples)
    labels = words.decisions(table)
    parts = [
        f'<p class="warning"><strong>This page holds the text of {texts} reports.</strong> '
        "Keep it where the reports themselves may be kept.</p>",
        cards.tiles(summary, labels),
        legend,
        sift(examples, labels),
        _list(examples, tasks, labels),
        *(_card(number, example, tasks, labels, contents) for number, example in enumerate(examples, 1)),
    ]
    with storage_for(path).writer(path) as file:
        file.write(page(title, note, parts, _STYLE + SIFT_STYLE, POLICY, f"<script>{SCRIPT}</script>"))


def _codes(examples: Sequence[Example], tasks: Sequence[str]) -> tuple[str, Callable[[int, Example], str]]:
    """The legend for codes, and a function from a card's number and example to the card's contents."""
    columns = _columns(examples, tasks)

    def contents(number: int, example: Example) -> str:
        row, spans = example.row, _spans(number, example.row, tasks)
        chips = (_chips(task, spans[task], example.text) for task in tasks)
        entities = "" if example.entities is None else entities_part(example.text, example.entities)
        return "".join([_answers(row, tasks, columns), *chips, _text(example.text, spans, tasks), entities])

    return _legend(tasks), contents


def _entities(examples: Sequence[Example]) -> tuple[str, Callable[[int, Example], str]]:
    """The same for entities."""
    types = types_of([entity for example in examples for entity in example.row["entities"] or ()])
    return types_legend(types), lambda number, example: entities_card(example.text, example.row["entities"] or (), types)


def _legend(tasks: Sequence[str]) -> str:
    lanes = "".join(f'<mark class="lane{i % LANES} swatch">{shown(task)}</mark>' for i, task in enumerate(tasks))
    return (
        '<p class="legend soft"><span>Colour: '
        f'<mark class="for{STRENGTHS - 3} swatch">speaks for the code</mark> '
        f'<mark class="against{STRENGTHS - 3} swatch">speaks against it</mark></span>'
        f"<span>Strength of colour: weight within the report</span><span>Line: {lanes}</span></p>"
    )


def _list(examples: Sequence[Example], tasks: Sequence[str], labels: Mapping[str, str]) -> str:
    entries = "".join(
        f'<li value="{number}" {sifted_by(e.row)}><a href="#r{number}">{shown(str(e.row["record_id"]))}</a> '
        f'<span class="soft">{shown(", ".join(text for _, text in _decisions(e.row, tasks, labels)))}</span></li>'
        for number, e in enumerate(examples, 1)
    )
    return f"<nav><ol>{entries}</ol></nav>"


def _card(
    number: int, example: Example, tasks: Sequence[str], labels: Mapping[str, str], contents: Callable[[int, Example], str]
) -> str:
    row = example.row
    badges = "".join(cards.badge(decision, text) for decision, text in _decisions(row, tasks, labels))
    head = (
        f'<article id="r{number}" {sifted_by(row)}><header><h2>{number}. {shown(str(row["record_id"]))}</h2>{badges}'
        f'<span class="soft">{shown(str(row["source"]))}, record {row["position"]}</span></header>'
    )
    if row["decision"] == FAILED:
        return f"{head}{cards.failure(row)}</article>"
    of_tasks = {reason for task in tasks for reason in row.get(f"{task}_reasons") or ()}
    reasons = cards.reasons([reason for reason in row["reasons"] or () if reason not in of_tasks])
    return f"{head}{reasons}{contents(number, example)}{_counts(row)}</article>"


def _decisions(row: Mapping[str, Any], tasks: Sequence[str], labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """The row's decision and its words; after `auto` also those of each task that needs review all the same."""
    decision = row["decision"]
    open_tasks = [task for task in tasks if decision == AUTO and row[f"{task}_decision"] == REVIEW]
    return [(decision, labels[decision]), *((REVIEW, f"{task}: {labels[REVIEW]}") for task in open_tasks)]


def _spans(number: int, row: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, list[Span]]:
    return {
        task: [
            Span(e["start"], e["end"], e["score"] or 0.0, e["weight"] or 0.0, lane, task, f"r{number}-{lane}-{i}")
            for i, e in enumerate(row[f"{task}_evidence"] or ())
        ]
        for lane, task in enumerate(tasks)
    }


def _columns(examples: Sequence[Example], tasks: Sequence[str]) -> list[str]:
    """The columns of the cards' tables; optional ones only if some row here has a value."""
    pairs = [(example.row, task) for example in examples for task in tasks]
    optional = {
        _NEXT: any(_others(row, task) for row, task in pairs),
        _CHECK: any(row.get(f"{task}_comprehensiveness") is not None for row, task in pairs),
    }
    return [name for name in ("task", "code", "probability", "decision", *optional) if optional.get(name, True)]


def _answers(row: Mapping[str, Any], tasks: Sequence[str], columns: Sequence[str]) -> str:
    rows = []
    for task in tasks:
        code, decision = row[f"{task}_code"], row[f"{task}_decision"]
        badge = cards.badge(decision, words.DECISIONS[decision]) if decision else ""
        following = (
            f"{shown(top['code'])} {shown(words.name_of(task, top['code']))} "
            f'<span class="soft">{cards.percent(top["prob"])}</span>'
            for top in _others(row, task)
        )
        cells = {
            "task": shown(task),
            "code": f'<span class="code">{shown(code or "none")}</span> '
            + shown(row.get(f"{task}_name") or words.name_of(task, code)),
            "probability": _prob(row[f"{task}_prob"]),
            "decision": badge + cards.reasons(row.get(f"{task}_reasons")),
            _NEXT: "<br>".join(following),
            _CHECK: _check(row, task),
        }
        rows.append([cells[name] for name in columns])
    return table([Column(name, number=name == "probability", wide=name in _WIDE) for name in columns], rows)


def _others(row: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    return [top for top in row[f"{task}_top"] or () if top["code"] != row[f"{task}_code"]]


def _prob(prob: float | None) -> str:
    return "" if prob is None else f'<meter min="0" max="1" value="{prob:.4f}"></meter> {cards.percent(prob)}'


def _check(row: Mapping[str, Any], task: str) -> str:
    """How much the probability falls without the evidence, and without as many random words."""
    fall, chance = row.get(f"{task}_comprehensiveness"), row.get(f"{task}_random_comprehensiveness")
    if fall is None:
        return '<span class="soft">not measured</span>'
    return f"{-fall:+.2f}" + ("" if chance is None else f' <span class="soft">({-chance:+.2f} without random words)</span>')


def _text(text: str, spans: Mapping[str, Sequence[Span]], tasks: Sequence[str]) -> str:
    """The text with its marks; the page scrolls to the strongest mark of the first task that has any."""
    first = next((spans[task] for task in tasks if spans[task]), ())
    strongest = max(first, key=lambda span: abs(span.weight), default=None)
    anchor = "" if strongest is None else f' data-strongest="{strongest.anchor}"'
    return f'<div class="text" dir="auto" tabindex="0"{anchor}>{highlight(text, [s for t in tasks for s in spans[t]])}</div>'


def _chips(task: str, spans: Sequence[Span], text: str) -> str:
    """The words of the evidence, strongest first; equal ones once, with their count."""
    if not spans:
        return f'<p class="chips soft">{shown(task)}: no evidence</p>'
    strongest = max(abs(span.weight) for span in spans)
    ranked = sorted(spans, key=lambda s: -abs(s.weight))
    chips = [
        f'<a href="#{first.anchor}"><mark class="{"for" if first.score >= 0 else "against"}{strength(first, strongest)} '
        f'lane{first.lane % LANES}">{content}</mark></a>'
        for first, content in alike(text, ranked)
    ]
    return f'<p class="chips"><span class="soft">{shown(task)}:</span> {" ".join(chips)}</p>'


def _counts(row: Mapping[str, Any]) -> str:
    cut = row.get("truncated_chars") or 0
    counts = [f"{row['n_tokens']:,} tokens"] if row.get("n_tokens") is not None else []
    counts += [f"{cut:,} characters not read"] if cut else []
    return f'<p class="soft">{", ".join(counts)}</p>' if counts else ""
