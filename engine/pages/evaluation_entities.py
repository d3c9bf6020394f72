"""The entities part of an evaluation page: how many are found, how many of those are right, and what goes wrong."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from engine.evaluation.evaluation import Evaluation
from engine.evaluation.metrics import Metric
from engine.pages import figures
from engine.pages.charts import Point
from engine.pages.entities import rival
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import ENTITIES
from engine.text.assertions import AFFIRMED

_DECISIONS = {"review": "to be checked", "failed": "failed: not answered"}
_OVERALL = {
    "recall": "found, of all marked",
    "precision": "right, of all found",
    "f1": "F1: both in one",
    "macro_f1": "F1, every type with equal weight, rare ones too",
    "overlap_f1": "F1, if any shared character is enough",
    "iou_f1": "F1, if half of the characters must be shared",
    "char_f1": "F1 by characters",
    "start_accuracy": "right start, of those that are touched",
    "end_accuracy": "right end, of those that are touched",
    "ece": "mean gap between a score and the share right",
}
_ERRORS = {
    "missed": "marked, and nothing like it was found",
    "spurious": "found, and nothing like it is marked",
    "left_wrong": "wrong start, right end",
    "right_wrong": "right start, wrong end",
    "both_wrong": "wrong start and wrong end",
    "type_wrong": "the right words under another type",
}
_EVIDENCE = {
    "context_share": "weight of the evidence on words of the text",
    "hard_share": "on words of the question",
    "soft_share": "on learned vectors in front of the text",
}


def lead(evaluation: Evaluation, *_: object) -> list[str]:
    """The top of the page: how many are found and how many of those are right, and the counts."""
    names = {"records compared": "matched", "mentions marked": "marked", "mentions found": "found"}
    tiles = [(name, f"{evaluation.counts.get(count, 0):,}") for name, count in names.items()]
    shares = {word: evaluation.get(None, f"{word}_share") for word in _DECISIONS}
    decisions = {word: text for word, text in _DECISIONS.items() if shares[word] is not None and shares[word].value}
    headline = f'<p class="headline">{_headline(evaluation)}</p>'
    return [headline, figures.tiles([*tiles, *figures.decision_tiles(evaluation, decisions)])]


def body(evaluation: Evaluation, deciding: object, level: float, auto: object) -> list[str]:
    """All types together, each of them, what went wrong, what the scores are worth, and how to read it."""
    f1 = [metric for metric in evaluation.rows(ENTITIES, "f1") if not metric.slice.startswith("type=")]
    overall = figures.section(
        "All types together",
        figures.summary(evaluation, ENTITIES, _OVERALL, figures.heads(level)),
        figures.by_slice(f1, "F1 by", "Exact F1, with intervals.", note=lambda metric: _with_sides(evaluation, metric)),
    )
    return [overall, _types(evaluation), _errors(evaluation), _scores(evaluation), _reading(level)]


def _headline(evaluation: Evaluation) -> str:
    recall, precision = (evaluation.get(ENTITIES, name) for name in ("recall", "precision"))
    overlap = [evaluation.get(ENTITIES, f"overlap_{name}") for name in ("recall", "precision")]
    if recall is None or not recall.n:
        return "No mention of the types that the run looks for is marked."
    marked = figures.counted(recall.n, "marked mention")
    if recall.value is None:
        return f"{marked}: too few for a figure."
    line = f"Of {marked}, <strong>{recall.value:.1%}</strong> were found, from the first character to the last and under the "
    line += "right type."
    if precision is not None and precision.value is not None:
        line += f" Of {precision.n:,} that were found, <strong>{precision.value:.1%}</strong> are right."
    if all(metric is not None and metric.value is not None for metric in overlap):
        line += f" If any overlap is enough, it is {overlap[0].value:.1%} and {overlap[1].value:.1%}."
    return line


def _with_sides(evaluation: Evaluation, metric: Metric) -> str:
    """F1 with its recall and precision."""
    sides = {word: evaluation.get(ENTITIES, name, metric.slice) for word, name in (("found", "recall"), ("right", "precision"))}
    parts = [f"{m.value:.0%} {word}" for word, m in sides.items() if m is not None and m.value is not None]
    return f"{metric.value:.1%}{': ' if parts else ''}{', '.join(parts)}"


def _types(evaluation: Evaluation) -> str:
    rows = []
    for f1 in evaluation.rows(ENTITIES, "f1", "type="):
        others = (evaluation.get(ENTITIES, name, f1.slice) or f1 for name in ("recall", "precision", "overlap_f1"))
        rows.append((f1, *others))
    lines = []
    for f1, recall, precision, overlap in sorted(rows, key=lambda row: -row[1].n):
        cells = [figures.figure(metric) for metric in (recall, precision, f1)]
        kind = f"<strong>{shown(f1.slice.partition('=')[2])}</strong>"
        lines.append([kind, f"{recall.n:,}", f"{precision.n:,}", *cells, figures.interval(f1), figures.figure(overlap)])
    names = ("marked", "found", "found of the marked (recall)", "right of the found (precision)", "F1")
    heads = [Column("type"), *(Column(name, True) for name in names), Column("interval of F1"), Column("F1, any overlap", True)]
    return figures.section("Type by type", table(heads, lines) if lines else "<p>None.</p>")


def _errors(evaluation: Evaluation) -> str:
    counts = Counter(evaluation.wrong["error"].to_pylist())
    if not counts:
        return figures.section("Errors", "<p>None.</p>")
    lines = [
        [text, f"{counts[error]:,}", f"{counts[error] / counts.total():.1%}"] for error, text in _ERRORS.items() if counts[error]
    ]
    kinds = table([Column("kind of error"), Column("times", True), Column("share of all errors", True)], lines)
    return figures.section("Errors", kinds, _confusions(evaluation), _wrong(evaluation))


def _confusions(evaluation: Evaluation) -> str:
    lines = []
    for m in evaluation.rows(ENTITIES, "confusion"):
        gold, given = (f"<strong>{shown(str(m.params[side]))}</strong>" for side in ("gold", "given"))
        lines.append([f'{gold} <span class="soft">found as</span> {given}', f"{int(m.value or 0):,}", f"{m.n:,}"])
    if not lines:
        return ""
    heads = [Column("marked type, and the type found there"), Column("times", True), Column("marked of the type", True)]
    return (
        f'<h3>Other types at the same words</h3>{table(heads, lines)}<p class="soft">Where at least half of the characters are '
        "shared, even if the right type was found too.</p>"
    )


def _wrong(evaluation: Evaluation) -> str:
    """The errors one by one, by the ids of their records and their places in the text."""
    lines = []
    for row in evaluation.wrong.slice(0, figures.WRONG).to_pylist():
        score = "" if row["score"] is None else f"{row['score']:.1%}"
        said = "" if row["assertion"] in (None, AFFIRMED) else f' <span class="soft">{row["assertion"]}</span>'
        places = (_place(row, "gold_"), _place(row, "") + said)
        lines.append([shown(row["record_id"]), _ERRORS[row["error"]], *places, score, rival(row)])
    heads = [Column("record"), Column("error", wide=True), Column("marked"), Column("found"), Column("score", True)]
    heads.append(Column("nearest other type"))
    note = "Places are characters of the text, from 0, without the end. "
    return figures.wrong_list(len(evaluation.wrong), "error", "highest scores first", heads, lines, note)


def _place(row: Mapping[str, Any], side: str) -> str:
    if row[f"{side}type"] is None:
        return ""
    return f"<strong>{shown(row[f'{side}type'])}</strong> {row[f'{side}start']:,}–{row[f'{side}end']:,}"


def _scores(evaluation: Evaluation) -> str:
    """What the scores of found mentions are worth."""
    here = None
    precision = evaluation.get(ENTITIES, "precision")
    if precision is not None and precision.value is not None:
        here = Point(1.0, 1 - precision.value, label="this run", note=f"all kept, {1 - precision.value:.1%} wrong")
    alt, title = "errors among kept mentions against the share kept", "What a higher threshold would keep, at what risk"
    curves = [
        figures.risk(evaluation, ENTITIES, here, alt, title, "Highest scores first."),
        figures.reliability(evaluation, ENTITIES, "share right against score", "found mentions"),
    ]
    if not any(curves):
        return ""
    shares = figures.summary(evaluation, ENTITIES, _EVIDENCE, ("mean", "interval", "mentions"))
    evidence = f"<h3>Where the evidence lies</h3>{shares}" if shares else ""
    return figures.section("Scores", figures.pair(*curves), _margins(evaluation), evidence)


def _margins(evaluation: Evaluation) -> str:
    ranking, nearest = (evaluation.get(ENTITIES, name) for name in ("auroc_margin", "confused_right"))
    lines = []
    if ranking is not None and ranking.value is not None:
        pairs = f"{ranking.value:.0%} of pairs; 50% is chance"
        lines.append(f"The margin over the nearest other type tells right from wrong in {pairs}.")
    if nearest is not None and nearest.n:
        hits = f"{figures.value(nearest)} of {nearest.n:,}"
        lines.append(f"If the type is wrong, the nearest other type is the right one in {hits}.")
    return f"<p>{' '.join(lines)}</p>" if lines else ""


def _reading(level: float) -> str:
    meanings = {
        "Marked, found": "Marked is what people marked in the text, found what the run gives. A type counts only in datasets "
        "where it is marked somewhere: finding what nobody looked for is no error. A failed record has no answer and is in no "
        "figure.",
        "Right": "First and last character are those of the mark, and so is the type. A mention with another start or end is an "
        "error here, and often good enough for a reader: the figures for overlap say how often.",
        "F1": "Twice the hits over all that is marked and all that was found: high only if few are missed and few are invented. "
        "It is out of all that is marked or found, each matched pair counting once.",
        **figures.common_terms(level),
        "Scores": "Of found mentions with a score of 90 %, nine in ten should be right.",
        "What this does not say": "How the run does on texts unlike these: other hospitals, years, specimens or languages. Marks "
        "are not perfect either: look at the errors before you blame either side.",
    }
    return figures.reading(meanings)
