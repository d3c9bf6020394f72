"""One self-contained page about how good a run is: for a person who must decide whether to rely on it, in five minutes.

It holds figures, codes, the ids of records and the names of slices, and no text of a report.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import pyarrow.compute as pc

from engine.evaluation.evaluate import Evaluation
from engine.evaluation.measure import TOO_FEW, Metric
from engine.evaluation.resample import FEWEST
from engine.evaluation.wrong import WRONG
from engine.pages import charts, words
from engine.pages.charts import CHART_STYLE, Point
from engine.pages.evidence import NAMES
from engine.pages.highlight import shown
from engine.pages.style import style
from engine.pages.tables import Column, table
from engine.records import AUTO
from engine.storage import storage_for

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
.pair { display:flex; flex-wrap:wrap; gap:1rem 2rem } .pair > div { flex:1 1 22rem; min-width:0 }
.parts { columns:22rem 2; column-gap:2rem } .parts > div { break-inside:avoid } .parts h3 { margin-top:1rem }
h3 { font-size:1rem; margin:1.4rem 0 .2rem } details { margin:.8rem 0 }
summary { cursor:pointer; font-weight:550 } .headline { font-size:1.15rem; margin:.6rem 0 }
dt { font-weight:600; margin-top:.5rem } dd { margin:0 0 0 1rem } strong.bad { color:var(--failed) }
"""
_ROWS = 25
_FEW = 100
_WRONG = 50
_TOO_FEW = '<span class="soft">too few</span>'

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
        if share is None or right is None or bound is None or not share.n:
            continue
        if share.value is None:
            lines.append(f"{_records(share.n)} with a known {shown(task)}: too few for a figure.")
            continue
        if not right.n:
            lines.append(f"Of {share.n:,} records with a known {shown(task)}, none was coded without a person.")
            continue
        line = (
            f"Of {share.n:,} records with a known {shown(task)}, <strong>{share.value:.1%}</strong> were coded without a person"
        )
        if right.value is None:
            line += f": {_records(right.n)}, too few to say how often the {shown(task)} is right."
        else:
            line += (
                f". Of these, <strong>{right.value:.1%}</strong> have the right {shown(task)}; with {level:.0%} confidence it is "
                f"at least {bound.value:.1%}."
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
    told = [f"{name}: {_value(m)}" for name, m in (("of answered records", every), ("of those coded without a person", auto))]
    return f"<p>All tasks right at once, {', '.join(told)}.</p>"


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
            _wrong(evaluation, task, names),
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
            lines.append([meaning, _figure(metric), _interval(metric), f"{metric.n:,}"])
    return table([Column(""), Column("figure", True), Column(f"{level:.0%} interval"), Column("out of", True)], lines)


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
        here = Point(share.value, 1 - right.value, label="this run", note=f"{share.value:.0%} kept, {1 - right.value:.1%} wrong")
    kept = [(m.slice.partition("=")[2], m.value) for m in evaluation.rows(task, "keepable_share") if m.value is not None]
    best = ", ".join(f"{value:.0%} at {float(target):.0%} right" for target, value in kept)
    hindsight = f" A threshold chosen with hindsight would keep {best}; a real one must keep less." if best else ""
    where = f" The dot is this run: {here.note}." if here else ""
    picture = charts.risk_coverage(curve, here, f"{task}: errors among kept records against the share kept")
    return (
        f'<h3>How much could be kept, at what risk</h3>{picture}<p class="soft">Most certain records first.{where}{hindsight}</p>'
    )


def _reliability(evaluation: Evaluation, task: str) -> str:
    every = evaluation.rows(task, "reliability")
    bins = [
        Point(float(m.params["mean_prob"]), m.value, m.low, m.high, note=f"{m.n:,} records, {m.value:.1%} right")
        for m in every
        if m.value is not None
    ]
    if not bins:
        return ""
    picture = charts.reliability(bins, f"{task}: share right against stated probability")
    return (
        f'<h3>Does it know what it knows?</h3>{picture}<p class="soft">One dot for each of {len(every)} equal parts of the '
        f"records{' that has enough of them' * (len(bins) < len(every))}. Below the line the model claims too much, above it too "
        "little.</p>"
    )


def _slices(evaluation: Evaluation, task: str, word: str, names: Names) -> str:
    found: dict[str, list[Metric]] = {}
    for metric in evaluation.rows(task, "accuracy"):
        name, equals, _ = metric.slice.partition("=")
        if equals and metric.n:
            found.setdefault(name, []).append(metric)
    blocks = []
    for name, metrics in found.items():
        if name != "length":
            metrics = sorted(metrics, key=lambda m: -m.n)
        points = []
        enough = [m for m in metrics if m.value is not None]
        for m in enough[:_ROWS]:
            value = m.slice.partition("=")[2]
            share = evaluation.get(task, f"{word}_share", m.slice)
            kept = "" if share is None or share.value is None else f", {share.value:.0%} {'coded' if word == 'auto' else 'sure'}"
            note = f"{m.value:.1%} of {m.n:,}{kept}"
            points.append(Point(m.value or 0.0, 0.0, m.low, m.high, _named(name, value, names), note))
        picture = charts.rows(points, f"{task}: share right by {name}") if points else ""
        told = ["Right of answered records, with intervals."] if points else []
        if len(enough) > _ROWS:
            told.append(f"The {_ROWS} largest of {len(enough)}.")
        told += _few([m for m in metrics if m.value is None], str)
        blocks.append(f'<div><h3>Right code by {shown(name)}</h3>{picture}<p class="soft">{shown(" ".join(told))}</p></div>')
    return f'<div class="parts">{"".join(blocks)}</div>' if blocks else ""


def _few(metrics: Sequence[Metric], named: Callable[[str], str], most: int = _ROWS) -> list[str]:
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


def _errors(evaluation: Evaluation, task: str, names: Names) -> str:
    rows = evaluation.rows(task, "confusion")
    if not rows:
        return "<h3>Errors</h3><p>None.</p>"
    lines = []
    for m in rows:
        gold, given, auto = str(m.params["gold"]), str(m.params["given"]), int(m.params["auto"])
        unseen = f'<strong class="bad">{auto}</strong>' if auto else "0"
        pair = f'{_code(task, gold, names)} <span class="soft">taken for</span> {_code(task, given, names)}'
        lines.append([pair, f"{int(m.value or 0):,}", f"{m.n:,}", unseen])
    heads = [Column("right code, and the code given"), Column("times", True), Column("records with the right code", True)]
    title = f"The {len(rows)} commonest errors" if len(rows) > 1 else "The one kind of error"
    return f"<h3>{title}</h3>{table([*heads, Column('coded without a person', True)], lines)}"


def _wrong(evaluation: Evaluation, task: str, names: Names) -> str:
    """The wrong answers one by one, by the ids of their records."""
    every = evaluation.wrong.filter(pc.equal(evaluation.wrong["task"], task))
    if not len(every):
        return ""
    lines = []
    for row in every.slice(0, _WRONG).to_pylist():
        reasons = dict.fromkeys([*(row["task_reasons"] or ()), *(row["reasons"] or ())])
        badge = f'<span class="badge {row["decision"]}">{words.DECISIONS[row["decision"]]}</span>'
        why = "<br>".join(shown(words.REASONS.get(reason, reason)) for reason in reasons)
        codes = [_code(task, row[name], names) for name in ("gold", "code")]
        lines.append([shown(row["record_id"]), badge, *codes, "" if row["prob"] is None else f"{row['prob']:.1%}", why])
    heads = [Column("record"), Column("decision"), Column("right code"), Column("given code"), Column("probability", True)]
    unseen = pc.sum(pc.equal(every["decision"], AUTO)).as_py()
    title = f"The {len(every):,} wrong answers by record" if len(every) > 1 else "The one wrong answer by record"
    rest = f"The first {_WRONG} of {len(every):,}; all are" if len(every) > _WRONG else "They are also"
    return (
        f"<details><summary>{title}, {f'{unseen:,}' if unseen else 'none'} coded without a person</summary>"
        f"{table([*heads, Column('what made the model unsure', wide=True)], lines)}"
        f'<p class="soft">{rest} in {WRONG} beside this page, with patient and slices where these were named.</p></details>'
    )


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
        if own is None or not own.n:
            continue
        plain = name != "cov_lift"
        least = own.n if least is None else min(least, own.n)
        lines.append([meaning, _figure(own, plain), _interval(own, plain), _figure(control, plain), f"{own.n:,}"])
    if not lines:
        return ""
    heads = [Column(""), Column("evidence", True), Column("interval"), Column("random words", True), Column("records", True)]
    few = (
        f'<p class="soft">Only {least:,} records were checked, so that the intervals are wide; code them again with a larger '
        "explain.checks_fraction to know better.</p>"
        if least is not None and least < _FEW
        else ""
    )
    return f"<h3>Is the evidence the reason?</h3>{table(heads, lines)}{few}"


def _codes(evaluation: Evaluation, task: str, names: Names) -> str:
    lines, few = [], []
    recall, precision = ({m.slice: m for m in evaluation.rows(task, name)} for name in ("recall", "precision"))
    every = sorted(evaluation.rows(task, "f1"), key=lambda m: (-recall[m.slice].n, m.slice))
    for m in every:
        figures = (recall[m.slice], precision[m.slice], m)
        if all(each.value is None for each in figures):
            few.append(recall[m.slice])
            continue
        code = _code(task, m.slice.partition("=")[2], names)
        lines.append([code, f"{recall[m.slice].n:,}", *(_figure(each) for each in figures), _interval(m)])
    figures = ("records", "found (recall)", "right when given (precision)", "F1")
    heads = [Column("code"), *(Column(name, True) for name in figures), Column("interval of F1")]
    rest = "".join(f'<p class="soft">{shown(each)}</p>' for each in _few(few, lambda c: _named(task, c, names), len(few)))
    return f"<details><summary>Every code ({len(every)})</summary>{table(heads, lines) if lines else ''}{rest}</details>"


def _reading(level: float) -> str:
    meanings = {
        "Coded, to review": "Coded records were sure enough to be kept without a person; the rest need one. A failed record has "
        "no answer: it counts among all records, and in no figure of right and wrong.",
        "Interval": f"Draws patients again and again (or records, where no group was named); {level:.0%} of the draws lie within "
        "it. Where every record is right, or none, the exact interval for so many patients is given instead.",
        "Too few": f"There is no figure where fewer than {FEWEST} patients (or records, where no group was named) stand behind "
        "it. Were all of five right, their interval would still hold the half that a coin gives.",
        "At least": f"With {level:.0%} confidence the share right is not below this (Clopper and Pearson, one-sided; the "
        "smaller of the bound over records and that over patients, who count as right where all their records are).",
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


def _code(task: str, code: str, names: Names) -> str:
    return f'<span class="code">{shown(code)}</span> {_name(task, code, names)}'


def _records(n: int) -> str:
    return f"{n:,} record{'s' if n > 1 else ''}"


def _value(metric: Metric | None) -> str:
    if metric is None or not metric.n:
        return "none"
    return f"too few ({metric.n:,})" if metric.value is None else f"{metric.value:.1%} ({_interval(metric)})"


def _figure(metric: Metric | None, share: bool = True) -> str:
    if metric is None or metric.value is None:
        return _TOO_FEW if metric is not None and metric.too_few else ""
    return _number(metric.value, share)


def _interval(metric: Metric, share: bool = True) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{_number(metric.low, share)} to {_number(metric.high, share)}"


def _number(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.2f}"
