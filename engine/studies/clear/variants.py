"""Other banks in the same dual encoders: fewer concepts, without those that say that something is absent, or centred.

Five patient-wise folds on the NIH images, as in `folds`. Centring takes the mean concept from every concept, since cosines with
all of them are much alike.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.models.clear.bank import collapse
from engine.models.clear.concepts import Bank
from engine.studies.clear import heads
from engine.studies.clear.folds import parts, space_of
from engine.studies.clear.heads import Areas, Part, Space
from engine.studies.clear.radiographs import Radiographs, folds, frequent, states
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options

FREQUENT, RANDOM = "frequent", "random"
_NEGATED = re.compile(r"\b(no|not|without|free|absent|negative|neither|nor)\b")


@dataclass(frozen=True)
class Variant:
    """Settings `variant.<name>`. `size` concepts, 0 for all, by `order`: the commonest ones, or random ones."""

    size: int = 0
    order: str = FREQUENT
    negated: bool = True
    centred: bool = False


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """Mean areas of probe and zero-shot with the variant, and their difference to the whole bank."""
    nih, variant = radiographs.nih, options(Variant, task, "variant")
    names, _ = frequent(nih.frame["labels"].to_list())
    right = states(nih.frame["labels"].to_list(), names)
    rows = chosen(radiographs.bank, variant, task.arm.seed)
    kinds = [(head, changed) for head in (heads.PROBE, heads.ZERO_SHOT) for changed in (True, False)]
    scores = {kind: np.zeros(right.shape) for kind in kinds}
    for fold in parts(nih.patients, task.arm.seed):
        whole = space_of(radiographs, nih.take(fold.train), task)
        train, valid = (Part(nih.features[each], right[each]) for each in (fold.train, fold.valid))
        test = nih.features[fold.test]
        for changed, space in ((True, of_concepts(whole, rows, variant.centred)), (False, whole)):
            fitted = heads.probe(space, names, train, valid)
            scores[heads.PROBE, changed][fold.test] = heads.scattered(fitted, names, space.z(test))
            scores[heads.ZERO_SHOT, changed][fold.test] = heads.zero_shot(space, names, test)
    areas = Areas(right, nih.patients, names, task.study.rounds, folds(nih.patients, task.arm.seed))
    curves = {kind: areas.of(each) for kind, each in scores.items()}
    figures = [Row("concepts", float(len(rows)), n=len(radiographs.bank.texts))]
    for head in (heads.PROBE, heads.ZERO_SHOT):
        changed, whole = curves[head, True], curves[head, False]
        figures.append(Row(f"{head}.macro_auroc", *changed.macro(), len(right)))
        figures.append(Row(f"{head}.macro_auroc", *changed.less(whole), len(right), "less whole"))
    return Measured(figures)


def chosen(bank: Bank, variant: Variant, seed: int) -> NDArray:
    """The rows of a bank that a variant keeps, in their order; the commonest concepts come first in a bank."""
    rows = np.array([row for row, text in enumerate(bank.texts) if variant.negated or not _NEGATED.search(text)])
    if variant.order == RANDOM:
        rows = np.random.default_rng(seed).permutation(rows)
    return np.sort(rows[: variant.size or None])


def of_concepts(space: Space, rows: NDArray, centred: bool) -> Space:
    """The same encoder with some concepts alone."""
    bank, t = space.bank, space.t[rows].astype(np.float64)
    t = t - t.mean(0) if centred else t
    part = replace(
        bank, texts=[bank.texts[row] for row in rows], n_reports=bank.n_reports[rows], embeddings=bank.embeddings[rows]
    )
    return Space(space.encoder, part, t, collapse(t, part.embeddings))
