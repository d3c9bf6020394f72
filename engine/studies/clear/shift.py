"""Shift between kinds of images: a probe and its thresholds, from images of one view, tested on those of the other.

Five folds by patient. Of NIH's images, the dual encoder and the probe learn from those of one view that are in train, and the
probe's strength and thresholds come from those in valid; the tested images of both views are of other patients. The concepts that
shifted are those of a dual encoder that saw none of these images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.findings import ranking
from engine.evaluation.resample import divide, draws, estimate, mean_known
from engine.models.findings.decide import FindingCalibration, unclear_reasons
from engine.models.findings.fitting import Promise, fit_findings
from engine.studies.clear import heads
from engine.studies.clear.folds import parts, space_of
from engine.studies.clear.heads import Part, Space
from engine.studies.clear.radiographs import Radiographs, in_space, states
from engine.studies.results import Measured, Row
from engine.studies.run import Task

VIEWS = ("PA", "AP")
_LEAST, _SHIFTED = 20, 8


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """Areas on the view that a probe learned from and on the other, sensitivity and specificity at its thresholds, and the
    concepts by which both views differ."""
    nih, source = radiographs.nih, task.settings["shift.view"]
    view = nih.frame["view"].to_numpy()
    names = common(nih.frame["labels"].to_list(), view)
    right = states(nih.frame["labels"].to_list(), names)
    prob, called = np.zeros(right.shape), np.zeros(right.shape, bool)
    for fold in parts(nih.patients, task.arm.seed):
        train, valid = (each & (view == source) for each in (fold.train, fold.valid))
        space = space_of(radiographs, nih.take(train), task)
        fitted = heads.probe(space, names, *(Part(nih.features[each], right[each]) for each in (train, valid)))
        tested, of_valid = (heads.scattered(fitted, names, space.z(nih.features[each])) for each in (fold.test, valid))
        calibration = fit_findings(names, of_valid, right[valid], Promise())
        # Logits of different folds are in different units; calibrated ones may stand in one ranking.
        prob[fold.test] = np.stack(
            [each.probabilities(column) for each, column in zip(calibration.values(), tested.T, strict=True)], 1
        )
        called[fold.test] = decided(calibration, tested)[0]
    other = next(name for name in VIEWS if name != source)
    sides = {"own": view == source, "other": view == other}
    rows = [
        Row("images", float(each.sum()), n=len(set(nih.patients[each])), slice=f"view={side}") for side, each in sides.items()
    ]
    rows += _areas(prob, right, nih.patients, sides, names, task.study.rounds)
    yes = right == 1
    counts = {
        "sensitivity": (yes & called, yes),
        "specificity": (~yes & ~called, ~yes),
    }
    rows += _shares(counts, nih.patients, sides, task.study.rounds)
    space = space_of(radiographs, None, task)
    return Measured([*rows, *_shifted(space, nih.features[sides["other"]], nih.features[sides["own"]], f"{other} less {source}")])


def common(labels: Sequence[Sequence[str]], view: NDArray) -> list[str]:
    """The labels with at least 20 positives in each view, in order of the alphabet."""
    names = sorted({name for each in labels for name in each} - {"No Finding"})
    counts = {kind: states([each for each, of in zip(labels, view, strict=True) if of == kind], names).sum(0) for kind in VIEWS}
    return [name for at, name in enumerate(names) if min(counts[kind][at] for kind in VIEWS) >= _LEAST]


def decided(calibration: dict[str, FindingCalibration], logits: NDArray) -> tuple[NDArray, NDArray]:
    """Whether each finding is called positive [n, K], and whether a study needs a person [n], as the product decides."""
    rows = [
        [each.label(name, logit) for (name, each), logit in zip(calibration.items(), values, strict=True)] for values in logits
    ]
    return np.array([[bool(label["pred"]) for label in row] for row in rows]), np.array(
        [bool(unclear_reasons(row)) for row in rows]
    )


def _areas(
    scores: NDArray, right: NDArray, patients: NDArray, sides: dict[str, NDArray], names: Sequence[str], rounds: int
) -> list[Row]:
    """Areas of each side and what the other lacks, all on the same draws of patients."""

    def of(weights: NDArray) -> dict[str, NDArray]:
        columns = {
            side: [ranking(scores[at, label], right[at, label], weights[:, at])[0] for label in range(len(names))]
            for side, at in sides.items()
        }
        return {side: np.stack(each, 1) for side, each in columns.items()}

    drawn = [of(weights) for weights in by_patient(patients, rounds, scores.size)]
    whole, every = of(np.ones((1, len(right)))), {side: np.concatenate([each[side] for each in drawn]) for side in sides}
    rows = [
        figure_row("auroc", whole[side][:, label], every[side][:, label], int(right[at, label].sum()), f"label={name}, {side}")
        for side, at in sides.items()
        for label, name in enumerate(names)
    ]
    rows += [
        figure_row(
            "auroc",
            (whole["other"] - whole["own"])[:, label],
            (every["other"] - every["own"])[:, label],
            int(right[:, label].sum()),
            f"label={name}, change",
        )
        for label, name in enumerate(names)
    ]
    means = {side: (mean_known(whole[side]), mean_known(every[side])) for side in sides}
    rows += [figure_row("macro_auroc", *means[side], int(at.sum()), f"view={side}") for side, at in sides.items()]
    change = [other - own for other, own in zip(means["other"], means["own"], strict=True)]
    return [*rows, figure_row("macro_auroc", *change, len(right), "less own")]


def _shares(counts: dict[str, tuple[NDArray, NDArray]], patients: NDArray, sides: dict[str, NDArray], rounds: int) -> list[Row]:
    """Means over labels of the share of hits among all, for each side, and the difference of the sides."""
    rows = []
    for metric, (hits, among) in counts.items():

        def of(weights: NDArray, hits: NDArray = hits, among: NDArray = among) -> dict[str, NDArray]:
            return {side: mean_known(divide(weights[:, at] @ hits[at], weights[:, at] @ among[at])) for side, at in sides.items()}

        whole = of(np.ones((1, len(patients))))
        drawn = [of(weights) for weights in by_patient(patients, rounds, hits.size)]
        every = {side: np.concatenate([each[side] for each in drawn]) for side in sides}
        rows += [figure_row(metric, whole[side], every[side], int(at.sum()), f"view={side}") for side, at in sides.items()]
        rows.append(figure_row(metric, whole["other"] - whole["own"], every["other"] - every["own"], len(patients), "less own"))
    return rows


def by_patient(patients: NDArray, rounds: int, cells: int) -> list[NDArray]:
    """How often each image is drawn [draws, n], some draws at a time."""
    _, group = np.unique(patients, return_inverse=True)
    return [counts[:, group].astype(float) for counts in draws(int(group.max()) + 1, rounds, 0, cells)]


def _shifted(space: Space, one: NDArray, other: NDArray, what: str) -> list[Row]:
    """The concepts whose mean cosine is most higher, and most lower, in one set of images than in the other."""
    difference = in_space(space.encoder, one).astype(np.float64).mean(0) - in_space(space.encoder, other).astype(np.float64).mean(
        0
    )
    scores = space.t.astype(np.float64) @ difference
    order = np.argsort(-scores, kind="stable")
    ends = {"higher": order[:_SHIFTED], "lower": order[::-1][:_SHIFTED]}
    return [
        Row(
            f"concepts.{end}",
            float(scores[ids[0]]),
            n=len(scores),
            slice=f"shift={what}",
            note="; ".join(space.bank.texts[row] for row in ids),
        )
        for end, ids in ends.items()
    ]


def figure_row(metric: str, value: NDArray, drawn: NDArray, n: int, part: str) -> Row:
    """A figure [1] with the interval of its draws."""
    figure = estimate(value[0], [drawn], 0.95)
    return Row(metric, figure.value, figure.low, figure.high, n, part)
