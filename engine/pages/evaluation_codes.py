"""The codes part of an evaluation page: how many need no person, how often they are right, and what goes wrong."""

from collections.abc import Collection, Mapping, Sequence

import pyarrow.compute as pc

from engine.evaluation.evaluation import Evaluation
from engine.evaluation.metrics import Metric
from engine.pages import figures, words
from engine.pages.charts import Point
from engine.pages.highlight import shown
from engine.pages.tables import Column, table
from engine.records import AUTO

_FEW = 100
_DECISIONS = {"auto": "coded", "review": "to review", "not_applicable": "not applicable", "failed": "failed: not answered"}
_EVIDENCE = {
    "comprehensiveness": "fall of the probability without the evidence words (high is good)",
    "sufficiency": "fall with the evidence words alone (low is good)",
    "cov_topk": "marked words among the strongest words",
    "cov_mass": "weight on marked words",
    "cov_lift": "that weight against chance (1 is chance)",
    "auprc": "how well weights rank marked words (AUPRC)",
}


def lead(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    """The top of the page: the sentence that a decision needs, and the counts."""
    tiles = [("records compared", f"{evaluation.counts.get('matched', 0):,}"), *figures.decision_tiles(evaluation, _DECISIONS)]
    headlines = [_headline(evaluation, task, level) for task in evaluation.tasks if task in deciding]
    top = "".join(f'<p class="headline">{line}</p>' for line in headlines if line)
    all_right, auto = evaluation.get(None, "all_right"), evaluation.get(None, "auto_all_right")
    if all_right is None:
        return [top, figures.tiles(tiles)]
    shares = f"of answered records: {figures.value(all_right)}, of those coded without a person: {figures.value(auto)}"
    return [top, figures.tiles(tiles), f"<p>All tasks right at once, {shares}.</p>"]


def body(evaluation: Evaluation, deciding: Sequence[str], level: float, auto: Mapping[str, Collection[str]] | None) -> list[str]:
    """A section for each task, and how to read them."""
    tasks = [_task(evaluation, task, task in deciding, level, auto[task] if auto else None) for task in evaluation.tasks]
    return [*tasks, _reading(level)]


def _headline(evaluation: Evaluation, task: str, level: float) -> str:
    share, right, bound, review = (
        evaluation.get(task, name) for name in ("auto_share", "auto_accuracy", "auto_accuracy_bound", "review_accuracy")
    )
    if share is None or right is None or bound is None or not share.n:
        return ""
    if share.value is None:
        return f"{figures.counted(share.n)} with a known {shown(task)}: too few for a figure."
    if not right.n:
        return f"Of {share.n:,} records with a known {shown(task)}, none was coded without a person."
    line = f"Of {share.n:,} records with a known {shown(task)}, <strong>{share.value:.1%}</strong> were coded without a person"
    if right.value is None:
        line += f": {figures.counted(right.n)}, too few to say how often the {shown(task)} is right."
    else:
        line += (
            f". <strong>{right.value:.1%}</strong> of these have the right {shown(task)}; with {level:.0%} confidence it is at "
            f"least {bound.value:.1%}."
        )
    if review is not None and review.value is not None:
        line += f" Where a person must look, the suggestion is right in {review.value:.1%}."
    return line


def _task(evaluation: Evaluation, task: str, deciding: bool, level: float, auto: Collection[str] | None) -> str:
    word = "auto" if deciding else "sure"
    note = "" if deciding else '<span class="soft">this task has no part in the decision to code without a person</span>'
    parts = [
        f"<article><header><h2>{shown(task.replace('_', ' ').capitalize())}</h2>{note}</header>",
        _summary(evaluation, task, deciding, level),
        "" if auto is None else _possible(evaluation, task, deciding, auto),
        figures.pair(
            _risk(evaluation, task, word),
            figures.reliability(evaluation, task, f"{task}: share right against stated probability"),
        ),
        _slices(evaluation, task, word),
        _errors(evaluation, task),
        _wrong(evaluation, task),
        _evidence(evaluation, task),
        _codes(evaluation, task),
    ]
    return "".join([*parts, "</article>"])


def _summary(evaluation: Evaluation, task: str, deciding: bool, level: float) -> str:
    names = {
        "answered": "got an answer",
        "accuracy": "right code, of all answered",
        "accuracy_top": "right code among those suggested",
        "macro_f1": "F1, every code with equal weight, rare ones too",
        "micro_f1": "F1 over all codes",
        "ece": "mean gap between stated and true certainty",
    }
    if deciding:
        names |= {
            "auto_share": "coded without a person",
            "auto_accuracy": "right among those",
            "review_accuracy": "right suggestion, of those to review",
        }
    else:
        names |= {"sure_share": "sure enough by this task's own threshold", "sure_accuracy": "right among those"}
    return figures.summary(evaluation, task, names, figures.heads(level))


def _possible(evaluation: Evaluation, task: str, deciding: bool, auto: Collection[str]) -> str:
    """Which of the right codes can be coded without a person at all, and which cannot, with their numbers."""
    can = "can be coded without a person" if deciding else "can be sure by this task's own threshold"
    if not auto:
        return f"<p>{shown(f'No code {can}.')}</p>"
    counts = {m.slice.partition("=")[2]: m.n for m in evaluation.rows(task, "recall") if m.n}
    possible, others = ({c: n for c, n in counts.items() if (c in auto) is within} for within in (True, False))
    text = (
        f"{len(auto):,} code{'s' if len(auto) > 1 else ''} {can}. Of {sum(counts.values()):,} right codes of answered records, "
    )
    text += f"{sum(possible.values()):,} are among them{_code_counts(task, possible)}."
    if others:
        otherwise = "go to a person or are coded wrongly" if deciding else "are not sure, or answered wrongly"
        text += f" The other {sum(others.values()):,} {otherwise}{_code_counts(task, others)}."
    return f"<p>{shown(text)}</p>"


def _code_counts(task: str, counts: Mapping[str, int]) -> str:
    """The codes with names and numbers, most frequent first, after a colon."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ": " * bool(ranked) + ", ".join(f"{_named(task, code)} {n:,}" for code, n in ranked)


def _risk(evaluation: Evaluation, task: str, word: str) -> str:
    share, right = evaluation.get(task, f"{word}_share"), evaluation.get(task, f"{word}_accuracy")
    here = None
    if share is not None and right is not None and share.value and right.value is not None:
        here = Point(share.value, 1 - right.value, label="this run", note=f"{share.value:.0%} kept, {1 - right.value:.1%} wrong")
    alt = f"{task}: errors among kept records against the share kept"
    return figures.risk(evaluation, task, here, alt, "How much could be kept, at what risk", "Most certain records first.")


def _slices(evaluation: Evaluation, task: str, word: str) -> str:
    def note(m: Metric) -> str:
        share = evaluation.get(task, f"{word}_share", m.slice)
        kept = "" if share is None or share.value is None else f", {share.value:.0%} {'coded' if word == 'auto' else 'sure'}"
        return f"{m.value:.1%} of {m.n:,}{kept}"

    accuracy, caption = evaluation.rows(task, "accuracy"), "Share right of answered records, with intervals."
    return figures.by_slice(accuracy, "Right code by", caption, _named, note, f"{task}: share right by")


def _errors(evaluation: Evaluation, task: str) -> str:
    rows = evaluation.rows(task, "confusion")
    if not rows:
        return "<h3>Errors</h3><p>None.</p>"
    lines = []
    for m in rows:
        unseen = f'<strong class="bad">{int(m.params["auto"])}</strong>' if m.params["auto"] else "0"
        gold, given = (_code(task, str(m.params[side])) for side in ("gold", "given"))
        lines.append([f'{gold} <span class="soft">taken for</span> {given}', f"{int(m.value or 0):,}", f"{m.n:,}", unseen])
    heads = [Column("right code, and the code given"), Column("times", True), Column("records with the right code", True)]
    title = f"The {len(rows)} most frequent errors" if len(rows) > 1 else "The one kind of error"
    return f"<h3>{title}</h3>{table([*heads, Column('coded without a person', True)], lines)}"


def _wrong(evaluation: Evaluation, task: str) -> str:
    """The wrong answers one by one, by the ids of their records."""
    wrong = evaluation.wrong.filter(pc.equal(evaluation.wrong["task"], task))
    if not len(wrong):
        return ""
    lines = []
    for row in wrong.slice(0, figures.WRONG).to_pylist():
        reasons = dict.fromkeys([*(row["task_reasons"] or ()), *(row["reasons"] or ())])
        badge = f'<span class="badge {row["decision"]}">{words.DECISIONS[row["decision"]]}</span>'
        why = "<br>".join(shown(words.REASONS.get(reason, reason)) for reason in reasons)
        codes = [_code(task, row[name]) for name in ("gold", "code")]
        lines.append([shown(row["record_id"]), badge, *codes, "" if row["prob"] is None else f"{row['prob']:.1%}", why])
    names = ("record", "decision", "right code", "given code")
    heads = [*map(Column, names), Column("probability", True), Column("what made the model unsure", wide=True)]
    unseen = pc.sum(pc.equal(wrong["decision"], AUTO)).as_py()
    remark = f"{f'{unseen:,}' if unseen else 'none'} coded without a person"
    return figures.wrong_list(len(wrong), "wrong answer", remark, heads, lines)


def _evidence(evaluation: Evaluation, task: str) -> str:
    lines, counts = [], []
    for name, meaning in _EVIDENCE.items():
        measured, control = evaluation.get(task, name), evaluation.get(task, f"random_{name}")
        if measured is not None and measured.n:
            share = name != "cov_lift"
            counts.append(measured.n)
            cells = (figures.figure(measured, share), figures.interval(measured, share), figures.figure(control, share))
            lines.append([meaning, *cells, f"{measured.n:,}"])
    if not lines:
        return ""
    heads = [Column(""), Column("evidence", True), Column("interval"), Column("random words", True), Column("records", True)]
    few = (
        f'<p class="soft">Only {min(counts):,} records were checked, so the intervals are wide; code the records again with a '
        "larger explain.checks_fraction to narrow them.</p>"
    )
    return f"<h3>Is the evidence the reason?</h3>{table(heads, lines)}{few if min(counts) < _FEW else ''}"


def _codes(evaluation: Evaluation, task: str) -> str:
    lines, few = [], []
    recall, precision = ({m.slice: m for m in evaluation.rows(task, name)} for name in ("recall", "precision"))
    rows = sorted(evaluation.rows(task, "f1"), key=lambda m: (-recall[m.slice].n, m.slice))
    for f1 in rows:
        three = (recall[f1.slice], precision[f1.slice], f1)
        if all(metric.value is None for metric in three):
            few.append(recall[f1.slice])
            continue
        code = _code(task, f1.slice.partition("=")[2])
        lines.append([code, f"{recall[f1.slice].n:,}", *map(figures.figure, three), figures.interval(f1)])
    numbers = ("records", "found (recall)", "right when given (precision)", "F1")
    heads = [Column("code"), *(Column(name, True) for name in numbers), Column("interval of F1")]
    sentences = figures.few(few, lambda code: _named(task, code), len(few))
    rest = "".join(f'<p class="soft">{shown(sentence)}</p>' for sentence in sentences)
    return f"<details><summary>Every code ({len(rows)})</summary>{table(heads, lines) if lines else ''}{rest}</details>"


def _reading(level: float) -> str:
    meanings = {
        "Coded, to review": "Coded records were sure enough to be kept without a person; the rest need one. A failed record has "
        "no answer: it counts among all records, and in no figure of right and wrong.",
        **figures.common_terms(level),
        "At least": f"With {level:.0%} confidence the share right is not below this (Clopper and Pearson, one-sided; the smaller "
        "of the bound over records and the bound over patients, who count as right if all their records are).",
        "F1, every code with equal weight": "A code with three records counts as much as one with three hundred. Accuracy alone "
        "hides how well rare codes are recognised; this figure does not.",
        "Stated and true certainty": "Of records for which the model states 90 %, nine in ten should be right.",
        "What this does not say": "How the model does on reports unlike these: other hospitals, years, specimens or languages. "
        "Gold labels are not perfect either: before you blame either side, look at the errors in records coded without a person.",
    }
    return figures.reading(meanings)


def _named(task: str, code: str) -> str:
    name = words.name_of(task, code)
    return f"{code} {name}" if name else code


def _code(task: str, code: str) -> str:
    return f'<span class="code">{shown(code)}</span> {shown(words.name_of(task, code))}'
