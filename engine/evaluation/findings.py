"""Findings of image studies measured against gold: by probability, by threshold, by what a text states, and by place.

Matrices are [studies, labels]. A state is 1 (positive), 0 (negative), -1 (uncertain) or NaN (not mentioned). States that are
neither positive nor negative are left out unless a policy says otherwise. A label that lacks either is skipped and listed, never
counted as 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from engine.errors import ConfigError, ContractError
from engine.evaluation.calibration import brier, expected_calibration_error
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.joined import join, left_out_notes, worst_first, wrong_rows
from engine.evaluation.metrics import ALL, Metric, Rounds, count_metrics, mean_metrics, metric_of, number_of, record_metrics
from engine.evaluation.resample import Drawn, Estimate, Totals, divide, draws, estimate, mean_known, precision_recall_f1
from engine.evaluation.rows import Rows, numbers_of, texts_of
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
    """Measures rows of findings, whose `labels` have `name`, `prob` and `threshold`, against gold.

    Args:
        gold: `record_id`, `group` and `findings`, lists of `name` and `state`; a label missing from a list is not mentioned.
        counts: of gold's rows. slices: columns of gold (`slice_<name>`) or of the run that divide the studies.
        uncertain: what an uncertain state counts as.
    Raises:
        ConfigError: no row of the run has gold, or both have no label in common.
    """
    rounds, joined = rounds or Rounds(), join(rows, gold, ["labels"], slices)
    labels, findings = joined.run["labels"], joined.gold["findings"]
    prob, threshold, state = _columns(labels, "prob"), _columns(labels, "threshold"), _columns(findings, "state")
    names = sorted(prob.keys() & state.keys())
    if not names:
        raise ConfigError(f"labels: the run gives {', '.join(sorted(prob))}, and gold has {', '.join(sorted(state)) or 'none'}")
    prob, threshold, state = (np.stack([side[name] for name in names], 1) for side in (prob, threshold, state))
    true, unit = truth(state, uncertain), joined.unit
    true = np.where(np.isnan(prob), np.nan, true)
    decided, predicted = np.where(np.isnan(threshold), np.nan, true), prob >= threshold

    def measured(at: NDArray) -> list[Metric]:
        by_prob = label_metrics(names, prob[at], true[at], unit[at], rounds)
        return by_prob + threshold_metrics(names, predicted[at], decided[at], unit[at], rounds)

    metrics = measured(np.arange(len(unit)))
    for name, values in joined.parts(slices).items():
        for value in sorted(set(values) - {""}):
            of_part = measured(np.flatnonzero(values == value))
            metrics += [replace(metric, slice=f"{name}={value}") for metric in of_part if metric.slice == ALL]
    skipped = [name for name, column in zip(names, true.T, strict=True) if len(set(column[~np.isnan(column)])) < 2]
    notes = left_out_notes(counts or {})
    notes += [f"{name}: gold lacks yes or no, so it has no AUC and is in no mean." for name in skipped]
    metrics = [replace(metric, params={**metric.params, "uncertain": uncertain}) for metric in metrics]
    metrics += record_metrics(texts_of(joined.run["decision"]), unit, {}, np.ones(len(unit), bool), rounds)
    gold_counts = {"rows": len(gold), "used": len(gold), **(counts or {})}
    gold_counts |= {"matched": len(joined), "without_row": joined.without_row}
    study, label = np.nonzero(~np.isnan(decided) & (predicted != (decided == 1)))
    cells = {
        "task": np.array(names)[label],
        "code": np.where(predicted[study, label], "1", "0"),
        "gold": np.where(decided[study, label] == 1, "1", "0"),
        "prob": prob[study, label],
    }
    wrong = worst_first(wrong_rows(joined, study, slices).with_columns(**cells), slices)
    return Evaluation((FINDINGS,), metrics + count_metrics(gold_counts), notes, gold_counts, wrong, FINDINGS)


def truth(states: ArrayLike, uncertain: str = LEFT_OUT, unmentioned: str = LEFT_OUT) -> NDArray:
    """States as 1 (yes), 0 (no) and NaN (left out)."""
    states = np.asarray(states, float)
    return np.where(np.isnan(states), _VALUES[unmentioned], np.where(states < 0, _VALUES[uncertain], states))


def label_metrics(names: Sequence[str], prob: NDArray, true: NDArray, unit: NDArray, rounds: Rounds) -> list[Metric]:
    """Area under the ROC curve and average precision of each label, their means (`macro_`), and over all cells as one column
    (`micro_`); calibration error and Brier score over all cells.

    Args:
        prob: 0 to 1. true: 1, 0, or NaN for cells to leave out. unit: [studies] what a resample draws whole, such as the patient.
    """
    columns = {}
    for at, name in enumerate(names):
        rows = np.flatnonzero(~np.isnan(true[:, at]))
        columns[name] = (prob[rows, at], true[rows, at], rows)
    flat = tuple(np.concatenate(parts) for parts in zip(*columns.values(), strict=True))
    if not flat[0].size:
        return []
    both = {name: column for name, column in columns.items() if len(set(column[1])) == 2}

    def values(weights: NDArray) -> dict[tuple[str, str], NDArray]:
        micro = ranking(flat[0], flat[1], weights[:, flat[2]])
        by_label = {name: ranking(p, t, weights[:, at]) for name, (p, t, at) in both.items()}
        figures = {}
        for side, metric in enumerate(("auroc", "ap")):
            figures[f"micro_{metric}", ALL] = micro[side]
            figures |= {(metric, f"label={name}"): ranks[side] for name, ranks in by_label.items()}
            if both:
                figures[f"macro_{metric}", ALL] = mean_known(np.stack([ranks[side] for ranks in by_label.values()], -1))
        return figures

    _, group = np.unique(unit, return_inverse=True)
    chunks = draws(int(group.max()) + 1, rounds.rounds, rounds.seed, flat[0].size)
    drawn = [values(counts[:, group].astype(float)) for counts in chunks]
    metrics = []
    for (metric, part), value in values(np.ones((1, len(prob)))).items():
        figure = estimate(value[0], [chunk[metric, part] for chunk in drawn], rounds.level)
        p, t, at = columns.get(part.removeprefix("label="), flat)
        sides = min(number_of(unit[at[t == side]]) for side in (0, 1))
        params = {"labels": len(both)} if metric.startswith("macro") else {}
        metrics.append(metric_of(FINDINGS, metric, part, figure, p.size, sides, params))
    p, t, at = flat
    pairs = (("ece", expected_calibration_error(p, t == 1)), ("brier", brier(np.stack([1 - p, p], 1), t.astype(int)) / 2))
    return metrics + [metric_of(FINDINGS, name, ALL, Estimate(value), p.size, number_of(unit[at])) for name, value in pairs]


def ranking(prob: NDArray, true: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Area under the ROC curve and average precision, [draws] each; NaN where a draw lacks yes or no.

    Args:
        prob, true: [n]. weights: [draws, n], how often each row was drawn.
    Source:
        Hanley and McNeil (Radiology 143, 1982): the share of pairs in order, ties count half; precision summed over recall steps.
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


def threshold_metrics(names: Sequence[str], predicted: NDArray, true: NDArray, unit: NDArray, rounds: Rounds) -> list[Metric]:
    """F1 and Matthews correlation of each label for the decisions `predicted`, their means over labels that gold has, and F1 over
    all cells."""
    rows = [
        pl.DataFrame({"unit": unit, "part": [name] * len(unit), "predicted": called, "true": gold}, strict=False)
        for name, called, gold in zip(names, predicted.T, true.T, strict=True)
    ]
    yes, called = pl.col("true") == 1, pl.col("predicted")
    rows = pl.concat(rows).with_columns(known=pl.col("true").is_not_nan())
    cells = {"support": yes, "called": called, "hits": yes & called, "known": True}
    rows = rows.select("unit", "part", **{name: pl.col("known") & cell for name, cell in cells.items()})
    totals, f1 = Totals.by_part(unit, rows), precision_recall_f1("support", "called", "hits")["f1"]
    marked = [name for name in names if totals.rest(("support", name)).n]

    def mcc(drawn: Drawn, name: str) -> NDArray:
        """Matthews (Biochimica et Biophysica Acta 405, 1975)."""
        support, called, hits, known = (drawn[cell, name] for cell in cells)
        return divide(known * hits - support * called, np.sqrt(called * support * (known - support) * (known - called)))

    figures = {("micro_f1", ALL): f1.over(names)}
    by_metric = {
        "f1": {name: f1.over([name]) for name in names},
        "mcc": {name: partial(mcc, name=name) for name in names},
    }
    for metric, by_label in by_metric.items():
        figures |= {(metric, f"label={name}"): figure for name, figure in by_label.items()}
        if marked:
            figures[f"macro_{metric}", ALL] = lambda drawn, by_label=by_label: np.mean(
                [np.nan_to_num(by_label[name](drawn)) for name in marked], axis=0
            )
    metrics = []
    for (metric, part), figure in totals.estimates(figures, **vars(rounds)).items():
        rest = totals.rest(*(("known", name) for name in (names if part == ALL else [part.removeprefix("label=")])))
        metrics.append(metric_of(FINDINGS, metric, part, figure, rest.n, rest.groups))
    return metrics


def stated_f1(stated: ArrayLike, gold: ArrayLike, uncertain: str) -> dict[str, float]:
    """F1 of what one text states against another: over all labels (`micro`), as the mean over labels that gold has (`macro`), and
    over studies (`example`; two texts that state nothing agree). What is not mentioned is a no.

    Args:
        stated, gold: states. uncertain: `POSITIVE` as in f1chexbert, or `NEGATIVE` as in the CheXbert repository; they give
        different numbers, so record it beside them.
    """
    stated, gold = (truth(states, uncertain, NEGATIVE) == 1 for states in (stated, gold))
    cells = (stated & gold, stated & ~gold, ~stated & gold)
    by_label = _f1(*(cell.sum(0) for cell in cells))[gold.any(0)]
    by_study = _f1(*(cell.sum(1) for cell in cells))
    return {
        "micro": float(_f1(*(cell.sum() for cell in cells))),
        "macro": float(by_label.mean()) if by_label.size else float("nan"),
        "example": float(np.where(np.isnan(by_study), 1.0, by_study).mean()),
    }


def box_iou(one: Box, other: Box) -> float:
    """Shared area over area in either."""
    width, height = (min(one[at + 2], other[at + 2]) - max(one[at], other[at]) for at in (0, 1))
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    if min(areas) <= 0:
        raise ContractError("a box without area")
    return common / (sum(areas) - common)


def box_metrics(
    gold: Sequence[Sequence[Box]], evidence: Sequence[Sequence[tuple[float, Box]]], unit: NDArray, rounds: Rounds
) -> list[Metric]:
    """Agreement of evidence with drawn boxes, over pairs of study and label that have one: `box_iou`, the mean of each drawn
    box's best IoU, and `pointing`, the share of pairs whose strongest evidence has its centre in a drawn box.

    Args:
        gold: the drawn boxes of each pair. evidence: its evidence with weights.
    Source:
        Zhang et al., Top-Down Neural Attention by Excitation Backprop (ECCV 2016), section 4.2: the pointing game.
    """
    pairs = list(zip(gold, evidence, strict=True))
    iou = [
        np.mean([max((box_iou(box, place) for _, place in evidence), default=0.0) for box in boxes]) for boxes, evidence in pairs
    ]
    hits = [bool(evidence) and _inside(max(evidence)[1], boxes) for boxes, evidence in pairs]
    return mean_metrics(FINDINGS, {"box_iou": np.array(iou, float), "pointing": np.array(hits, float)}, unit, rounds)


def _inside(box: Box, boxes: Sequence[Box]) -> bool:
    """Whether the centre of a box lies in one of `boxes`."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(left <= x < right and top <= y < bottom for left, top, right, bottom in boxes)


def _columns(lists: pl.Series, field: str) -> dict[str, NDArray]:
    """A column [rows] for each name in lists of named values, NaN where a list lacks the name."""
    rows = lists.to_frame("list").with_row_index("at").filter(pl.col("list").list.len() > 0).explode("list").unnest("list")
    columns = {}
    for (name,), values in rows.select("at", "name", field).group_by("name"):
        columns[name] = np.full(len(lists), np.nan)
        columns[name][values["at"].to_numpy()] = numbers_of(values[field])
    return columns


def _f1(tp: NDArray, fp: NDArray, fn: NDArray) -> NDArray:
    return divide(2.0 * tp, np.asarray(2 * tp + fp + fn))
