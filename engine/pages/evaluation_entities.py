"""What the page of an evaluation says of entities: how many are found, how many of those are right, and what goes wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluation.evaluation import WRONG_FILE, Evaluation
from engine.evaluation.metrics import Metric
from engine.pages import figures
from engine.pages.charts import Point
from engine.pages.entities import rival
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import ENTITIES

_WRONG = 50
_DECISIONS = {"review": "read in part", "failed": "failed: not answered"}
_WHOLE = {
    "recall": "found, of all that is marked",
    "precision": "right, of all that was found",
    "f1": "F1: both in one",
    "macro_f1": "F1, each type counting alike, rare ones too",
    "overlap_f1": "F1, if any common character will do",
    "iou_f1": "F1, if at least half must be common",
    "char_f1": "F1 by characters",
    "start_accuracy": "begin right, of those that are touched",
    "end_accuracy": "end right, of those that are touched",
    "ece": "mean gap between a score and the share right",
}
_ERRORS = {
    "missed": "marked, and nothing like it was found",
    "spurious": "found, and nothing like it is marked",
    "left_wrong": "begins elsewhere, ends right",
    "right_wrong": "begins right, ends elsewhere",
    "both_wrong": "begins and ends elsewhere",
    "type_wrong": "the right words under another type",
}
_EVIDENCE = {
    "context_share": "weight of the evidence on words of the text",
    "hard_share": "on words of the question",
    "soft_share": "on learned vectors in front of the text",
}


def lead(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    """What stands first: how many are found and how many of those are right, and the counts."""
    counts = evaluation.counts
    tiles = [
        ("records compared", f"{counts.get('matched', 0):,}"),
        ("mentions marked", f"{counts.get('marked', 0):,}"),
        ("mentions found", f"{counts.get('found', 0):,}"),
        *figures.decision_tiles(evaluation, {word: told for word, told in _DECISIONS.items() if _some(evaluation, word)}),
    ]
    return [_headline(evaluation), figures.tiles(tiles)]


def body(evaluation: Evaluation, deciding: Sequence[str], level: float, auto: object) -> list[str]:
    """All types together, each of them, what went wrong, what the scores are worth, and how to read it."""
    return [_whole(evaluation, level), _types(evaluation), _errors(evaluation), _certainty(evaluation), _reading(level)]


def _headline(evaluation: Evaluation) -> str:
    recall, precision = (evaluation.get(ENTITIES, name) for name in ("recall", "precision"))
    looser = [evaluation.get(ENTITIES, f"overlap_{name}") for name in ("recall", "precision")]
    if recall is None or not recall.n:
        return '<p class="headline">No mention is marked of the types that were looked for.</p>'
    if recall.value is None:
        return f'<p class="headline">{figures.counted(recall.n, "marked mention")}: too few for a figure.</p>'
    line = f"Of {figures.counted(recall.n, 'marked mention')}, <strong>{recall.value:.1%}</strong> were found, from the first "
    line += "character to the last and under the right type."
    if precision is not None and precision.value is not None:
        line += f" Of {precision.n:,} that were found, <strong>{precision.value:.1%}</strong> are right."
    if all(metric is not None and metric.value is not None for metric in looser):
        line += f" If any overlap will do, it is {looser[0].value:.1%} and {looser[1].value:.1%}."
    return f'<p class="headline">{line}</p>'


def _some(evaluation: Evaluation, word: str) -> bool:
    metric = evaluation.get(None, f"{word}_share")
    return metric is not None and bool(metric.value)


def _whole(evaluation: Evaluation, level: float) -> str:
    whole = figures.summary(evaluation, ENTITIES, _WHOLE, figures.whole_heads(level))
    parts = figures.by_slice(
        [m for m in evaluation.rows(ENTITIES, "f1") if not m.slice.startswith("type=")],
        "F1 by",
        "F1 by",
        "Exact F1, with intervals.",
        lambda name, value: value,
        lambda m: _beside(evaluation, m),
    )
    return figures.section("All types together", whole, parts)


def _beside(evaluation: Evaluation, metric: Metric) -> str:
    """F1 with what it is made of."""
    recall, precision = (evaluation.get(ENTITIES, name, metric.slice) for name in ("recall", "precision"))
    both = [
        f"{m.value:.0%} {word}" for m, word in ((recall, "found"), (precision, "right")) if m is not None and m.value is not None
    ]
    return f"{metric.value:.1%}{': ' if both else ''}{', '.join(both)}"


def _types(evaluation: Evaluation) -> str:
    lines = []
    for f1 in sorted(evaluation.rows(ENTITIES, "f1", "type="), key=lambda m: -_of(evaluation, "recall", m).n):
        recall, precision, overlap = (_of(evaluation, name, f1) for name in ("recall", "precision", "overlap_f1"))
        cells = [figures.figure(metric) for metric in (recall, precision, f1)]
        kind = f"<strong>{shown(f1.slice.partition('=')[2])}</strong>"
        lines.append([kind, f"{recall.n:,}", f"{precision.n:,}", *cells, figures.interval(f1), figures.figure(overlap)])
    names = ("marked", "found", "found of the marked (recall)", "right of the found (precision)", "F1")
    heads = [Column("type"), *(Column(name, True) for name in names), Column("interval of F1"), Column("F1, any overlap", True)]
    return figures.section("Type by type", table(heads, lines) if lines else "<p>None.</p>")


def _of(evaluation: Evaluation, name: str, metric: Metric) -> Metric:
    return evaluation.get(ENTITIES, name, metric.slice) or metric


def _errors(evaluation: Evaluation) -> str:
    counts = Counter(evaluation.wrong["error"].to_pylist())
    if not counts:
        return figures.section("Errors", "<p>None.</p>")
    lines = [
        [told, f"{counts[error]:,}", f"{counts[error] / counts.total():.1%}"] for error, told in _ERRORS.items() if counts[error]
    ]
    kinds = table([Column("kind of error"), Column("times", True), Column("share of all errors", True)], lines)
    return figures.section("Errors", kinds, _confusions(evaluation), _wrong(evaluation))


def _confusions(evaluation: Evaluation) -> str:
    rows = evaluation.rows(ENTITIES, "confusion")
    if not rows:
        return ""
    pair = '<strong>{}</strong> <span class="soft">found as</span> <strong>{}</strong>'
    lines = [
        [pair.format(*(shown(str(m.params[side])) for side in ("gold", "given"))), f"{int(m.value or 0):,}", f"{m.n:,}"]
        for m in rows
    ]
    heads = [Column("marked type, and the type found there"), Column("times", True), Column("marked of the type", True)]
    return (
        f'<h3>Other types at the same words</h3>{table(heads, lines)}<p class="soft">Where at least half of the characters are '
        "common, also beside the right type.</p>"
    )


def _wrong(evaluation: Evaluation) -> str:
    """The errors one by one, by the ids of their records and their places in the text."""
    every = evaluation.wrong
    lines = []
    for row in every.slice(0, _WRONG).to_pylist():
        found, marked = _place(row, ""), _place(row, "gold_")
        lines.append(
            [
                shown(row["record_id"]),
                _ERRORS[row["error"]],
                marked,
                found,
                "" if row["score"] is None else f"{row['score']:.1%}",
                rival(row),
            ]
        )
    heads = [Column("record"), Column("error", wide=True), Column("marked"), Column("found"), Column("score", True)]
    title = f"The {len(every):,} errors by record" if len(every) > 1 else "The one error by record"
    rest = f"The first {_WRONG} of {len(every):,}; all are" if len(every) > _WRONG else "They are also"
    return (
        f"<details><summary>{title}, the surest on top</summary>{table([*heads, Column('nearest other type')], lines)}"
        f'<p class="soft">Places are characters of the text, from 0, the end not included. {rest} in {WRONG_FILE} beside this '
        "page, with patient and slices where these were named.</p></details>"
    )


def _place(row: Mapping[str, Any], side: str) -> str:
    if row[f"{side}type"] is None:
        return ""
    return f"<strong>{shown(row[f'{side}type'])}</strong> {row[f'{side}start']:,}–{row[f'{side}end']:,}"


def _certainty(evaluation: Evaluation) -> str:
    """What the scores beside found mentions are worth."""
    here = None
    precision = evaluation.get(ENTITIES, "precision")
    if precision is not None and precision.value is not None:
        here = Point(1.0, 1 - precision.value, label="this run", note=f"all kept, {1 - precision.value:.1%} wrong")
    curves = [
        figures.risk(
            evaluation,
            ENTITIES,
            here,
            "errors among kept mentions against the share kept",
            "What a higher threshold would keep, at what risk",
            "Highest scores first.",
        ),
        figures.reliability(evaluation, ENTITIES, "share right against score", "Does it know what it knows?", "found mentions"),
    ]
    parts = "".join(f"<div>{curve}</div>" for curve in curves)
    tables = _margins(evaluation) + _evidence(evaluation)
    return figures.section("Scores", f'<div class="pair">{parts}</div>', tables) if any(curves) else ""


def _margins(evaluation: Evaluation) -> str:
    parting, rival = (evaluation.get(ENTITIES, name) for name in ("auroc_margin", "confused_right"))
    told = []
    if parting is not None and parting.value is not None:
        told.append(
            f"The margin over the nearest other type tells right from wrong in {parting.value:.0%} of pairs; 50% is chance."
        )
    if rival is not None and rival.n:
        told.append(f"Where the type is wrong, the nearest other type is the right one: {figures.value(rival)} of {rival.n:,}.")
    return f"<p>{' '.join(told)}</p>" if told else ""


def _evidence(evaluation: Evaluation) -> str:
    shares = figures.summary(evaluation, ENTITIES, _EVIDENCE, ("mean", "interval", "mentions"))
    return f"<h3>Where the evidence lies</h3>{shares}" if shares else ""


def _reading(level: float) -> str:
    meanings = {
        "Marked, found": "Marked is what people marked in the text, found what the run gives. Only types that are marked "
        "somewhere in a dataset count there: what nobody looked for is no error to find. A failed record has no answer and is in "
        "no figure.",
        "Right": "First and last character are those of the mark, and so is the type. A mention with another beginning or end is "
        "an error here, and often good enough for a reader: the figures for overlap say how often.",
        "F1": "Twice the hits over all that is marked and all that was found: high only where few are missed and few are "
        "invented. It is out of all that is marked or found, each pair counting once.",
        **figures.usual_meanings(level),
        "Scores": "Of found mentions with a score of 90 %, nine in ten should be right.",
        "What this does not say": "How the run does on texts unlike these: other hospitals, years, specimens or languages. Marks "
        "are not exact either; look at errors before blaming either side.",
    }
    return figures.reading(meanings)
