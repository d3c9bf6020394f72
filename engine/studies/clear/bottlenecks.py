"""Bottlenecks of concepts that the data choose, over bootstrap samples of train, and what a panel of radiologists says.

The first fold alone. The dual encoder is trained once; the heads are fitted on samples of train's patients, drawn with
replacement. Patients of valid and test stay as they are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.studies.clear import heads
from engine.studies.clear.folds import parts, space_of
from engine.studies.clear.heads import Areas, Part
from engine.studies.clear.radiographs import Images, Radiographs, frequent, states
from engine.studies.results import Measured, Row
from engine.studies.run import Task

_SAMPLES = 20
# The panel's findings that NIH labels too.
_TWINS = {"Pneumothorax": ("Pneumothorax",), "Nodule or mass": ("Nodule", "Mass")}


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """The mean area of each head and its spread over samples, the concepts chosen from all of train, and the panel's counts."""
    nih, seed = radiographs.nih, task.arm.seed
    labels = nih.frame["labels"].to_list()
    names, _ = frequent(labels)
    right, fold = states(labels, names), next(parts(nih.patients, seed))
    train, valid = (Part(nih.features[each], right[each]) for each in (fold.train, fold.valid))
    test, space = nih.features[fold.test], space_of(radiographs, nih.take(fold.train), task)
    # The best guess of an area needs no interval of its own here: what is shown is how it moves from sample to sample.
    areas = Areas(right[fold.test], nih.patients[fold.test], names, 1)
    zero_shot, drawn = heads.zero_shot(space, names, test), {head: [] for head in heads.HEADS}
    for rows in samples(nih.patients[fold.train], _SAMPLES, seed):
        part = Part(train.features[rows], train.right[rows])
        fitted = heads.probe(space, names, part, valid)
        _, scores = heads.bottlenecks(space, names, part, valid, test, fitted)
        scores |= {heads.PROBE: heads.scattered(fitted, names, space.z(test)), heads.ZERO_SHOT: zero_shot}
        scores[heads.DIRECT] = heads.direct(names, part, valid, test)
        for head, values in scores.items():
            drawn[head].append(areas.of(values).macro()[0])
        task.say(f"{len(drawn[heads.PROBE])} of {_SAMPLES} samples")
    rows = [row for head, values in drawn.items() for row in _spread(head, values)]
    rows += [
        row for head in (heads.STANDARD, heads.IMPROVED) for row in _spread(head, values_less(drawn, head), f"less {heads.PROBE}")
    ]
    fitted = heads.probe(space, names, train, valid)
    chosen, _ = heads.bottlenecks(space, names, train, valid, test, fitted)
    for name, weights, ids in zip(fitted.labels, fitted.weights, chosen, strict=True):
        rows += _concepts(name, weights, ids, space.bank.texts, space.bank.embeddings)
    return Measured(rows + list(panel(nih)))


def samples(patients: NDArray, count: int, seed: int) -> Iterator[NDArray]:
    """Rows of images of patients who are drawn with replacement, as often as there are patients."""
    names, group = np.unique(patients, return_inverse=True)
    by_patient = [np.flatnonzero(group == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.concatenate([by_patient[number] for number in rng.integers(len(names), size=len(names))])


def values_less(drawn: dict[str, list[float]], head: str) -> list[float]:
    """Differences of a head from the probe, sample by sample."""
    return (np.array(drawn[head]) - np.array(drawn[heads.PROBE])).tolist()


def _spread(head: str, values: Sequence[float], less: str = "") -> list[Row]:
    """Mean, standard deviation, and the range that holds 95 % of the samples."""
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    part = f"head={head}" + (f" {less}" if less else "")
    mean = Row("macro_auroc", float(np.mean(values)), low, high, len(values), part)
    return [mean, Row("macro_auroc.sd", float(np.std(values, ddof=1)), n=len(values), slice=part)]


def _concepts(name: str, weights: NDArray, ids: Sequence[int], texts: Sequence[str], embeddings: NDArray) -> list[Row]:
    """The concepts of a label with positive weight and those with negative weight, the strongest first."""
    cosines = embeddings[list(ids)].astype(np.float64) @ (weights / np.linalg.norm(weights))
    sides = {"for": cosines > 0, "against": cosines <= 0}
    return [
        Row(
            f"concepts.{side}",
            float(at.sum()),
            n=len(ids),
            slice=f"label={name}",
            note="; ".join(texts[ids[row]] for row in np.flatnonzero(at)),
        )
        for side, at in sides.items()
    ]


def panel(nih: Images) -> Iterator[Row]:
    """Counts of what the panel found, and for findings that NIH labels too of the labels and of both."""
    known = [
        (given, labels) for given, labels in nih.frame.select("radiologist_labels", "labels").iter_rows() if given is not None
    ]
    for finding in known[0][0] if known else ():
        yes = [given[finding] == "YES" for given, _ in known]
        counts = Counter({"panel": sum(yes)})
        twins = _TWINS.get(finding)
        if twins:
            labelled = [not set(twins).isdisjoint(labels) for _, labels in known]
            counts |= {"label": sum(labelled), "both": sum(one and other for one, other in zip(yes, labelled, strict=True))}
        for what in ("panel", "label", "both"):
            if what == "panel" or twins:
                yield Row(f"panel.{what}", float(counts[what]), n=len(known), slice=f"finding={finding}")
