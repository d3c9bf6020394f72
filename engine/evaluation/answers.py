"""Metrics of one task from its answers and gold codes.

Arrays have one entry per labelled record. A record that failed or was not applicable has no answer: it counts in `answered` and
in the shares of coded records, and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.evaluation.calibration import lower_bound
from engine.evaluation.metrics import ALL, Metric, Rounds, certainty_metrics, confusion_metrics, metric_of, ratio_metrics
from engine.evaluation.resample import Drawn, Ratio, Totals, divide, mean_known, precision_recall_f1
from engine.records import AUTO, REVIEW

_SHARES = {
    "answered": Ratio("answered", ("n",)),
    "accuracy": Ratio("right", ("answered",)),
    "accuracy_top": Ratio("top", ("answered",)),
    "mean_prob": Ratio("prob", ("answered",)),
    "auto_share": Ratio("auto", ("n",)),
    "auto_accuracy": Ratio("auto_right", ("auto",)),
    "review_accuracy": Ratio("review_right", ("review",)),
    "sure_share": Ratio("sure", ("n",)),
    "sure_accuracy": Ratio("sure_right", ("sure",)),
}
_COUNTS = ("support", "called", "hits")
_PRF = precision_recall_f1(*_COUNTS)


@dataclass(frozen=True)
class Answers:
    """One task's answers for records with gold.

    `gold` and `code` hold codes, several joined by `;` for a `multi`-label task. `answered` flags records with an answer;
    elsewhere `code` is "" and `prob`, the stated probability, NaN. `decision` is the record's, `task_decision` this task's alone.
    `top` lists the codes suggested for each record. `group` is the unit that resamples draw whole, such as the patient.
    """

    task: str
    gold: NDArray
    code: NDArray
    answered: NDArray
    prob: NDArray
    decision: NDArray
    task_decision: NDArray
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
    metrics = _shares(answers, slices, rounds)
    answered = answers.answered
    if answered.any():
        arrays = (answers.prob[answered], answers.right[answered], answers.group[answered])
        metrics += _classes(answers, rounds) + certainty_metrics(answers.task, *arrays, answered.size, rounds) + _errors(answers)
    return metrics


def _shares(answers: Answers, slices: Mapping[str, NDArray], rounds: Rounds) -> list[Metric]:
    right = pl.col("right")
    records = pl.DataFrame(
        {
            "unit": answers.group,
            "n": np.ones(answers.gold.size, bool),
            "answered": answers.answered,
            "right": answers.right,
            "top": [gold in top for gold, top in zip(answers.gold, answers.top, strict=True)],
            "prob": np.where(answers.answered, answers.prob, 0.0),
            "auto": answers.answered & (answers.decision == AUTO),
            "review": answers.answered & (answers.decision == REVIEW),
            "sure": answers.answered & (answers.task_decision == AUTO),
        }
    ).with_columns(
        pl.col("top") & pl.col("answered"),
        **{f"{word}_right": pl.col(word) & right for word in ("auto", "review", "sure")},
        **{f"{word}_wrong": pl.col(word) & ~right for word in ("auto", "sure")},
    )
    rows, parts = [records.with_columns(part=pl.lit(ALL))], [ALL]
    for name, values in slices.items():
        column = pl.Series("part", values, pl.String)
        rows.append(records.with_columns(part=f"{name}=" + column).filter(column != ""))
        parts += [f"{name}={value}" for value in column.unique().sort() if value]
    totals = Totals.by_part(answers.group, pl.concat(rows))
    names = [name for name in _SHARES if not (answers.multi and name == "accuracy_top")]
    figures = {(name, part): (_SHARES[name], (part,)) for part in parts for name in names}
    metrics = ratio_metrics(answers.task, totals, figures, rounds)
    shares = {(metric.metric, metric.slice): metric for metric in metrics}
    for part in parts:
        for word in ("auto", "sure"):
            share, bound = shares[f"{word}_accuracy", part], None
            if share.value is not None:
                # The bound holds by records and by groups: a group counts as right if all its records are.
                kept, wrong = totals.rest((word, part)), totals.rest((f"{word}_wrong", part))
                bound = min(
                    lower_bound(kept.groups - wrong.groups, kept.groups, rounds.level),
                    lower_bound(kept.n - wrong.n, kept.n, rounds.level),
                )
            metrics.append(Metric(answers.task, f"{word}_accuracy_bound", part, bound, n=share.n, params=share.params))
    return metrics


def _classes(answers: Answers, rounds: Rounds) -> list[Metric]:
    """Precision, recall and F1 of each class, macro and micro F1, Matthews correlation; over answered records."""
    records = pl.DataFrame({"unit": answers.group, "support": answers.gold, "called": answers.code}).with_row_index("row")
    records = records.filter(answers.answered)
    sides = [
        records.select("row", "unit", pl.lit(name).alias("is"), part=pl.col(name).str.split(";"))
        .explode("part")
        .filter(pl.col("part") != "")
        .unique()
        for name in ("support", "called")
    ]
    flags = ((pl.col("is") == name).any().alias(name) for name in ("support", "called"))
    rows = pl.concat(sides).group_by("row", "unit", "part").agg(*flags)
    rows = rows.with_columns(hits=pl.col("support") & pl.col("called")).drop("row")
    codes = rows["part"].unique().sort().to_list()
    if not codes:
        return []
    totals = Totals.by_part(records["unit"], rows)

    def counts(drawn: Drawn) -> list[NDArray]:
        return [drawn.many([(name, code) for code in codes]) for name in _COUNTS]

    def macro(drawn: Drawn, both: bool) -> NDArray:
        support, called, hits = counts(drawn)
        return mean_known(np.where(both | (support > 0), divide(2 * hits, support + called), np.nan))

    def mcc(drawn: Drawn) -> NDArray:
        support, called, hits = counts(drawn)
        n = support.sum(1)
        covariance = n * hits.sum(1) - (support * called).sum(1)
        return divide(covariance, np.sqrt((n**2 - (called**2).sum(1)) * (n**2 - (support**2).sum(1))))

    overall: dict[str, Callable[[Drawn], NDArray]] = {
        "macro_f1": lambda drawn: macro(drawn, both=False),
        "macro_f1_both": lambda drawn: macro(drawn, both=True),
        "micro_f1" if answers.multi else "mcc": _PRF["f1"].over(codes) if answers.multi else mcc,
    }
    params = {"macro_f1": {"classes": rows.filter("support")["part"].n_unique()}}
    metrics = [
        metric_of(answers.task, name, ALL, estimate, len(records), totals.groups, params.get(name))
        for name, estimate in totals.estimates(overall, **vars(rounds)).items()
    ]
    by_code = {(name, f"{answers.task}={code}"): (figure, (code,)) for code in codes for name, figure in _PRF.items()}
    return metrics + ratio_metrics(answers.task, totals, by_code, rounds)


def _errors(answers: Answers) -> list[Metric]:
    """The most frequent pairs of right and given code."""
    rows = pl.DataFrame({"gold": answers.gold, "given": answers.code, "auto": answers.decision == AUTO, "right": answers.right})
    rows = rows.filter(answers.answered).with_columns(support=pl.len().over("gold")).filter(~pl.col("right"))
    return confusion_metrics(answers.task, rows.group_by("gold", "given", "support").agg(pl.len(), pl.col("auto").sum()))
