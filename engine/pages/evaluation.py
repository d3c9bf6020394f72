"""One self-contained page about how good a run is: for a person who must decide whether to rely on it, in five minutes.

It holds figures, codes and the names of slices, and no text of a report.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from engine.evaluation.evaluate import Evaluation
from engine.evaluation.measure import Metric
from engine.pages import charts
from engine.pages.charts import CHART_STYLE, Point
from engine.pages.evidence import NAMES
from engine.pages.highlight import shown
from engine.pages.style import style
from engine.storage import storage_for

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
.pair { display:flex; flex-wrap:wrap; gap:1rem 2rem } .pair > div { flex:1 1 22rem; min-width:0 }
.parts { columns:22rem 2; column-gap:2rem } .parts > div { break-inside:avoid } .parts h3 { margin-top:1rem }
h3 { font-size:1rem; margin:1.4rem 0 .2rem } td.num, th.num { text-align:right; padding-right:1.2rem } details { margin:.8rem 0 }
summary { cursor:pointer; font-weight:550 } .headline { font-size:1.15rem; margin:.6rem 0 }
dt { font-weight:600; margin-top:.5rem } dd { margin:0 0 0 1rem } strong.bad { color:var(--failed) }
"""
_ROWS = 25
_FEW = 100

Names = Mapping[str, Callable[[str], str]]


def write_evaluation_page(
    path: str,
    title: str,
    evaluation: Evaluation,
    *,
    deciding: Sequence[str],
    level: float,
    note: str = "",
    auto: Mapping[str, Collection[str]] | None = None,
    names: Names = NAMES,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        deciding: the tasks that must be sure for a record to be coded without review.
        level: of the intervals, such as 0.95. note: one line under the title, such as run, model and gold table.
        auto: the codes that can be coded without a person at all, by task; None where the model is not at hand.
        names: from a code to its name, a task.
    """
    sections = [_task(evaluation, task, task in deciding, level, auto and auto[task], names) for task in evaluation.tasks]
    page = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{shown(title)}</title><style>{style()}{CHART_STYLE}{_STYLE}</style></head><body><main>",
            f"<h1>{shown(title)}</h1>",
            f'<p class="soft">{shown(note)}</p>' if note else "",
            _headline(evaluation, deciding, level),
            _tiles(evaluation),
            _together(evaluation),
            "".join(f'<p class="warning">{shown(each)}</p>' for each in evaluation.notes),
            *sections,
            _reading(level),
            "</main></body></html>\n",
        ]
    )
    with storage_for(path).writer(path) as file:
        file.write(page.encode("utf-8"))


def _headline(evaluation: Evaluation, deciding: Sequence[str], level: float) -> str:
    lines = []
    for task in [task for task in evaluation.tasks if task in deciding]:
        share, right, bound, review = (
            evaluation.get(task, name) for name in ("auto_share", "auto_accuracy", "auto_accuracy_bound", "review_accuracy")
        )
        if share is None or share.value is None:
            continue
        if right is None or right.value is None or bound is None:
            lines.append(f"Of {share.n:,} records with a known {shown(task)}, none was coded without a person.")
            continue
        line = (
            f"Of {share.n:,} records with a known {shown(task)}, <strong>{share.value:.1%}</strong> were coded without a person. "
            f"Of these, <strong>{right.value:.1%}</strong> have the right {shown(task)}; with {level:.0%} confidence it is at "
            f"least {bound.value:.1%}."
        )
        if review is not None and review.value is not None:
            line += f" Where a person must look, the suggestion is right in {review.value:.1%}."
        lines.append(line)
    return "".join(f'<p class="headline">{line}</p>' for line in lines)


def _tiles(evaluation: Evaluation) -> str:
    tiles = [("records compared", f"{evaluation.counts.get('matched', 0):,}")]
    for word, told in (
        ("auto", "coded"),
        ("review", "to review"),
        ("not_applicable", "not applicable"),
        ("failed", "failed: not answered"),
    ):
        metric = evaluation.get(None, f"{word}_share")
        if metric is not None and metric.value is not None:
            tiles.append((told, f"{metric.value:.1%}"))
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for k, v in tiles) + "</div>"


def _together(evaluation: Evaluation) -> str:
    every, auto = (evaluation.get(None, name) for name in ("all_right", "auto_all_right"))
    if every is None:
        return ""
    return f"<p>All tasks right at once: {_value(every)} of answered records, {_value(auto)} of those coded without a person.</p>"


def _task(evaluation: Evaluation, task: str, deciding: bool, level: float, auto: Collection[str] | None, names: Names) -> str:
    word = "auto" if deciding else "sure"
    return "".join(
        [
            f"<article><header><h2>{shown(task.replace('_', ' ').capitalize())}</h2>",
            "" if deciding else '<span class="soft">this task has no part in the decision to code without a person</span>',
            "</header>",
            _summary(evaluation, task, deciding, level),
            "" if auto is None else _possible(evaluation, task, deciding, auto, names),
            '<div class="pair"><div>',
            _risk(evaluation, task, word),
            "</div><div>",
            _reliability(evaluation, task),
            "</div></div>",
            _slices(evaluation, task, word, names),
            _errors(evaluation, task, names),
            _evidence(evaluation, task),
            _codes(evaluation, task, names),
            "</article>",
        ]
    )


def _summary(evaluation: Evaluation, task: str, deciding: bool, level: float) -> str:
    told = {
        "answered": "got an answer",
        "accuracy": "right code, of all answered",
        "accuracy_top": "right code among those suggested",
        "macro_f1": "F1, each code counting alike, rare ones too",
        "micro_f1": "F1 over all codes",
        "ece": "mean gap between stated and true certainty",
    }
    if deciding:
        told |= {
            "auto_share": "coded without a person",
            "auto_accuracy": "right among those",
            "review_accuracy": "right suggestion, of those to review",
        }
    else:
        told |= {"sure_share": "sure enough by this task's own threshold", "sure_accuracy": "right among those"}
    lines = []
    for name, meaning in told.items():
        metric = evaluation.get(task, name)
        if metric is not None:
            lines.append(f"<tr><td>{meaning}</td>{_cells(metric)}</tr>")
    heads = f'<tr><th></th><th class="num">figure</th><th>{level:.0%} interval</th><th class="num">out of</th></tr>'
    return f'<div class="scroll"><table>{heads}{"".join(lines)}</table></div>'


def _possible(evaluation: Evaluation, task: str, deciding: bool, auto: Collection[str], names: Names) -> str:
    """Which of the right codes can be coded without a person at all, and which cannot, with their numbers."""
    can = "can be coded without a person" if deciding else "can be sure by this task's own threshold"
    if not auto:
        return f"<p>{shown(f'No code {can}.')}</p>"
    counts = {m.slice.partition("=")[2]: m.n for m in evaluation.rows(task, "recall") if m.n}
    ours, others = ({c: n for c, n in counts.items() if (c in auto) is within} for within in (True, False))
    told = (
        f"{len(auto):,} code{'s' if len(auto) > 1 else ''} {can}. Of {sum(counts.values()):,} right codes of answered records, "
    )
    told += f"{sum(ours.values()):,} are among them{_counted(task, ours, names)}."
    if others:
        otherwise = "go to a person or are coded wrongly" if deciding else "are not sure, or answered wrongly"
        told += f" The other {sum(others.values()):,} {otherwise}{_counted(task, others, names)}."
    return f"<p>{shown(told)}</p>"


def _counted(task: str, counts: Mapping[str, int], names: Names) -> str:
    """The codes with their names and numbers, the commonest first, behind a colon."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ": " * bool(ranked) + ", ".join(f"{_named(task, code, names)} {n:,}" for code, n in ranked)


def _risk(evaluation: Evaluation, task: str, word: str) -> str:
    curve = [
        Point(float(m.params["coverage"]), m.value, note=f"{m.params['threshold']:.3f}")
        for m in evaluation.rows(task, "risk")
        if m.value is not None
    ]
    if not curve:
        return ""
    share, right = evaluation.get(task, f"{word}_share"), evaluation.get(task, f"{word}_accuracy")
    here = None
    if share is not None and right is not None and share.value and right.value is not None:
        here = Point(share.value, 1 - right.value, label=f"this run: {share.value:.0%}, {1 - right.value:.1%} wrong")
    kept = [(m.slice.partition("=")[2], m.value) for m in evaluation.rows(task, "keepable_share") if m.value is not None]
    best = ", ".join(f"{value:.0%} at {float(target):.0%} right" for target, value in kept)
    picture = charts.risk_coverage(curve, here, f"{task}: errors among kept records against the share kept")
    return (
        f'<h3>How much could be kept, at what risk</h3>{picture}<p class="soft">Most certain records first. A threshold '
        f"chosen with hindsight would keep {best}; a real one must keep less.</p>"
    )


def _reliability(evaluation: Evaluation, task: str) -> str:
    bins = [
        Point(float(m.params["mean_prob"]), m.value, m.low, m.high, note=f"{m.n:,} records, {m.value:.1%} right")
        for m in evaluation.rows(task, "reliability")
        if m.value is not None
    ]
    if not bins:
        return ""
    picture = charts.reliability(bins, f"{task}: share right against stated probability")
    return (
        f'<h3>Does it know what it knows?</h3>{picture}<p class="soft">One dot for each of {len(bins)} equal parts of the '
        "records. Below the line the model claims too much, above it too little.</p>"
    )


def _slices(evaluation: Evaluation, task: str, word: str, names: Names) -> str:
    found: dict[str, list[Metric]] = {}
    for metric in evaluation.rows(task, "accuracy"):
        name, equals, _ = metric.slice.partition("=")
        if equals and metric.value is not None:
            found.setdefault(name, []).append(metric)
    blocks = []
    for name, metrics in found.items():
        if name != "length":
            metrics = sorted(metrics, key=lambda m: -m.n)
        points = []
        for m in metrics[:_ROWS]:
            value = m.slice.partition("=")[2]
            share = evaluation.get(task, f"{word}_share", m.slice)
            kept = "" if share is None or share.value is None else f", {share.value:.0%} {'coded' if word == 'auto' else 'sure'}"
            points.append(Point(m.value or 0.0, 0.0, m.low, m.high, _named(name, value, names), f"{m.n:,}{kept}"))
        more = f" The {_ROWS} largest of {len(metrics)}." if len(metrics) > _ROWS else ""
        picture = charts.rows(points, f"{task}: share right by {name}")
        blocks.append(f'<div><h3>Right code by {shown(name)}</h3>{picture}<p class="soft">Of answered records.{more}</p></div>')
    return f'<div class="parts">{"".join(blocks)}</div>' if blocks else ""


def _errors(evaluation: Evaluation, task: str, names: Names) -> str:
    rows = evaluation.rows(task, "confusion")
    if not rows:
        return "<h3>Errors</h3><p>None.</p>"
    lines = []
    for m in rows:
        gold, given, auto = str(m.params["gold"]), str(m.params["given"]), int(m.params["auto"])
        unseen = f'<strong class="bad">{auto}</strong>' if auto else "0"
        lines.append(
            f'<tr><td><span class="code">{shown(gold)}</span> {_name(task, gold, names)}</td>'
            f'<td><span class="code">{shown(given)}</span> {_name(task, given, names)}</td>'
            f'<td class="num">{int(m.value or 0):,}</td><td class="num">{m.n:,}</td><td class="num">{unseen}</td></tr>'
        )
    heads = (
        '<tr><th>right code</th><th>given code</th><th class="num">times</th><th class="num">of records with the right code</th>'
        '<th class="num">coded without a person</th></tr>'
    )
    title = f"The {len(rows)} commonest errors" if len(rows) > 1 else "The one kind of error"
    return f'<h3>{title}</h3><div class="scroll"><table>{heads}{"".join(lines)}</table></div>'


def _evidence(evaluation: Evaluation, task: str) -> str:
    pairs = {
        "comprehensiveness": "fall of the probability without the evidence words (high is good)",
        "sufficiency": "fall with the evidence words alone (low is good)",
        "cov_topk": "marked words among the strongest words",
        "cov_mass": "weight on marked words",
        "cov_lift": "that weight against chance (1 is chance)",
        "auprc": "how well weights rank marked words (AUPRC)",
    }
    lines, least = [], None
    for name, meaning in pairs.items():
        own, control = evaluation.get(task, name), evaluation.get(task, f"random_{name}")
        if own is None or own.value is None:
            continue
        plain = name != "cov_lift"
        least = own.n if least is None else min(least, own.n)
        chance = "" if control is None else _figure(control.value, plain)
        lines.append(
            f'<tr><td>{meaning}</td><td class="num">{_figure(own.value, plain)}</td><td>{_interval(own, plain)}</td>'
            f'<td class="num">{chance}</td><td class="num">{own.n:,}</td></tr>'
        )
    if not lines:
        return ""
    heads = (
        '<tr><th></th><th class="num">evidence</th><th>interval</th><th class="num">random words</th>'
        '<th class="num">records</th></tr>'
    )
    few = (
        f'<p class="soft">Only {least:,} records were checked, so that the intervals are wide; code them again with a larger '
        "explain.checks_fraction to know better.</p>"
        if least is not None and least < _FEW
        else ""
    )
    return f'<h3>Is the evidence the reason?</h3><div class="scroll"><table>{heads}{"".join(lines)}</table></div>{few}'


def _codes(evaluation: Evaluation, task: str, names: Names) -> str:
    lines = []
    recall = {m.slice: m for m in evaluation.rows(task, "recall")}
    for m in sorted(evaluation.rows(task, "f1"), key=lambda m: (-m.n, m.slice)):
        code = m.slice.partition("=")[2]
        precision = evaluation.get(task, "precision", m.slice)
        lines.append(
            f'<tr><td><span class="code">{shown(code)}</span> {_name(task, code, names)}</td><td class="num">{m.n:,}</td>'
            f'<td class="num">{_figure(recall[m.slice].value)}</td><td class="num">{_figure(precision and precision.value)}</td>'
            f'<td class="num">{_figure(m.value)}</td><td>{_interval(m)}</td></tr>'
        )
    heads = (
        '<tr><th>code</th><th class="num">records</th><th class="num">found (recall)</th>'
        '<th class="num">right when given (precision)</th><th class="num">F1</th><th>interval of F1</th></tr>'
    )
    return (
        f"<details><summary>Every code ({len(lines)})</summary>"
        f'<div class="scroll"><table>{heads}{"".join(lines)}</table></div></details>'
    )


def _reading(level: float) -> str:
    meanings = {
        "Coded, to review": "Coded records were sure enough to be kept without a person; the rest need one. A failed record has "
        "no answer: it counts among all records, and in no figure of right and wrong.",
        "Interval": f"Draws patients again and again (or records, where no group was named); {level:.0%} of the draws lie within "
        "it. Where every record is right, or none, the exact interval for so many patients is given instead.",
        "At least": f"With {level:.0%} confidence the share right is not below this (Clopper and Pearson, one-sided, records).",
        "F1, each code counting alike": "A code with three records counts as much as one with three hundred. Any single figure "
        "of accuracy hides how the rare codes fare; this one does not.",
        "Stated and true certainty": "Of records for which the model states 90 %, nine in ten should be right.",
        "What this does not say": "How the model does on reports unlike these: other hospitals, years, specimens or languages. "
        "Gold labels are not exact either; look at errors of records that were coded before blaming either side.",
    }
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in meanings.items())
    return f"<details open><summary>How to read this</summary><dl>{items}</dl></details>"


def _named(name: str, value: str, names: Names) -> str:
    told = names[name](value) if name in names else value
    return value if told == value else f"{value} {told}"


def _name(task: str, code: str, names: Names) -> str:
    told = names[task](code) if task in names and ";" not in code else ""
    return shown(told) if told != code else ""


def _cells(metric: Metric) -> str:
    return f'<td class="num">{_figure(metric.value)}</td><td>{_interval(metric)}</td><td class="num">{metric.n:,}</td>'


def _value(metric: Metric | None) -> str:
    return "none" if metric is None or metric.value is None else f"{metric.value:.1%} ({_interval(metric)})"


def _figure(value: float | None, share: bool = True) -> str:
    return "" if value is None else f"{value:.1%}" if share else f"{value:.2f}"


def _interval(metric: Metric, share: bool = True) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{_figure(metric.low, share)} to {_figure(metric.high, share)}"
