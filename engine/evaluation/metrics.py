"""Rows of the `metrics` table, for figures of every kind.

A figure that would rest on fewer than `FEWEST` groups has no value; `params.too_few` gives their number instead. Counts have no
such limit. `docs/data-dictionary.md` explains each metric.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from engine.evaluation import classes
from engine.evaluation.resample import FEWEST, Drawn, Estimate, Ratio, Rest, Totals, divide, share_interval
from engine.records import AUTO, DECISIONS, METRICS, REVIEW

ALL = "all"
BINS = 15
TOO_FEW = "too_few"
CONFUSIONS = 20
TARGETS = (0.95, 0.97, 0.98, 0.99)
_LEFT_OUT = ("elsewhere", "unreadable", "unlabelled", "repeated", "conflicting", "other_text")
_COUNTS = ("rows", "used", "matched", "without_row", *_LEFT_OUT)


@dataclass(frozen=True)
class Metric:
    """One row of the table; the figure rests on `n` records, unless `params` says otherwise."""

    task: str | None
    metric: str
    slice: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def too_few(self) -> bool:
        """Whether there are records, but from too few groups for a figure."""
        return TOO_FEW in self.params


@dataclass(frozen=True)
class Rounds:
    """How intervals are drawn: number of resamples, two-sided level, seed."""

    rounds: int = 1000
    level: float = 0.95
    seed: int = 0


def to_table(metrics: Sequence[Metric], run_id: str, model_digest: str) -> pa.Table:
    """The metrics in the schema of `engine.records.METRICS`."""
    rows = [
        {
            "run_id": run_id,
            "model_digest": model_digest,
            **{name: getattr(metric, name) for name in ("task", "metric", "slice", "value", "n")},
            "ci_lo": metric.low,
            "ci_hi": metric.high,
            "params": json.dumps(metric.params, sort_keys=True, separators=(",", ":")),
        }
        for metric in metrics
    ]
    return pa.Table.from_pylist(rows, schema=METRICS)


def metric_of(
    task: str | None, name: str, part: str, estimate: Estimate, n: int, groups: int, params: Mapping[str, Any] | None = None
) -> Metric:
    """The row of a figure that rests on `n` records from `groups` groups."""
    if groups < FEWEST and estimate.value is not None:
        return Metric(task, name, part, None, n=n, params={TOO_FEW: groups} if groups else {})
    if estimate.low == estimate.high:
        # If all resamples are alike, they say nothing about other samples.
        estimate = Estimate(estimate.value)
    return Metric(task, name, part, estimate.value, estimate.low, estimate.high, n, params or {})


def exact(estimate: Estimate, groups: int, level: float, is_f1: bool = False) -> Estimate:
    """The estimate of a share. Where every row or none is a hit, all resamples are alike, so it gets the exact interval instead,
    with the groups as independent units.

    An F1 is 2J / (1 + J), J being the share of hits among everything that is the class or was called so.
    """
    if estimate.value not in (0.0, 1.0):
        return estimate
    ends = share_interval(int(estimate.value) * groups, groups, level)
    return Estimate(estimate.value, *(2 * end / (1 + end) if is_f1 else end for end in ends))


def ratio_metrics(
    task: str | None, totals: Totals, figures: Mapping[tuple[str, str], tuple[Ratio, Sequence[Any]]], rounds: Rounds
) -> list[Metric]:
    """Rows by name and slice: each a ratio over some parts of the totals."""
    estimates = totals.estimates({key: ratio.over(parts) for key, (ratio, parts) in figures.items()}, **vars(rounds))
    return [
        share_metric(task, *key, estimate, figures[key][0].rest(totals, figures[key][1]), rounds.level)
        for key, estimate in estimates.items()
    ]


def share_metric(task: str | None, name: str, part: str, estimate: Estimate, rest: Rest, level: float) -> Metric:
    """The row of a share of hits or an F1, with the exact interval where no resample differs."""
    if name != "mean_prob":  # A mean of probabilities is no share of hits.
        estimate = exact(estimate, rest.groups, level, name.endswith("f1"))
    return metric_of(task, name, part, estimate, rest.n, rest.groups)


def record_metrics(
    decision: NDArray, group: NDArray, right: Mapping[str, NDArray], complete: NDArray, rounds: Rounds
) -> list[Metric]:
    """Metrics of whole records: the share of each decision and, where there are several tasks, of records right in all of them.

    Args:
        right: task -> [n]. complete: [n], records with gold for every task.
    """
    columns: dict[str, NDArray] = {"n": np.ones(decision.size), **{word: decision == word for word in DECISIONS}}
    figures = {f"{word}_share": Ratio(word, ("n",)) for word in DECISIONS}
    if len(right) > 1:
        auto, answered = complete & (decision == AUTO), complete & np.isin(decision, (AUTO, REVIEW))
        all_right = np.logical_and.reduce(list(right.values()))
        columns |= {"coded": auto, "answered": answered, "right": all_right & answered, "coded_right": all_right & auto}
        figures |= {"all_right": Ratio("right", ("answered",)), "auto_all_right": Ratio("coded_right", ("coded",))}
    totals = Totals.by_part(group, pl.DataFrame({"unit": group.astype(str), "part": [ALL] * len(group), **columns}))
    return ratio_metrics(None, totals, {(name, ALL): (figure, (ALL,)) for name, figure in figures.items()}, rounds)


def count_metrics(counts: Mapping[str, int]) -> list[Metric]:
    """What became of the gold: its number of `rows`, and the other counts among these."""
    return [Metric(None, f"gold_{name}", ALL, float(counts[name]), n=counts["rows"]) for name in _COUNTS if name in counts]


def mean_metrics(task: str, values: Mapping[str, NDArray], group: NDArray, rounds: Rounds) -> list[Metric]:
    """The mean of each measure over the rows that have it (not NaN); a measure that no row has is left out."""
    rows = [
        pl.DataFrame({"unit": group.astype(str), "part": [name] * len(group), "sum": column}).filter(~pl.col("sum").is_nan())
        for name, column in values.items()
    ]
    rows = pl.concat(rows).with_columns(n=1) if rows else pl.DataFrame()
    if not len(rows):
        return []
    totals, mean = Totals.by_part(group, rows), Ratio("sum", ("n",))
    names = rows["part"].unique(maintain_order=True)
    estimates = totals.estimates({name: mean.over((name,)) for name in names}, **vars(rounds))
    return [
        metric_of(task, name, ALL, estimate, *vars(mean.rest(totals, (name,))).values()) for name, estimate in estimates.items()
    ]


def confusion_metrics(task: str, pairs: pl.DataFrame) -> list[Metric]:
    """The most frequent confusions: `gold`, `given`, `len` (how often), `support` (how many are `gold`), and further columns."""
    ranked = pairs.sort("len", "gold", "given", descending=[True, False, False]).head(CONFUSIONS)
    metrics = []
    for row in ranked.iter_rows(named=True):
        count, support, part = row.pop("len"), row.pop("support"), f"gold={row['gold']},given={row['given']}"
        metrics.append(Metric(task, "confusion", part, float(count), n=support, params=row))
    return metrics


def certainty_metrics(task: str, prob: NDArray, right: NDArray, group: NDArray, total: int, rounds: Rounds) -> list[Metric]:
    """Whether stated probabilities are calibrated, and what a threshold on them would keep.

    Args:
        prob, right, group: [n], of what is answered. total: the number of records, those without an answer included.
    """
    n, (_, group) = prob.size, np.unique(group, return_inverse=True)
    groups = number_of(group)
    rising = np.argsort(prob, kind="stable")
    bins = np.array_split(rising, max(1, min(BINS, groups // FEWEST)))
    at, parts = np.empty(n, int), range(len(bins))
    for number, rows in enumerate(bins):
        at[rows] = number
    columns = {"prob": prob, "right": right, "n": np.ones(n), "apart": (prob - right) ** 2}
    totals = Totals.by_part(group, pl.DataFrame({"unit": group.astype(str), "part": at, **columns}))
    by_bin = {name: [(name, number) for number in parts] for name in columns}

    def ece(drawn: Drawn) -> NDArray:
        gap = np.abs(drawn.many(by_bin["prob"]) - drawn.many(by_bin["right"]))
        return divide(gap.sum(1), drawn.many(by_bin["n"]).sum(1))

    figures = {"ece": ece, "brier_top": Ratio("apart", ("n",)).over(parts)}
    accuracies = {number: Ratio("right", ("n",)).over([number]) for number in parts}
    estimates = totals.estimates({**figures, **accuracies}, **vars(rounds))
    metrics = [
        metric_of(task, name, ALL, estimates[name], n, groups, {"bins": len(bins)} if name == "ece" else {}) for name in figures
    ]
    metrics.append(ranking_metric(task, "auroc_right", prob, right, group))
    for number, rows in enumerate(bins):
        in_bin = number_of(group[rows])
        estimate = exact(estimates[number], in_bin, rounds.level)
        params = {"mean_prob": float(prob[rows].mean()), "from": float(prob[rows].min()), "to": float(prob[rows].max())}
        metrics.append(metric_of(task, "reliability", f"bin={number + 1:02d}", estimate, rows.size, in_bin, params))
    for target in TARGETS:
        share = classes.keepable_share(prob, right, target)
        kept = rising[n - round(share * n) :]
        # A share that is kept rests on its own records; that nothing can be kept rests on all.
        in_kept = number_of(group[kept]) if kept.size else groups
        metrics.append(metric_of(task, "keepable_share", f"target={target:g}", Estimate(share * n / total), total, in_kept))
    cuts, coverage, risk = classes.risk_coverage(prob, right)
    coverage = coverage * n / total
    for wanted in np.arange(1, 21) / 20:
        at = int(np.searchsorted(coverage, wanted - 1e-9))
        if at < cuts.size:
            params = {"threshold": float(cuts[at]), "coverage": float(coverage[at])}
            kept = prob >= cuts[at]
            in_kept, part = number_of(group[kept]), f"coverage={wanted:.2f}"
            metrics.append(metric_of(task, "risk", part, Estimate(float(risk[at])), int(kept.sum()), in_kept, params))
    return metrics


def ranking_metric(task: str, name: str, value: NDArray, right: NDArray, group: NDArray) -> Metric:
    """How well a value ranks right above wrong, as the area under the ROC curve; it rests on the smaller of the two sides."""
    auroc = float(roc_auc_score(right, value)) if 0 < right.sum() < right.size else None
    sides = min(number_of(group[right]), number_of(group[~right]))
    return metric_of(task, name, ALL, Estimate(auroc), right.size, sides)


def number_of(group: NDArray) -> int:
    """The number of different groups."""
    return int(np.unique(group).size)
