"""Figures as sentences, tables and charts, shared by the evaluation pages."""

from collections.abc import Callable, Mapping, Sequence

from engine.evaluation.evaluation import WRONG_FILE, Evaluation
from engine.evaluation.metrics import TOO_FEW, Metric
from engine.evaluation.resample import FEWEST
from engine.pages import charts
from engine.pages.charts import Point
from engine.pages.highlight import shown
from engine.pages.tables import Column, table

ROWS = 25
WRONG = 50
_TOO_FEW = '<span class="soft">too few</span>'


def value(metric: Metric | None) -> str:
    """A share in a sentence, with its interval."""
    if metric is None or not metric.n:
        return "none"
    if metric.value is None:
        return f"too few ({metric.n:,})"
    ends = interval(metric)
    return f"{metric.value:.1%}{f' ({ends})' if ends else ''}"


def figure(metric: Metric | None, share: bool = True) -> str:
    """A figure in a cell."""
    if metric is None or metric.value is None:
        return _TOO_FEW if metric is not None and metric.too_few else ""
    return number(metric.value, share)


def interval(metric: Metric, share: bool = True) -> str:
    """Both ends of the interval, empty without one."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{number(metric.low, share)} to {number(metric.high, share)}"


def number(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.2f}"


def counted(n: int, word: str = "record") -> str:
    return f"{n:,} {word}{'s' if n > 1 else ''}"


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and their figures on top of a page."""
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for k, v in pairs) + "</div>"


def decision_tiles(evaluation: Evaluation, words: Mapping[str, str]) -> list[tuple[str, str]]:
    """The share of each decision, under its words."""
    metrics = {text: evaluation.get(None, f"{word}_share") for word, text in words.items()}
    return [(text, f"{m.value:.1%}") for text, m in metrics.items() if m is not None and m.value is not None]


def section(title: str, *parts: str) -> str:
    return f"<article><header><h2>{title}</h2></header>{''.join(parts)}</article>"


def pair(*parts: str) -> str:
    """Parts beside each other, where the page is wide enough."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def summary(evaluation: Evaluation, task: str, words: Mapping[str, str], heads: Sequence[str], share: bool = True) -> str:
    """A table of the metrics that exist, under their words: figure, interval, and what it rests on."""
    metrics = {text: evaluation.get(task, name) for name, text in words.items()}
    lines = [[text, figure(m, share), interval(m, share), f"{m.n:,}"] for text, m in metrics.items() if m is not None]
    kind, spread, n = heads
    return table([Column(""), Column(kind, True), Column(spread), Column(n, True)], lines) if lines else ""


def heads(level: float) -> tuple[str, str, str]:
    """Column names of the table of main figures."""
    return "figure", f"{level:.0%} interval", "out of"


def few(metrics: Sequence[Metric], named: Callable[[str], str] = str, most: int = ROWS) -> list[str]:
    """A sentence listing the parts without a figure and their number of records; and of patients, if these are fewer."""
    if not metrics:
        return []
    parts = []
    for m in metrics[:most]:
        groups = m.params.get(TOO_FEW, m.n)
        patients = "" if groups == m.n else f" of {groups} patient{'s' if groups > 1 else ''}"
        parts.append(f"{named(m.slice.partition('=')[2])} ({m.n:,}{patients})")
    more = f" and {len(metrics) - most} more" if len(metrics) > most else ""
    return [f"Too few for a figure: {', '.join(parts)}{more}."]


def risk(evaluation: Evaluation, task: str, here: Point | None, alt: str, title: str, caption: str) -> str:
    """Chart of the errors among what a threshold would keep, against how much it would keep.

    Args:
        here: the run's own point, with its note. alt: description for readers who cannot see the chart.
    """
    curve = [
        Point(float(m.params["coverage"]), m.value, note=f"{m.params['threshold']:.3f}")
        for m in evaluation.rows(task, "risk")
        if m.value is not None
    ]
    if not curve:
        return ""
    shares = [(m.slice.partition("=")[2], m.value) for m in evaluation.rows(task, "keepable_share") if m.value is not None]
    best = ", ".join(f"{value:.0%} at {float(target):.0%} right" for target, value in shares)
    hindsight = f" A threshold chosen with hindsight would keep {best}; a real one must keep less." if best else ""
    where = f" The dot is this run: {here.note}." if here else ""
    return f'<h3>{title}</h3>{charts.risk_coverage(curve, here, alt)}<p class="soft">{caption}{where}{hindsight}</p>'


def reliability(evaluation: Evaluation, task: str, alt: str, words: str = "records") -> str:
    """Chart of the share right against the stated probability; `words` says what was answered."""
    bins = evaluation.rows(task, "reliability")
    points = [
        Point(float(m.params["mean_prob"]), m.value, m.low, m.high, note=f"{m.n:,} {words}, {m.value:.1%} right")
        for m in bins
        if m.value is not None
    ]
    if not points:
        return ""
    return (
        f'<h3>Does it know what it knows?</h3>{charts.reliability(points, alt)}<p class="soft">One dot for each of {len(bins)} '
        f"equal parts of the {words}{' that has enough of them' * (len(points) < len(bins))}. Below the line the model claims "
        "too much, above it too little.</p>"
    )


def by_slice(
    metrics: Sequence[Metric],
    title: str,
    caption: str,
    named: Callable[[str, str], str] = lambda name, value: value,
    note: Callable[[Metric], str] = value,
    alt: str = "",
) -> str:
    """Charts of a metric by the parts of each slice, the largest first; lengths keep their order.

    Args:
        metrics: of all slices. title: without the slice's name. named: words of a part, from slice and value. note: text beside a
        part. alt: description for readers who cannot see the chart, `title` by default.
    """
    slices: dict[str, list[Metric]] = {}
    for metric in metrics:
        name, equals, _ = metric.slice.partition("=")
        if equals and metric.n:
            slices.setdefault(name, []).append(metric)
    blocks = []
    for name, parts in slices.items():
        if name != "length":
            parts = sorted(parts, key=lambda m: -m.n)
        enough = [m for m in parts if m.value is not None]
        points = [
            Point(m.value or 0.0, 0.0, m.low, m.high, named(name, m.slice.partition("=")[2]), note(m)) for m in enough[:ROWS]
        ]
        chart = charts.rows(points, f"{alt or title} {name}") if points else ""
        words = [caption] if points else []
        if len(enough) > ROWS:
            words.append(f"The {ROWS} largest of {len(enough)}.")
        words += few([m for m in parts if m.value is None])
        blocks.append(f'<div><h3>{title} {shown(name)}</h3>{chart}<p class="soft">{shown(" ".join(words))}</p></div>')
    return f'<div class="parts">{"".join(blocks)}</div>' if blocks else ""


def wrong_list(
    total: int, noun: str, remark: str, columns: Sequence[Column], lines: Sequence[Sequence[str]], note: str = ""
) -> str:
    """The first `WRONG` wrong answers by record, and where to find all."""
    title = f"The {total:,} {noun}s by record" if total > 1 else f"The one {noun} by record"
    rest = f"The first {WRONG} of {total:,}; all are" if total > WRONG else "They are also"
    return (
        f'<details><summary>{title}, {remark}</summary>{table(columns, lines)}<p class="soft">{note}{rest} in {WRONG_FILE} '
        "beside this page, with patient and slices if these were named.</p></details>"
    )


def reading(meanings: Mapping[str, str]) -> str:
    """What the words of a page mean."""
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in meanings.items())
    return f"<details open><summary>How to read this</summary><dl>{items}</dl></details>"


def common_terms(level: float) -> dict[str, str]:
    """The terms that every evaluation page explains."""
    return {
        "Interval": f"Resamples patients many times (or records, if no group was named); {level:.0%} of the resamples lie within "
        "it. If every record is right, or none, the exact interval for this number of patients is given instead.",
        "Too few": f"There is no figure if it would rest on fewer than {FEWEST} patients (or records, if no group was named). "
        "If all of five were right, their interval would still contain one half, which a coin reaches.",
    }
