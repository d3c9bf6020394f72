"""Concept bottlenecks: answers from a handful of concepts that the data choose.

The standard bottleneck is a linear head on the cosines s_K of the chosen concepts; the improved one is a linear head on
normalize(s_K L_K), the image as those concepts alone describe it (Han et al. 2026). Fit either by `probe.fit_probe` on
`features`. The choice looks for concepts that agree with a linear probe and differ from each other, after LaBo (Yang et al., CVPR
2023), since the published list is not public.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.models.clear.bank import BLOCK

_STEM = 7
FOR, AGAINST, NEAREST = 8, 6, 0.9
"""Concepts of a label with positive and with negative weight, and the cosine above which two concepts are one."""


def choose(
    weights: ArrayLike, llm: NDArray, texts: Sequence[str], labels: Sequence[str], names_label: Callable[[str, str], bool]
) -> list[list[int]]:
    """The concepts of each label, as rows of the bank, in order of |cosine| of concept and probe.

    A concept is passed over if its cosine to one chosen before for this label exceeds `NEAREST`, or if its text names the label,
    which would give the answer away.

    Args:
        weights: [K, e] of a linear probe on z. llm: [C, e], of length 1. texts: C. labels: K.
        names_label: whether a text names a label.
    """
    weights = np.asarray(weights, np.float64)
    weights = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    blocks = (np.asarray(llm[start : start + BLOCK], np.float64) for start in range(0, len(llm), BLOCK))
    alignment = np.concatenate([block @ weights.T for block in blocks])
    result = []
    for label, cosines in zip(labels, alignment.T, strict=True):
        chosen: list[int] = []
        places = {True: FOR, False: AGAINST}
        for concept in np.argsort(-np.abs(cosines), kind="stable").tolist():
            side = bool(cosines[concept] > 0)
            if not places[side] or names_label(texts[concept], label):
                continue
            if chosen and (np.asarray(llm[chosen], np.float64) @ np.asarray(llm[concept], np.float64)).max() > NEAREST:
                continue
            chosen.append(concept)
            places[side] -= 1
            if not any(places.values()):
                break
        result.append(chosen)
    return result


def features(v: ArrayLike, t: ArrayLike, llm: ArrayLike | None = None) -> NDArray:
    """What a head sees of images v [n, d]: the cosines [n, C'] of chosen concepts t [C', d]; with their llm [C', e] what those
    cosines make, [n, e] of length 1."""
    cosines = np.asarray(v, np.float64) @ np.asarray(t, np.float64).T
    if llm is None:
        return cosines
    raw = cosines @ np.asarray(llm, np.float64)
    return raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def names_label(text: str, label: str) -> bool:
    """Whether an observation names a label, by the stem of its last word: "effusions" names Pleural Effusion."""
    return label.split()[-1][:_STEM].lower() in text.lower()
