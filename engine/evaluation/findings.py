"""Findings of image studies held against gold: by probability, by threshold, by what a text says, and by place.

Matrices are [studies, labels]. A state is 1 (positive), 0 (negative), -1 (uncertain) or NaN (not mentioned). What is neither yes
nor no counts nowhere unless a policy says otherwise, and a label that has not both is skipped and listed, never counted as 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from engine.errors import ConfigError, ContractError
from engine.evaluation.calibration import brier, expected_calibration_error
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.joined import join, noted
from engine.evaluation.metrics import ALL, Metric, Rounds, count_metrics, mean_metrics, metric_of, number_of, record_metrics
from engine.evaluation.resample import Drawn, Estimate, Totals, divide, draws, estimate, mean_known, precision_recall_f1
from engine.evaluation.rows import Rows, numbers_of, texts_of
from engine.evaluation.wrong import worst_first, wrong_rows
from engine.records import FINDINGS

POSITIVE, NEGATIVE, LEFT_OUT = "positive", "negative", "left_out"
_VALUES = {POSITIVE: 1.0, NEGATIVE: 0.0, LEFT_OUT: np.nan}
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the original image."""


def figures(
    rows: Rows,
    gold: pa.Table,
    counts: Mapping[str, int] | None = None,
    slices: Sequence[str] = (),
    uncertain: str = LEFT_OUT,
    rounds: Rounds | None = None,
) -> Evaluation:
    """Measures rows of findings, whose `labels` have `name`, `prob` and `threshold` of each, against gold.

    Args:
        gold: `record_id`, `group` and `findings`, lists of `name` and `state`; what a list leaves out is not mentioned.
        counts: of gold's rows. slices: columns of gold (`slice_<name>`) or of the run to part the studies by.
        uncertain: what an uncertain state counts as.
    Raises:
        ConfigError: no row of the run has gold, or no label is known to both.
    """
    rounds, joined = rounds or Rounds(), join(rows, gold, ["labels"], slices)
    labels, findings = joined.run["labels"], joined.gold["findings"]
    prob, threshold, state = (_wide(*each) for each in ((labels, "prob"), (labels, "threshold"), (findings, "state")))
    names = sorted(prob.keys() & state.keys())
    if not names:
        raise ConfigError(f"labels: the run gives {', '.join(sorted(prob))}, and gold has {', '.join(sorted(state)) or 'none'}")
    prob, threshold, state = (np.stack([each[name] for name in names], 1) for each in (prob, threshold, state))
    true, unit = truth(state, uncertain), joined.unit
    true = np.where(np.isnan(prob), np.nan, true)
    decided, said = np.where(np.isnan(threshold), np.nan, true), prob >= threshold

    def measured(at: NDArray) -> list[Metric]:
        return [
            *label_metrics(names, prob[at], true[at], unit[at], rounds),
            *threshold_metrics(names, said[at], decided[at], unit[at], rounds),
        ]

    metrics = measured(np.arange(len(unit)))
    for name, values in joined.parts(slices).items():
        for value in sorted(set(values) - {""}):
            some = measured(np.flatnonzero(values == value))
            metrics += [replace(metric, slice=f"{name}={value}") for metric in some if metric.slice == ALL]
    skipped = [name for name, column in zip(names, true.T, strict=True) if len(set(column[~np.isnan(column)])) < 2]
    notes = noted(counts or {})
    notes += [f"{name}: gold has not both yes and no, so that it has no AUC and is in no mean." for name in skipped]
    metrics = [replace(metric, params={**metric.params, "uncertain": uncertain}) for metric in metrics]
    metrics += record_metrics(texts_of(joined.run["decision"]), unit, {}, np.ones(len(unit), bool), rounds)
    gold_counts = {"rows": len(gold), "used": len(gold), **(counts or {})}
    gold_counts |= {"matched": len(joined), "without_row": joined.without_row}
    study, label = np.nonzero(~np.isnan(decided) & (said != (decided == 1)))
    cells = {
        "task": np.array(names)[label],
        "code": np.where(said[study, label], "1", "0"),
        "gold": np.where(decided[study, label] == 1, "1", "0"),
        "prob": prob[study, label],
    }
    wrong = worst_first(wrong_rows(joined, study, slices).with_columns(**cells), slices)
    return Evaluation((FINDINGS,), metrics + count_metrics(gold_counts), notes, gold_counts, wrong, FINDINGS)


def truth(states: ArrayLike, uncertain: str = LEFT_OUT, unmentioned: str = LEFT_OUT) -> NDArray:
    """States as 1 (yes), 0 (no) and NaN (counts nowhere)."""
    states = np.asarray(states, float)
    return np.where(np.isnan(states), _VALUES[unmentioned], np.where(states < 0, _VALUES[uncertain], states))


def label_metrics(names: Sequence[str], prob: NDArray, true: NDArray, unit: NDArray, rounds: Rounds) -> list[Metric]:
    """Area under the ROC curve and average precision of each label, their means (`macro_`), and over all cells as one column
    (`micro_`); calibration error and Brier score over all cells.

    Args:
        prob: 0 to 1. true: 1, 0, or NaN where it counts nowhere. unit: [studies] what a resample draws whole: the patient.
    """
    known, rows = ~np.isnan(true), np.arange(len(prob))
    columns = {
        name: (prob[some, at], true[some, at], rows[some]) for at, (name, some) in enumerate(zip(names, known.T, strict=True))
    }
    flat = tuple(np.concatenate(parts) for parts in zip(*columns.values(), strict=True))
    if not flat[0].size:
        return []
    both = {name: column for name, column in columns.items() if len(set(column[1])) == 2}

    def values(weights: NDArray) -> dict[tuple[str, str], NDArray]:
        ranked = {name: ranking(p, t, weights[:, at]) for name, (p, t, at) in both.items()}
        figures = {}
        micro = ranking(flat[0], flat[1], weights[:, flat[2]])
        for side, metric in enumerate(("auroc", "ap")):
            whole, each = micro[side], {name: found[side] for name, found in ranked.items()}
            figures |= {(f"micro_{metric}", ALL): whole, **{(metric, f"label={name}"): value for name, value in each.items()}}
            if each:
                figures[f"macro_{metric}", ALL] = mean_known(np.stack(list(each.values()), -1))
        return figures

    _, group = np.unique(unit, return_inverse=True)
    every = draws(int(group.max()) + 1, rounds.rounds, rounds.seed, flat[0].size)
    drawn = [values(counts[:, group].astype(float)) for counts in every]
    metrics = []
    for (metric, part), value in values(np.ones((1, len(prob)))).items():
        found = estimate(value[0], [each[metric, part] for each in drawn], rounds.level)
        p, t, at = columns.get(part.removeprefix("label="), flat)
        sides = min(number_of(unit[at[t == side]]) for side in (0, 1))
        params = {"labels": len(both)} if metric.startswith("macro") else {}
        metrics.append(metric_of(FINDINGS, metric, part, found, p.size, sides, params))
    p, t, at = flat
    pairs = (("ece", expected_calibration_error(p, t == 1)), ("brier", brier(np.stack([1 - p, p], 1), t.astype(int)) / 2))
    return metrics + [metric_of(FINDINGS, name, ALL, Estimate(value), p.size, number_of(unit[at])) for name, value in pairs]


def ranking(prob: NDArray, true: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Area under the ROC curve and average precision, [draws] each; NaN where a draw has not both yes and no.

    Args:
        prob, true: [n]. weights: [draws, n], how often each row was drawn.
    Source:
        Hanley and McNeil (Radiology 143, 1982): the share of pairs in order, ties by half; precision summed over steps of recall.
    """
    falling = np.argsort(-prob, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(prob[falling]) != 0))
    yes, no = (np.add.reduceat((weights * (true == side))[:, falling], starts, axis=1) for side in (1, 0))
    above, wrong = yes.cumsum(1), no.cumsum(1)
    pairs = (yes * (wrong[:, -1:] - wrong + no / 2)).sum(1)
    precision = np.divide(above, above + wrong, out=np.zeros_like(above), where=above + wrong > 0)
    both = (above[:, -1] > 0) & (wrong[:, -1] > 0)
    area = divide(pairs, above[:, -1] * wrong[:, -1])
    return area, np.where(both, divide((yes * precision).sum(1), above[:, -1]), np.nan)


def threshold_metrics(names: Sequence[str], said: NDArray, true: NDArray, unit: NDArray, rounds: Rounds) -> list[Metric]:
    """F1 and Matthews correlation of each label at the thresholds that made `said`, their means over labels that gold has, and F1
    over all cells. The thresholds are given, and were not chosen here."""
    rows = [
        pl.DataFrame({"unit": unit, "part": [name] * len(unit), "said": given, "true": gold}, strict=False)
        for name, given, gold in zip(names, said.T, true.T, strict=True)
    ]
    yes, given = pl.col("true") == 1, pl.col("said")
    rows = pl.concat(rows).with_columns(known=pl.col("true").is_not_nan())
    cells = {"support": yes, "called": given, "hits": yes & given, "known": True}
    rows = rows.select("unit", "part", **{name: pl.col("known") & cell for name, cell in cells.items()})
    totals, f1 = Totals.by_part(unit, rows), precision_recall_f1("support", "called", "hits")["f1"]
    marked = [name for name in names if totals.rest(("support", name)).n]

    def mcc(name: str) -> Callable[[Drawn], NDArray]:
        return lambda drawn: _mcc(*(drawn[cell, name] for cell in cells))

    figures = {("micro_f1", ALL): f1.over(names)}
    for metric, of_label in (("f1", lambda name: f1.over([name])), ("mcc", mcc)):
        each = {name: of_label(name) for name in names}
        figures |= {(metric, f"label={name}"): figure for name, figure in each.items()}
        if marked:
            figures[f"macro_{metric}", ALL] = lambda drawn, each=each: np.mean(
                [np.nan_to_num(each[name](drawn)) for name in marked], axis=0
            )
    metrics = []
    for (metric, part), found in totals.estimates(figures, **vars(rounds)).items():
        rest = totals.rest(*(("known", name) for name in (names if part == ALL else [part.removeprefix("label=")])))
        metrics.append(metric_of(FINDINGS, metric, part, found, rest.n, rest.groups))
    return metrics


def _mcc(support: NDArray, called: NDArray, hits: NDArray, known: NDArray) -> NDArray:
    """Matthews (Biochimica et Biophysica Acta 405, 1975)."""
    below = np.sqrt(called * support * (known - support) * (known - called))
    return divide(known * hits - support * called, below)


def stated_f1(said: ArrayLike, gold: ArrayLike, uncertain: str) -> dict[str, float]:
    """F1 of what one text states against another, over labels together (`micro`), as the mean over labels that gold has (`macro`)
    and over studies (`example`; two texts that state nothing agree). What is not mentioned is a no.

    Args:
        said, gold: states. uncertain: `POSITIVE` as f1chexbert has it, `NEGATIVE` as the repository of CheXbert; they give
        different numbers, so keep it beside them.
    """
    said, gold = (truth(states, uncertain, NEGATIVE) == 1 for states in (said, gold))
    cells = (said & gold, said & ~gold, ~said & gold)
    by_label = _f1(*(each.sum(0) for each in cells))[gold.any(0)]
    by_study = _f1(*(each.sum(1) for each in cells))
    return {
        "micro": float(_f1(*(each.sum() for each in cells))),
        "macro": float(by_label.mean()) if by_label.size else float("nan"),
        "example": float(np.where(np.isnan(by_study), 1.0, by_study).mean()),
    }


def box_iou(one: Box, other: Box) -> float:
    """Area in both over area in either."""
    width, height = (min(one[at + 2], other[at + 2]) - max(one[at], other[at]) for at in (0, 1))
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    if min(areas) <= 0:
        raise ContractError("a box without area")
    return common / (sum(areas) - common)


def box_metrics(
    gold: Sequence[Sequence[Box]], said: Sequence[Sequence[tuple[float, Box]]], unit: NDArray, rounds: Rounds
) -> list[Metric]:
    """How well evidence lies where people drew boxes, over pairs of study and label that have one: `box_iou`, the mean of each
    drawn box's best IoU, and `pointing`, the share of pairs whose strongest evidence has its centre in a drawn box.

    Args:
        gold: a pair's boxes. said: its evidence with weights.
    Source:
        Zhang et al., Top-Down Neural Attention by Excitation Backprop (ECCV 2016), section 4.2: the pointing game.
    """
    pairs = list(zip(gold, said, strict=True))
    iou = [np.mean([max((box_iou(box, each) for _, each in some), default=0.0) for box in boxes]) for boxes, some in pairs]
    hits = [bool(some) and _inside(max(some)[1], boxes) for boxes, some in pairs]
    return mean_metrics(FINDINGS, {"box_iou": np.array(iou, float), "pointing": np.array(hits, float)}, unit, rounds)


def _inside(box: Box, boxes: Sequence[Box]) -> bool:
    """Whether the middle of a box lies in one of others."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(left <= x < right and top <= y < bottom for left, top, right, bottom in boxes)


def _wide(lists: pl.Series, field: str) -> dict[str, NDArray]:
    """Of lists of named values a column [rows] a name, NaN where a list has no such name."""
    some = lists.to_frame("list").with_row_index("at").filter(pl.col("list").list.len() > 0).explode("list").unnest("list")
    found = {}
    for (name,), values in some.select("at", "name", field).group_by("name"):
        found[name] = np.full(len(lists), np.nan)
        found[name][values["at"].to_numpy()] = numbers_of(values[field])
    return found


def _f1(tp: NDArray, fp: NDArray, fn: NDArray) -> NDArray:
    return divide(2.0 * tp, np.asarray(2 * tp + fp + fn))
