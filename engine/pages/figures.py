"""Figures in words and pictures, as every page of an evaluation shows them."""

from collections.abc import Callable, Mapping, Sequence

from engine.evaluation.evaluation import Evaluation
from engine.evaluation.metrics import TOO_FEW, Metric
from engine.evaluation.resample import FEWEST
from engine.pages import charts
from engine.pages.charts import Point
from engine.pages.highlight import shown
from engine.pages.tables import Column, table

ROWS = 25
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
    """Both ends in words, nothing where there is no interval."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{number(metric.low, share)} to {number(metric.high, share)}"


def number(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.2f}"


def counted(n: int, word: str = "record") -> str:
    return f"{n:,} {word}{'s' if n > 1 else ''}"


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """What each is, and how much, on top of a page."""
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for k, v in pairs) + "</div>"


def decision_tiles(evaluation: Evaluation, words: Mapping[str, str]) -> list[tuple[str, str]]:
    """Shares of records by decision, under the words given."""
    metrics = {told: evaluation.get(None, f"{word}_share") for word, told in words.items()}
    return [(told, f"{m.value:.1%}") for told, m in metrics.items() if m is not None and m.value is not None]


def section(title: str, *parts: str) -> str:
    return f"<article><header><h2>{title}</h2></header>{''.join(parts)}</article>"


def summary(evaluation: Evaluation, task: str, words: Mapping[str, str], heads: Sequence[str], share: bool = True) -> str:
    """A table of the figures that are there, under the words given: what it is, its interval, and out of how many."""
    metrics = {told: evaluation.get(task, name) for name, told in words.items()}
    lines = [[told, figure(m, share), interval(m, share), f"{m.n:,}"] for told, m in metrics.items() if m is not None]
    kind, spread, n = heads
    return table([Column(""), Column(kind, True), Column(spread), Column(n, True)], lines) if lines else ""


def whole_heads(level: float) -> tuple[str, str, str]:
    """Of a table of the main figures."""
    return "figure", f"{level:.0%} interval", "out of"


def few(metrics: Sequence[Metric], named: Callable[[str], str], most: int = ROWS) -> list[str]:
    """A sentence with the parts that have no figure and their records, the largest first; of patients where these are fewer."""
    if not metrics:
        return []
    parts = []
    for m in metrics[:most]:
        groups = m.params.get(TOO_FEW, m.n)
        patients = "" if groups == m.n else f" of {groups} patient{'s' if groups > 1 else ''}"
        parts.append(f"{named(m.slice.partition('=')[2])} ({m.n:,}{patients})")
    more = f" and {len(metrics) - most} more" if len(metrics) > most else ""
    return [f"Too few for a figure: {', '.join(parts)}{more}."]


def risk(evaluation: Evaluation, task: str, here: Point | None, told: str, title: str, below: str) -> str:
    """Errors among what a threshold would keep, against how much it would keep.

    Args:
        here: where the run stands, with its note. told: for a reader who cannot see it. below: the first words under it.
    """
    curve = [
        Point(float(m.params["coverage"]), m.value, note=f"{m.params['threshold']:.3f}")
        for m in evaluation.rows(task, "risk")
        if m.value is not None
    ]
    if not curve:
        return ""
    kept = [(m.slice.partition("=")[2], m.value) for m in evaluation.rows(task, "keepable_share") if m.value is not None]
    best = ", ".join(f"{value:.0%} at {float(target):.0%} right" for target, value in kept)
    hindsight = f" A threshold chosen with hindsight would keep {best}; a real one must keep less." if best else ""
    where = f" The dot is this run: {here.note}." if here else ""
    return f'<h3>{title}</h3>{charts.risk_coverage(curve, here, told)}<p class="soft">{below}{where}{hindsight}</p>'


def reliability(evaluation: Evaluation, task: str, told: str, title: str, words: str = "records") -> str:
    """Share right against stated probability; `words` are what was answered."""
    every = evaluation.rows(task, "reliability")
    bins = [
        Point(float(m.params["mean_prob"]), m.value, m.low, m.high, note=f"{m.n:,} {words}, {m.value:.1%} right")
        for m in every
        if m.value is not None
    ]
    if not bins:
        return ""
    return (
        f'<h3>{title}</h3>{charts.reliability(bins, told)}<p class="soft">One dot for each of {len(every)} equal parts of the '
        f"{words}{' that has enough of them' * (len(bins) < len(every))}. Below the line the model claims too much, above it too "
        "little.</p>"
    )


def by_slice(
    metrics: Sequence[Metric],
    title: str,
    told: str,
    below: str,
    named: Callable[[str, str], str],
    note: Callable[[Metric], str],
) -> str:
    """A metric by the parts of each slice, the largest first, but for lengths, which are in order.

    Args:
        metrics: of all slices. title, told: up to the slice's name. below: what the figures are. named: from slice and value to
        words. note: what stands beside a part.
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
        picture = charts.rows(points, f"{told} {name}") if points else ""
        words = [below] if points else []
        if len(enough) > ROWS:
            words.append(f"The {ROWS} largest of {len(enough)}.")
        words += few([m for m in parts if m.value is None], str)
        blocks.append(f'<div><h3>{title} {shown(name)}</h3>{picture}<p class="soft">{shown(" ".join(words))}</p></div>')
    return f'<div class="parts">{"".join(blocks)}</div>' if blocks else ""


def reading(meanings: Mapping[str, str]) -> str:
    """What the words of a page mean."""
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in meanings.items())
    return f"<details open><summary>How to read this</summary><dl>{items}</dl></details>"


def usual_meanings(level: float) -> dict[str, str]:
    """Of words that stand on every such page."""
    return {
        "Interval": f"Draws patients again and again (or records, where no group was named); {level:.0%} of the draws lie within "
        "it. Where every record is right, or none, the exact interval for so many patients is given instead.",
        "Too few": f"There is no figure where fewer than {FEWEST} patients (or records, where no group was named) stand behind "
        "it. Were all of five right, their interval would still hold the half that a coin gives.",
    }
