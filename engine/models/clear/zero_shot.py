"""Answers without training: is an image nearer to "edema" than to "no edema"?

score = z.(p+ - p-), with p+ and p- the mean embeddings of several wordings, of length 1 each. Its softmax without a temperature
(Han et al. 2026) lies between 0.46 and 0.56, so no threshold means anything there: the calibration of every finding
(`engine.models.findings.fitting.platt`) makes probabilities of it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

POSITIVE = ("{}", "there is {}", "findings consistent with {}")
NEGATIVE = ("no {}", "there is no {}", "no evidence of {}")


def directions(
    labels: Sequence[str],
    embed: Callable[[Sequence[str]], NDArray],
    positive: Sequence[str] = POSITIVE,
    negative: Sequence[str] = NEGATIVE,
) -> NDArray:
    """p+ - p- [K, e] of each label, fp64.

    Args:
        embed: gives the embeddings [n, e] of n texts, of length 1: the very one that embedded the concepts.
        positive, negative: wordings, with `{}` for the label in lower case.
    """
    sides = [
        np.stack([_mean(embed([wording.format(label.lower()) for wording in wordings])) for label in labels])
        for wordings in (positive, negative)
    ]
    return sides[0] - sides[1]


def _mean(vectors: NDArray) -> NDArray:
    mean = np.asarray(vectors, np.float64).mean(0)
    return mean / np.linalg.norm(mean)
