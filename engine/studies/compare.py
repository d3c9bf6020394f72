"""Whether one arm is better than another: over seeds by a paired t-test, over texts by a paired bootstrap; p values by Holm.

A seed decides what a model starts from and the order of its texts: the interval over seeds says what another training would give
on the same test texts. The interval over texts keeps the models and draws the test texts anew, the same ones for both sides.
Neither knows of the other.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from engine.errors import ContractError
from engine.evaluation.resample import Drawn, Estimate, Totals, divide, mean_known
from engine.evaluation.spans import WAYS
from engine.studies.results import ALL, Row
from engine.studies.study import SEEDS, TEXTS, Comparison, Study

P, HOLM = ".p", ".holm"
_F1 = {f"{way}f1": counts for way, counts in WAYS.items()}
# Per-text answers of codes: truth values of every label [texts, labels].
LABELS, GIVEN = "labels", "given"
_CODED = ("macro_f1", "micro_f1", "accuracy")
Columns = Mapping[Any, NDArray]
Value = Callable[[Callable[[Any], NDArray]], NDArray]


def over_seeds(values: Sequence[float], level: float = 0.95) -> tuple[Estimate, float | None]:
    """The mean of runs with Student's interval, and the two-sided p of a t-test that it is 0.

    One run has no interval, and runs without any spread no p, which is neither 0 nor 1.

    Source:
        Student, The Probable Error of a Mean (Biometrika 6, 1908).
    """
    if not values:
        raise ContractError("the mean of no runs")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Estimate(mean), None
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(t.ppf((1 + level) / 2, count - 1)) * error
    p = None if np.ptp(values) == 0 else float(2 * t.sf(abs(mean) / error, count - 1))
    return Estimate(mean, mean - half, mean + half), p


def over_texts(
    metric: str, pairs: Sequence[tuple[pa.Table, pa.Table]], rounds: int, seed: int = 0, part: bool = False
) -> tuple[Estimate, float | None]:
    """A metric of one side less that of the other on the same drawn texts, the mean over pairs of models, and the two-sided p of
    no difference; no p without draws.

    Args:
        pairs: for each seed the answers of both sides about the same texts; see `figure`.
        part: the ratio of both instead, which has no p.
    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 15: the share of draws beyond 0. The measured
        difference counts as one more draw (Davison and Hinkley 1997, section 4.2), so that no number of draws gives a p of 0.
    """
    ids = pairs[0][0]["record_id"].to_pylist()
    columns: dict[Any, NDArray] = {}
    values: dict[tuple[int, int], Value] = {}
    for number, pair in enumerate(pairs):
        for side, answers in enumerate(pair):
            if answers["record_id"].to_pylist() != ids:
                raise ContractError("the answers of both sides must be about the same texts in the same order")
            sums, values[number, side] = figure(metric, answers)
            columns |= {(number, side, name): column for name, column in sums.items()}
    totals, draws = Totals(pairs[0][0]["group"].to_pylist(), columns), []

    def less(drawn: Drawn) -> NDArray:
        def side(number: int, which: int) -> NDArray:
            return values[number, which](lambda name: drawn[number, which, name])

        both = [(side(number, 0), side(number, 1)) for number in range(len(pairs))]
        draws.append(np.mean([divide(one, other) if part else one - other for one, other in both], axis=0))
        return draws[-1]

    estimate = totals.estimates({"less": less}, rounds, seed=seed)["less"]
    # The last call is for the whole, not for a draw.
    drawn = np.concatenate(draws[:-1]) if len(draws) > 1 else np.empty(0)
    drawn = drawn[~np.isnan(drawn)]
    if part or not drawn.size:
        return estimate, None
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return estimate, min(1.0, 2 * (beyond + 1) / (drawn.size + 1))


def same_texts(one: pa.Table, other: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The answers of both sides about the same texts, where one side has answers about only some of the other's texts."""
    smaller, larger = sorted((one, other), key=len)
    if not len(smaller) or not set(smaller["record_id"].to_pylist()) <= set(larger["record_id"].to_pylist()):
        raise ContractError("the answers of one side must be about texts of the other side")
    return tuple(table.filter(pc.is_in(table["record_id"], smaller["record_id"])) for table in (one, other))  # type: ignore[return-value]


def figure(metric: str, answers: pa.Table) -> tuple[Columns, Value]:
    """What a metric sums over texts, and the metric from such sums.

    `f1`, `overlap_f1`, `iou_f1` and `char_f1` are of the counts of spans (see `engine.evaluation.spans.WAYS`); `macro_f1`,
    `micro_f1` and `accuracy` of the truth values `labels` and `given` of every label. Another metric is the mean of a column of
    its name, texts without a value left out.
    """
    if metric in _F1:
        gold, predicted, hits = _F1[metric]
        sums = {name: answers[name].to_numpy() for name in (gold, predicted, hits)}
        return sums, lambda get: divide(2.0 * get(hits), get(gold) + get(predicted))
    if metric in _CODED and LABELS in answers.column_names:
        labels, given = truth(answers, LABELS), truth(answers, GIVEN)
        if metric == "accuracy":
            right = {"right": (labels == given).all(1), "n": np.ones(len(labels))}
            return right, lambda get: divide(get("right"), get("n"))
        sums = {(what, number): column for number, (gold, predicted) in enumerate(zip(labels.T, given.T, strict=True))
                for what, column in (("hits", gold & predicted), ("predicted", predicted), ("gold", gold))}  # fmt: skip

        def f1(get: Callable[[Any], NDArray]) -> NDArray:
            hits, predicted, gold = (
                np.stack([get((what, number)) for number in range(labels.shape[1])], -1) for what in ("hits", "predicted", "gold")
            )
            return (
                macro_f1(hits, predicted, gold) if metric == "macro_f1" else divide(2 * hits.sum(-1), (predicted + gold).sum(-1))
            )

        return sums, f1
    values = answers[metric].to_numpy(zero_copy_only=False).astype(float)
    known = ~np.isnan(values)
    return {"sum": np.where(known, values, 0.0), "n": known}, lambda get: divide(get("sum"), get("n"))


def macro_f1(hits: ArrayLike, predicted: ArrayLike, gold: ArrayLike) -> NDArray:
    """Mean F1 over the labels that gold has, from counts [..., labels]; NaN where it has none.

    A label that is only predicted is left out, so that both sides are always compared over the same labels.
    """
    hits, predicted, gold = (np.asarray(counts, dtype=float) for counts in (hits, predicted, gold))
    return mean_known(np.where(gold > 0, divide(2 * hits, predicted + gold), np.nan))


def truth(table: pa.Table, name: str) -> NDArray:
    """A column of truth values of every label, [texts, labels]."""
    return np.array(table[name].to_pylist(), dtype=bool).reshape(len(table), -1)


def one_family(compared: Sequence[tuple[str, str, Row]]) -> list[tuple[str, str, Row]]:
    """The comparisons of several corpora (corpus, arm, row) with p after Holm over all of them, metric by metric."""
    families: dict[tuple[str, str], dict[tuple[str, str, str], float]] = {}
    for corpus, arm, row in compared:
        if row.metric.endswith(P):
            family = families.setdefault((row.metric.removesuffix(P), row.slice.rpartition(", ")[2]), {})
            family[corpus, arm, row.slice] = row.value
    corrected = {
        (metric + HOLM, *place): value
        for (metric, _), family in families.items()
        for place, value in zip(family, holm(list(family.values())), strict=True)
    }
    return [
        (corpus, arm, replace(row, value=corrected.get((row.metric, corpus, arm, row.slice), row.value)))
        for corpus, arm, row in compared
    ]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for multiple tests, in their order; a missing value stays missing and is no test.

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure (Scandinavian Journal of Statistics 6, 1979).
    """
    known = sorted((p, at) for at, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    most = 0.0
    for rank, (p, at) in enumerate(known):
        most = max(most, min(1.0, (len(known) - rank) * p))
        corrected[at] = most
    return corrected


class Arms:
    """The rows and answers of the arms of one corpus.

    Args:
        rows: of all arms and seeds. answers: the tables of an arm and seed, by `Arm.key`, as far as they are at hand.
    """

    def __init__(self, study: Study, corpus: str, rows: pa.Table, answers: Callable[[str], Sequence[pa.Table]]) -> None:
        self.study, self.corpus, self._answers = study, corpus, answers
        self.arms = {arm.name: arm for arm in study.arms() if arm.corpus == corpus}
        self.values: dict[tuple[str, str, str], dict[int, float | None]] = {}
        for row in rows.to_pylist():
            if row["corpus"] == corpus and row["seed"] is not None:
                self.values.setdefault((row["arm"], row["metric"], row["slice"]), {})[row["seed"]] = row["value"]

    def seeds(self, arm: str, metric: str, part: str = ALL) -> list[float] | None:
        """The figure of every seed; None if a seed lacks it."""
        values = self.values.get((arm, metric, part), {})
        by_seed = [values.get(seed) for seed in self.study.seeds]
        return None if None in by_seed else by_seed  # type: ignore[return-value]

    def means(self) -> list[tuple[str, Row]]:
        """The mean of every figure that all seeds have; empty for a study of one seed."""
        means = []
        for arm, metric, part in self.values if len(self.study.seeds) > 1 else ():
            values = self.seeds(arm, metric, part)
            if values is not None:
                mean = over_seeds(values)[0]
                means.append((arm, Row(metric, mean.value, mean.low, mean.high, len(values), part, "over seeds")))
        return means

    def compared(self, comparison: Comparison) -> list[tuple[str, Row]]:
        """A comparison's rows, by arm: differences or ratios, p and p after Holm over all of its pairs. What cannot be compared
        (an arm is not measured yet, or its answers are not at hand) has none."""
        rows = []
        for metric in comparison.metrics:
            for over, test in ((SEEDS, self._over_seeds), (TEXTS, self._over_texts)):
                if over not in comparison.over:
                    continue
                tests = [(arm, against, test(comparison, arm, other, metric)) for arm, other, against in self._pairs(comparison)]
                tests = [each for each in tests if each[2] is not None]
                for (arm, against, (estimate, p, n)), corrected in zip(tests, holm([each[2][1] for each in tests]), strict=True):
                    part = f"{comparison.slice(against)}, over {over}"
                    rows.append((arm, Row(metric, estimate.value, estimate.low, estimate.high, n, part)))
                    ps = ((P, p), (HOLM, corrected))
                    rows += [(arm, Row(metric + name, value, n=n, slice=part)) for name, value in ps if value is not None]
        return rows

    def _pairs(self, comparison: Comparison) -> list[tuple[str, str, str]]:
        """Arm, arm that it is compared with, and the level of that one."""
        pairs = []
        for one, other in comparison.pairs:
            for arm in self.arms.values():
                against = arm.at(**{comparison.factor: other})
                at_base = comparison.less and comparison.less.items() <= arm.levels.items()
                if arm.levels[comparison.factor] == one and against in self.arms and not at_base:
                    pairs.append((arm.name, against, other))
        return pairs

    def _over_seeds(self, comparison: Comparison, arm: str, other: str, metric: str) -> tuple[Estimate, float | None, int] | None:
        sides = [self.seeds(name, metric) for name in self._sides(comparison, arm, other)]
        if any(side is None for side in sides):
            return None
        if comparison.ratio:
            return Estimate(float(np.mean(sides[0]) / np.mean(sides[1]))), None, len(sides[0])
        if len(self.study.seeds) < 2:
            return None
        signs = (1, -1, -1, 1)[: len(sides)]
        gains = np.sum([sign * np.array(side) for sign, side in zip(signs, sides, strict=True)], 0)
        return *over_seeds(gains.tolist()), len(gains)

    def _over_texts(self, comparison: Comparison, arm: str, other: str, metric: str) -> tuple[Estimate, float | None, int] | None:
        if comparison.less:
            return None
        pairs = []
        for seed in self.study.seeds:
            both = [self._table(f"{self.corpus}/{name}/{seed}", metric) for name in (arm, other)]
            if any(table is None for table in both):
                return None
            pairs.append(same_texts(*both))
        return *over_texts(metric, pairs, self.study.rounds, part=comparison.ratio), len(pairs[0][0])

    def _sides(self, comparison: Comparison, arm: str, other: str) -> list[str]:
        """The arms of a difference, or of a difference of differences."""
        levels = self.arms[arm].levels
        base = [self.arms[name].at(**comparison.less) for name in (arm, other)] if comparison.less and levels else []
        return [arm, other, *base]

    def _table(self, key: str, metric: str) -> pa.Table | None:
        """The answers of an arm that a metric can be summed over."""
        for table in self._answers(key):
            names = set(table.column_names)
            wanted = set(_F1.get(metric, ())) or ({LABELS, GIVEN} if LABELS in names else {metric})
            if wanted <= names and (metric in (*_F1, *_CODED) or metric in names):
                return table
        return None
