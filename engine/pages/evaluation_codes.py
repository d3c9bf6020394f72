"""What the page of an evaluation says of codes: how many need no person, how right they are, and what goes wrong."""

from collections.abc import Collection, Mapping, Sequence

import pyarrow.compute as pc

from engine.evaluation.evaluation import WRONG_FILE, Evaluation
from engine.evaluation.metrics import Metric
from engine.pages import figures, words
from engine.pages.charts import Point
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import AUTO

_FEW = 100
_WRONG = 50
_DECISIONS = {"auto": "coded", "review": "to review", "not_applicable": "not applicable", "failed": "failed: not answered"}


def lead(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    """What stands first: the sentence that a decision needs, and the counts."""
    tiles = [("records compared", f"{evaluation.counts.get('matched', 0):,}"), *figures.decision_tiles(evaluation, _DECISIONS)]
    return [_headline(evaluation, deciding, level), figures.tiles(tiles), _together(evaluation)]


def body(evaluation: Evaluation, deciding: Sequence[str], level: float, auto: Mapping[str, Collection[str]] | None) -> list[str]:
    """A section for each task, and how to read them."""
    tasks = [_task(evaluation, task, task in deciding, level, auto[task] if auto else None) for task in evaluation.tasks]
    return [*tasks, _reading(level)]


def _headline(evaluation: Evaluation, deciding: Sequence[str], level: float) -> str:
    lines = []
    for task in [task for task in evaluation.tasks if task in deciding]:
        share, right, bound, review = (
            evaluation.get(task, name) for name in ("auto_share", "auto_accuracy", "auto_accuracy_bound", "review_accuracy")
        )
        if share is None or right is None or bound is None or not share.n:
            continue
        if share.value is None:
            lines.append(f"{figures.counted(share.n)} with a known {shown(task)}: too few for a figure.")
            continue
        if not right.n:
            lines.append(f"Of {share.n:,} records with a known {shown(task)}, none was coded without a person.")
            continue
        line = (
            f"Of {share.n:,} records with a known {shown(task)}, <strong>{share.value:.1%}</strong> were coded without a person"
        )
        if right.value is None:
            line += f": {figures.counted(right.n)}, too few to say how often the {shown(task)} is right."
        else:
            line += (
                f". Of these, <strong>{right.value:.1%}</strong> have the right {shown(task)}; with {level:.0%} confidence it is "
                f"at least {bound.value:.1%}."
            )
        if review is not None and review.value is not None:
            line += f" Where a person must look, the suggestion is right in {review.value:.1%}."
        lines.append(line)
    return "".join(f'<p class="headline">{line}</p>' for line in lines)


def _together(evaluation: Evaluation) -> str:
    every, auto = (evaluation.get(None, name) for name in ("all_right", "auto_all_right"))
    if every is None:
        return ""
    told = [
        f"{name}: {figures.value(m)}" for name, m in (("of answered records", every), ("of those coded without a person", auto))
    ]
    return f"<p>All tasks right at once, {', '.join(told)}.</p>"


def _task(evaluation: Evaluation, task: str, deciding: bool, level: float, auto: Collection[str] | None) -> str:
    word = "auto" if deciding else "sure"
    return "".join(
        [
            f"<article><header><h2>{shown(task.replace('_', ' ').capitalize())}</h2>",
            "" if deciding else '<span class="soft">this task has no part in the decision to code without a person</span>',
            "</header>",
            _summary(evaluation, task, deciding, level),
            "" if auto is None else _possible(evaluation, task, deciding, auto),
            '<div class="pair"><div>',
            _risk(evaluation, task, word),
            "</div><div>",
            figures.reliability(
                evaluation, task, f"{task}: share right against stated probability", "Does it know what it knows?"
            ),
            "</div></div>",
            _slices(evaluation, task, word),
            _errors(evaluation, task),
            _wrong(evaluation, task),
            _evidence(evaluation, task),
            _codes(evaluation, task),
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
    return figures.summary(evaluation, task, told, figures.whole_heads(level))


def _possible(evaluation: Evaluation, task: str, deciding: bool, auto: Collection[str]) -> str:
    """Which of the right codes can be coded without a person at all, and which cannot, with their numbers."""
    can = "can be coded without a person" if deciding else "can be sure by this task's own threshold"
    if not auto:
        return f"<p>{shown(f'No code {can}.')}</p>"
    counts = {m.slice.partition("=")[2]: m.n for m in evaluation.rows(task, "recall") if m.n}
    ours, others = ({c: n for c, n in counts.items() if (c in auto) is within} for within in (True, False))
    told = (
        f"{len(auto):,} code{'s' if len(auto) > 1 else ''} {can}. Of {sum(counts.values()):,} right codes of answered records, "
    )
    told += f"{sum(ours.values()):,} are among them{_counted(task, ours)}."
    if others:
        otherwise = "go to a person or are coded wrongly" if deciding else "are not sure, or answered wrongly"
        told += f" The other {sum(others.values()):,} {otherwise}{_counted(task, others)}."
    return f"<p>{shown(told)}</p>"


def _counted(task: str, counts: Mapping[str, int]) -> str:
    """The codes with their names and numbers, the commonest first, behind a colon."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ": " * bool(ranked) + ", ".join(f"{_named(task, code)} {n:,}" for code, n in ranked)


def _risk(evaluation: Evaluation, task: str, word: str) -> str:
    share, right = evaluation.get(task, f"{word}_share"), evaluation.get(task, f"{word}_accuracy")
    here = None
    if share is not None and right is not None and share.value and right.value is not None:
        here = Point(share.value, 1 - right.value, label="this run", note=f"{share.value:.0%} kept, {1 - right.value:.1%} wrong")
    told = f"{task}: errors among kept records against the share kept"
    return figures.risk(evaluation, task, here, told, "How much could be kept, at what risk", "Most certain records first.")


def _slices(evaluation: Evaluation, task: str, word: str) -> str:
    def note(m: Metric) -> str:
        share = evaluation.get(task, f"{word}_share", m.slice)
        kept = "" if share is None or share.value is None else f", {share.value:.0%} {'coded' if word == 'auto' else 'sure'}"
        return f"{m.value:.1%} of {m.n:,}{kept}"

    return figures.by_slice(
        evaluation.rows(task, "accuracy"),
        "Right code by",
        f"{task}: share right by",
        "Right of answered records, with intervals.",
        _named,
        note,
    )


def _errors(evaluation: Evaluation, task: str) -> str:
    rows = evaluation.rows(task, "confusion")
    if not rows:
        return "<h3>Errors</h3><p>None.</p>"
    lines = []
    for m in rows:
        gold, given, auto = str(m.params["gold"]), str(m.params["given"]), int(m.params["auto"])
        unseen = f'<strong class="bad">{auto}</strong>' if auto else "0"
        pair = f'{_code(task, gold)} <span class="soft">taken for</span> {_code(task, given)}'
        lines.append([pair, f"{int(m.value or 0):,}", f"{m.n:,}", unseen])
    heads = [Column("right code, and the code given"), Column("times", True), Column("records with the right code", True)]
    title = f"The {len(rows)} commonest errors" if len(rows) > 1 else "The one kind of error"
    return f"<h3>{title}</h3>{table([*heads, Column('coded without a person', True)], lines)}"


def _wrong(evaluation: Evaluation, task: str) -> str:
    """The wrong answers one by one, by the ids of their records."""
    every = evaluation.wrong.filter(pc.equal(evaluation.wrong["task"], task))
    if not len(every):
        return ""
    lines = []
    for row in every.slice(0, _WRONG).to_pylist():
        reasons = dict.fromkeys([*(row["task_reasons"] or ()), *(row["reasons"] or ())])
        badge = f'<span class="badge {row["decision"]}">{words.DECISIONS[row["decision"]]}</span>'
        why = "<br>".join(shown(words.REASONS.get(reason, reason)) for reason in reasons)
        codes = [_code(task, row[name]) for name in ("gold", "code")]
        lines.append([shown(row["record_id"]), badge, *codes, "" if row["prob"] is None else f"{row['prob']:.1%}", why])
    heads = [Column("record"), Column("decision"), Column("right code"), Column("given code"), Column("probability", True)]
    unseen = pc.sum(pc.equal(every["decision"], AUTO)).as_py()
    title = f"The {len(every):,} wrong answers by record" if len(every) > 1 else "The one wrong answer by record"
    rest = f"The first {_WRONG} of {len(every):,}; all are" if len(every) > _WRONG else "They are also"
    return (
        f"<details><summary>{title}, {f'{unseen:,}' if unseen else 'none'} coded without a person</summary>"
        f"{table([*heads, Column('what made the model unsure', wide=True)], lines)}"
        f'<p class="soft">{rest} in {WRONG_FILE} beside this page, with patient and slices where these were named.</p></details>'
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
        lines.append(
            [meaning, figures.figure(own, plain), figures.interval(own, plain), figures.figure(control, plain), f"{own.n:,}"]
        )
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


def _codes(evaluation: Evaluation, task: str) -> str:
    lines, few = [], []
    recall, precision = ({m.slice: m for m in evaluation.rows(task, name)} for name in ("recall", "precision"))
    every = sorted(evaluation.rows(task, "f1"), key=lambda m: (-recall[m.slice].n, m.slice))
    for m in every:
        three = (recall[m.slice], precision[m.slice], m)
        if all(each.value is None for each in three):
            few.append(recall[m.slice])
            continue
        code = _code(task, m.slice.partition("=")[2])
        lines.append([code, f"{recall[m.slice].n:,}", *map(figures.figure, three), figures.interval(m)])
    numbers = ("records", "found (recall)", "right when given (precision)", "F1")
    heads = [Column("code"), *(Column(name, True) for name in numbers), Column("interval of F1")]
    rest = "".join(f'<p class="soft">{shown(each)}</p>' for each in figures.few(few, lambda code: _named(task, code), len(few)))
    return f"<details><summary>Every code ({len(every)})</summary>{table(heads, lines) if lines else ''}{rest}</details>"


def _reading(level: float) -> str:
    meanings = {
        "Coded, to review": "Coded records were sure enough to be kept without a person; the rest need one. A failed record has "
        "no answer: it counts among all records, and in no figure of right and wrong.",
        **figures.usual_meanings(level),
        "At least": f"With {level:.0%} confidence the share right is not below this (Clopper and Pearson, one-sided; the "
        "smaller of the bound over records and that over patients, who count as right where all their records are).",
        "F1, each code counting alike": "A code with three records counts as much as one with three hundred. Any single figure "
        "of accuracy hides how the rare codes fare; this one does not.",
        "Stated and true certainty": "Of records for which the model states 90 %, nine in ten should be right.",
        "What this does not say": "How the model does on reports unlike these: other hospitals, years, specimens or languages. "
        "Gold labels are not exact either; look at errors of records that were coded before blaming either side.",
    }
    return figures.reading(meanings)


def _named(task: str, code: str) -> str:
    name = words.name_of(task, code)
    return f"{code} {name}" if name else code


def _code(task: str, code: str) -> str:
    return f'<span class="code">{shown(code)}</span> {shown(words.name_of(task, code))}'
