"""From one task's answers and its gold codes to metrics.

Arrays run over labelled records. A record that failed or was not applicable is not answered: it counts in `answered` and in the
shares of what was coded, and in nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.evaluation.calibration import lower_bound
from engine.evaluation.metrics import (
    ALL,
    Metric,
    Rounds,
    certainty_metrics,
    exact,
    exact_f1,
    metric_of,
    number_of,
    ratio_metrics,
)
from engine.evaluation.resample import Drawn, Totals, divide, ratio
from engine.records import AUTO, REVIEW

ERRORS = 20

_SHARES = {
    "answered": ("answered", "n"),
    "accuracy": ("right", "answered"),
    "accuracy_top": ("top", "answered"),
    "mean_prob": ("prob", "answered"),
    "auto_share": ("auto", "n"),
    "auto_accuracy": ("auto_right", "auto"),
    "review_accuracy": ("review_right", "review"),
    "sure_share": ("sure", "n"),
    "sure_accuracy": ("sure_right", "sure"),
}


@dataclass(frozen=True)
class Answers:
    """One task's answers for records with gold.

    `gold` and `code` hold codes, several joined by `;` for a `multi`-label task. `answered` tells where there is an answer;
    elsewhere `code` is "" and `prob`, the stated probability, NaN. `decision` is the record's, `own` the task's alone. `top`
    lists the codes named for each record. `group` is the unit that intervals draw, such as the patient.
    """

    task: str
    gold: NDArray
    code: NDArray
    answered: NDArray
    prob: NDArray
    decision: NDArray
    own: NDArray
    top: Sequence[Sequence[str]]
    group: NDArray
    multi: bool = False

    @property
    def right(self) -> NDArray:
        return self.answered & (self.code == self.gold)


def task_metrics(answers: Answers, slices: Mapping[str, NDArray], rounds: Rounds) -> list[Metric]:
    """Every metric of one task.

    Args:
        slices: name -> [n] values, "" for a record in no part; each value becomes the slice `name=value`.
    """
    parts = {ALL: np.ones(answers.gold.size, dtype=bool)}
    for name, values in slices.items():
        parts |= {f"{name}={value}": values == value for value in sorted(set(values)) if value}
    metrics = _shares(answers, parts, rounds)
    answered = answers.answered
    if answered.any():
        sure = (answers.prob[answered], answers.right[answered], answers.group[answered])
        metrics += _classes(answers, rounds) + certainty_metrics(answers.task, *sure, answered.size, rounds) + _errors(answers)
    return metrics


def _shares(answers: Answers, parts: Mapping[str, NDArray], rounds: Rounds) -> list[Metric]:
    answered, right = answers.answered, answers.right
    auto, review, sure = (answered & each for each in (answers.decision == AUTO, answers.decision == REVIEW, answers.own == AUTO))
    among = np.array([gold in top for gold, top in zip(answers.gold, answers.top, strict=True)])
    base = {
        "n": np.ones(answered.size),
        "answered": answered,
        "right": right,
        "top": answered & among,
        "prob": np.where(answered, answers.prob, 0.0),
        "auto": auto,
        "auto_right": auto & right,
        "review": review,
        "review_right": review & right,
        "sure": sure,
        "sure_right": sure & right,
    }
    figures = {name: pair for name, pair in _SHARES.items() if not (answers.multi and name == "accuracy_top")}
    columns = {name: ({key: values * mask for key, values in base.items()}, figures) for name, mask in parts.items()}
    metrics = ratio_metrics(answers.task, columns, answers.group, rounds)
    shares = {(m.metric, m.slice): m for m in metrics}
    for name, mask in parts.items():
        for word, kept in (("auto", auto), ("sure", sure)):
            share = shares[f"{word}_accuracy", name]
            bound = None if share.value is None else _bound(right[kept & mask], answers.group[kept & mask], rounds.level)
            metrics.append(Metric(answers.task, f"{word}_accuracy_bound", name, bound, None, None, share.n, share.params))
    return metrics


def _bound(right: NDArray, group: NDArray, level: float) -> float:
    """The lower bound of a share right, which holds by records and by groups: a group counts as right where all of it is."""
    wrong = number_of(group[~right])
    by_records = lower_bound(int(right.sum()), right.size, level)
    return min(by_records, lower_bound(number_of(group) - wrong, number_of(group), level))


def _classes(answers: Answers, rounds: Rounds) -> list[Metric]:
    """Precision, recall and F1 of each class, macro and micro F1, Matthews correlation; over answered records."""
    answered = answers.answered
    gold, called = ([set(codes.split(";")) - {""} for codes in each[answered]] for each in (answers.gold, answers.code))
    codes = sorted(set().union(*gold, *called))
    columns: dict[tuple[str, str], NDArray] = {}
    for code in codes:
        is_it, called_it = (np.array([code in each for each in sets]) for sets in (gold, called))
        columns |= {("support", code): is_it, ("called", code): called_it, ("hits", code): is_it & called_it}
        columns["either", code] = is_it | called_it
    total = {name: [(name, code) for code in codes] for name in ("support", "called", "hits")}

    def counts(drawn: Drawn) -> tuple[NDArray, NDArray, NDArray]:
        return drawn.many(total["support"]), drawn.many(total["called"]), drawn.many(total["hits"])

    def macro(drawn: Drawn, both: bool) -> NDArray:
        support, called, hits = counts(drawn)
        f1 = np.divide(2 * hits, support + called, out=np.zeros_like(hits, dtype=float), where=support + called > 0)
        there = (support + called if both else support) > 0
        return divide((f1 * there).sum(1), there.sum(1))

    def micro(drawn: Drawn) -> NDArray:
        support, called, hits = counts(drawn)
        return divide(2 * hits.sum(1), support.sum(1) + called.sum(1))

    def mcc(drawn: Drawn) -> NDArray:
        support, called, hits = (each.astype(float) for each in counts(drawn))
        n = support.sum(1)
        above = n * hits.sum(1) - (support * called).sum(1)
        below = np.sqrt((n**2 - (called**2).sum(1)) * (n**2 - (support**2).sum(1)))
        return divide(above, below)

    figures: dict[Any, Callable[[Drawn], NDArray]] = {
        ("macro_f1", None): lambda drawn: macro(drawn, both=False),
        ("macro_f1_both", None): lambda drawn: macro(drawn, both=True),
        ("micro_f1", None) if answers.multi else ("mcc", None): micro if answers.multi else mcc,
    }
    for code in codes:
        figures |= {
            ("precision", code): ratio(("hits", code), ("called", code)),
            ("recall", code): ratio(("hits", code), ("support", code)),
            ("f1", code): _f1(code),
        }
    totals = Totals(answers.group[answered], columns)
    metrics = []
    for (name, code), estimate in totals.estimates(figures, **vars(rounds)).items():
        if code is None:
            params = {"classes": sum(bool(columns[("support", c)].any()) for c in codes)} if name == "macro_f1" else {}
            metrics.append(metric_of(answers.task, name, ALL, estimate, int(answered.sum()), totals.groups, params))
            continue
        below = ({"precision": "called", "recall": "support", "f1": "either"}[name], code)
        n, groups = int(columns[below].sum()), totals.resting(below)
        estimate = (exact_f1 if name == "f1" else exact)(estimate, groups, rounds.level)
        metrics.append(metric_of(answers.task, name, f"{answers.task}={code}", estimate, n, groups))
    return metrics


def _f1(code: str) -> Callable[[Drawn], NDArray]:
    return lambda drawn: divide(2 * drawn[("hits", code)], drawn[("support", code)] + drawn[("called", code)])


def _errors(answers: Answers) -> list[Metric]:
    """The commonest pairs of right and given code."""
    rows = pl.DataFrame({"gold": answers.gold, "given": answers.code, "auto": answers.decision == AUTO, "right": answers.right})
    rows = rows.filter(answers.answered).with_columns(support=pl.len().over("gold"))
    pairs = rows.filter(~pl.col("right")).group_by("gold", "given", "support").agg(pl.len(), pl.col("auto").sum())
    ranked = pairs.sort("len", "gold", "given", descending=[True, False, False]).head(ERRORS)
    return [
        Metric(
            answers.task,
            "confusion",
            f"gold={row['gold']},given={row['given']}",
            float(row["len"]),
            None,
            None,
            row["support"],
            {name: row[name] for name in ("gold", "given", "auto")},
        )
        for row in ranked.iter_rows(named=True)
    ]
