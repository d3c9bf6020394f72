"""From answers and gold to the rows of the `metrics` table.

Arrays run over labelled records. A record that failed or was not applicable is not answered: it counts in `answered` and in the
shares of what was coded, and in nothing else. What would rest on fewer than `FEWEST` groups has no value, but their number in
`params.too_few`; counts have no such floor. `docs/data-dictionary.md` says what each metric is.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from engine.evaluation import calibration, classes
from engine.evaluation.resample import FEWEST, Drawn, Estimate, Totals, divide, ratio, share_interval
from engine.records import AUTO, DECISIONS, METRICS, REVIEW

ALL = "all"
BINS = 15
ERRORS = 20
TOO_FEW = "too_few"
TARGETS = (0.95, 0.97, 0.98, 0.99)

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
class Metric:
    """One row of the table; `n` is what the figure rests on, records unless `params` says otherwise."""

    task: str | None
    metric: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def too_few(self) -> bool:
        """Whether there are records, and too few groups of them for a figure."""
        return TOO_FEW in self.params


@dataclass(frozen=True)
class Rounds:
    """How intervals are drawn: resamples, two-sided level, seed."""

    rounds: int = 1000
    level: float = 0.95
    seed: int = 0


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
    found = _shares(answers, parts, rounds)
    if answers.answered.any():
        found += _classes(answers, rounds) + _certainty(answers, rounds) + _errors(answers)
    return found


def record_metrics(
    decision: NDArray, group: NDArray, right: Mapping[str, NDArray], complete: NDArray, rounds: Rounds
) -> list[Metric]:
    """Metrics of whole records: shares of decisions, and all tasks right at once where there are several.

    Args:
        right: task -> [n]. complete: [n], records with gold for every task.
    """
    columns: dict[str, NDArray] = {"n": np.ones(decision.size), **{word: decision == word for word in DECISIONS}}
    figures = {f"{word}_share": (word, "n") for word in DECISIONS}
    if len(right) > 1:
        auto, answered = complete & (decision == AUTO), complete & np.isin(decision, (AUTO, REVIEW))
        every = np.logical_and.reduce(list(right.values()))
        columns |= {"coded": auto, "answered": answered, "right": every & answered, "coded_right": every & auto}
        figures |= {"all_right": ("right", "answered"), "auto_all_right": ("coded_right", "coded")}
    return _ratios(None, {ALL: (columns, figures)}, group, rounds)


def mean_metrics(task: str, values: Mapping[str, NDArray], group: NDArray, rounds: Rounds) -> list[Metric]:
    """The mean of each measure over the records that have it (not NaN); measures nobody has are left out."""
    columns, figures = {}, {}
    for name, each in values.items():
        there = ~np.isnan(each)
        if there.any():
            columns |= {f"{name}.sum": np.where(there, each, 0.0), f"{name}.n": there}
            figures[name] = (f"{name}.sum", f"{name}.n")
    if not figures:
        return []
    totals = Totals(group, columns)
    estimates = totals.estimates({name: ratio(*pair) for name, pair in figures.items()}, **vars(rounds))
    return [
        _metric(task, name, ALL, e, int(columns[f"{name}.n"].sum()), totals.resting(f"{name}.n")) for name, e in estimates.items()
    ]


def to_table(metrics: Sequence[Metric], run_id: str, model_digest: str) -> pa.Table:
    """The metrics in the schema of `engine.records.METRICS`."""
    rows = [
        {
            "run_id": run_id,
            "model_digest": model_digest,
            "task": m.task,
            "metric": m.metric,
            "slice": m.slice,
            "value": m.value,
            "ci_lo": m.low,
            "ci_hi": m.high,
            "n": m.n,
            "params": json.dumps(m.params, sort_keys=True, separators=(",", ":")),
        }
        for m in metrics
    ]
    return pa.Table.from_pylist(rows, schema=METRICS)


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
    found = _ratios(answers.task, columns, answers.group, rounds)
    shares = {(m.metric, m.slice): m for m in found}
    for name, mask in parts.items():
        for word, kept in (("auto", auto), ("sure", sure)):
            share = shares[f"{word}_accuracy", name]
            bound = None if share.value is None else _bound(right[kept & mask], answers.group[kept & mask], rounds.level)
            found.append(Metric(answers.task, f"{word}_accuracy_bound", name, bound, None, None, share.n, share.params))
    return found


def _ratios(
    task: str | None,
    parts: Mapping[str, tuple[Mapping[str, NDArray], Mapping[str, tuple[str, str]]]],
    group: NDArray,
    rounds: Rounds,
) -> list[Metric]:
    columns = {(part, name): values for part, (named, _) in parts.items() for name, values in named.items()}
    wanted = {(part, name): pair for part, (_, figures) in parts.items() for name, pair in figures.items()}
    totals = Totals(group, columns)
    estimates = totals.estimates(
        {key: ratio((key[0], above), (key[0], below)) for key, (above, below) in wanted.items()}, **vars(rounds)
    )
    found = []
    for (part, name), estimate in estimates.items():
        below = (part, wanted[(part, name)][1])
        n, groups = int(np.sum(columns[below])), totals.resting(below)
        # A mean of probabilities is no share of hits.
        estimate = estimate if name == "mean_prob" else _exact(estimate, groups, rounds.level)
        found.append(_metric(task, name, part, estimate, n, groups))
    return found


def _exact(estimate: Estimate, groups: int, level: float) -> Estimate:
    """A share; where every row or none is a hit, all resamples are alike, and it gets the exact interval, over the groups as the
    independent ones."""
    if estimate.value not in (0.0, 1.0):
        return estimate
    return Estimate(estimate.value, *share_interval(int(estimate.value) * groups, groups, level))


def _bound(right: NDArray, group: NDArray, level: float) -> float:
    """The lower bound of a share right, which holds by records and by groups: a group counts as right where all of it is."""
    wrong = _groups(group[~right])
    by_records = calibration.lower_bound(int(right.sum()), right.size, level)
    return min(by_records, calibration.lower_bound(_groups(group) - wrong, _groups(group), level))


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
    found = []
    for (name, code), estimate in totals.estimates(figures, **vars(rounds)).items():
        if code is None:
            params = {"classes": sum(bool(columns[("support", c)].any()) for c in codes)} if name == "macro_f1" else {}
            found.append(_metric(answers.task, name, ALL, estimate, int(answered.sum()), totals.groups, params))
            continue
        below = ({"precision": "called", "recall": "support", "f1": "either"}[name], code)
        n, groups = int(columns[below].sum()), totals.resting(below)
        exact = _exact(estimate, groups, rounds.level)
        if exact is not estimate and name == "f1":
            # F1 = 2J / (1 + J), J being the share of hits among the records that are it or were called it.
            exact = Estimate(exact.value, *(2 * end / (1 + end) for end in (exact.low, exact.high)))
        estimate = exact
        found.append(_metric(answers.task, name, f"{answers.task}={code}", estimate, n, groups))
    return found


def _f1(code: str) -> Callable[[Drawn], NDArray]:
    return lambda drawn: divide(2 * drawn[("hits", code)], drawn[("support", code)] + drawn[("called", code)])


def _certainty(answers: Answers, rounds: Rounds) -> list[Metric]:
    """Whether stated probabilities mean what they say, and what a threshold on them would keep."""
    task, mask = answers.task, answers.answered
    prob, right, n = answers.prob[mask], answers.right[mask], int(mask.sum())
    _, group = np.unique(answers.group[mask], return_inverse=True)
    groups = _groups(group)
    rising = np.argsort(prob, kind="stable")
    bins = np.array_split(rising, max(1, min(BINS, groups // FEWEST)))
    columns: dict[Any, NDArray] = {"n": np.ones(n), "brier": (prob - right) ** 2}
    for number, rows in enumerate(bins):
        inside = np.isin(np.arange(n), rows)
        columns |= {("prob", number): inside * prob, ("right", number): inside & right, ("n", number): inside}
    names = [[(word, i) for i in range(len(bins))] for word in ("prob", "right")]
    figures = {
        "ece": lambda drawn: divide(np.abs(drawn.many(names[0]) - drawn.many(names[1])).sum(1), drawn["n"]),
        "brier_top": ratio("brier", "n"),
    }
    in_bins = {number: ratio(("right", number), ("n", number)) for number in range(len(bins))}
    estimates = Totals(group, columns).estimates({**figures, **in_bins}, **vars(rounds))
    found = [
        _metric(task, name, ALL, estimates[name], n, groups, {"bins": len(bins)} if name == "ece" else {}) for name in figures
    ]
    auroc = float(roc_auc_score(right, prob)) if 0 < right.sum() < n else None
    sides = min(_groups(group[right]), _groups(group[~right]))
    found.append(_metric(task, "auroc_right", ALL, Estimate(auroc), n, sides))
    for number, rows in enumerate(bins):
        resting = _groups(group[rows])
        estimate = _exact(estimates[number], resting, rounds.level)
        params = {"mean_prob": float(prob[rows].mean()), "from": float(prob[rows].min()), "to": float(prob[rows].max())}
        found.append(_metric(task, "reliability", f"bin={number + 1:02d}", estimate, rows.size, resting, params))
    every = answers.gold.size
    for target in TARGETS:
        share = classes.keepable_share(prob, right, target)
        kept = rising[n - round(share * n) :]
        # That nothing can be kept rests on all records; a share that is kept, on those alone.
        resting = _groups(group[kept]) if kept.size else groups
        found.append(_metric(task, "keepable_share", f"target={target:g}", Estimate(share * n / every), every, resting))
    cuts, coverage, risk = classes.risk_coverage(prob, right)
    coverage = coverage * n / every
    for wanted in np.arange(1, 21) / 20:
        at = int(np.searchsorted(coverage, wanted - 1e-9))
        if at < cuts.size:
            params = {"threshold": float(cuts[at]), "coverage": float(coverage[at])}
            kept = prob >= cuts[at]
            resting = _groups(group[kept])
            part = f"coverage={wanted:.2f}"
            found.append(_metric(task, "risk", part, Estimate(float(risk[at])), int(kept.sum()), resting, params))
    return found


def _errors(answers: Answers) -> list[Metric]:
    """The commonest pairs of right and given code."""
    wrong = answers.answered & ~answers.right
    pairs = Counter(zip(answers.gold[wrong], answers.code[wrong], strict=True))
    auto = Counter(
        zip(answers.gold[wrong & (answers.decision == AUTO)], answers.code[wrong & (answers.decision == AUTO)], strict=True)
    )
    support = Counter(answers.gold[answers.answered])
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:ERRORS]
    return [
        Metric(
            answers.task,
            "confusion",
            f"gold={gold},given={given}",
            float(count),
            None,
            None,
            support[gold],
            {"gold": str(gold), "given": str(given), "auto": auto[(gold, given)]},
        )
        for (gold, given), count in ranked
    ]


def _groups(group: NDArray) -> int:
    return int(np.unique(group).size)


def _metric(
    task: str | None,
    name: str,
    part: str,
    estimate: Estimate,
    n: int,
    groups: int,
    params: Mapping[str, Any] | None = None,
) -> Metric:
    """The row of a figure that rests on so many groups."""
    if groups < FEWEST and estimate.value is not None:
        return Metric(task, name, part, None, None, None, n, {TOO_FEW: groups} if groups else {})
    if estimate.low == estimate.high:
        # Where all resamples are alike they say nothing of others.
        estimate = Estimate(estimate.value)
    return Metric(task, name, part, estimate.value, estimate.low, estimate.high, n, params or {})
