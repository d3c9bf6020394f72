"""The mean F1 over labels, for the experiments on explanations."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.evaluation.resample import divide, mean_known


def mean_f1(hits: ArrayLike, given: ArrayLike, gold: ArrayLike) -> NDArray:
    """Mean F1 over the labels that gold has, from counts [..., labels]; NaN where it has none."""
    hits, given, gold = (np.asarray(each, dtype=float) for each in (hits, given, gold))
    return mean_known(np.where(gold > 0, divide(2 * hits, given + gold), np.nan))
