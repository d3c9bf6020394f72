"""The algebra of a bank of C concepts.

v [n, d] are images and T [C, d] the concepts in the space that they share, L [C, e] the concepts in the space of a language
model. s = v T' are the cosines of images and concepts, z = s L / |s L| is the embedding of an image. With M = T'L [d, e]

    z = v M / |v M|                      the bank collapses: answers cost the same however many concepts there are
    z.p = sum over c of s_c (l_c.p) / |v M|     an answer in direction p is a sum over concepts, without approximation

(Han et al., CLEAR 2026). M and all sums are in fp64: in half precision, 368,294 terms lose their digits. To centre the concepts,
pass T - mean(T) for T everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 8192
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Top:
    """The concepts that carry the answers to n images about K labels.

    `ids` [n, K, 2k] int32 are rows of the bank: k that speak for the label, the strongest first, then k against it, the strongest
    first; -1 where there are fewer. `scores` [n, K, 2k] float64 are their parts of the answer, `cosines` their s_c, and `shares`
    their parts of the absolute scores of all concepts. `rest` [n, K] is the sum of the scores of the other concepts.
    """

    ids: NDArray
    scores: NDArray
    cosines: NDArray
    shares: NDArray
    rest: NDArray


def partial(t: ArrayLike, llm: ArrayLike) -> NDArray:
    """The part [d, e] of M that some concepts add, t [c, d] and llm [c, e], in fp64."""
    return np.asarray(t, np.float64).T @ np.asarray(llm, np.float64)


def add(one: NDArray, other: NDArray) -> NDArray:
    """The part of M of two sets of concepts, from the part of each."""
    return one + other


def collapse(t: NDArray, llm: NDArray, block: int = BLOCK) -> NDArray:
    """M [d, e] in fp64, of t [C, d] and llm [C, e] in any precision, of which `block` rows at a time are copied."""
    parts = (partial(t[rows], llm[rows]) for rows in _blocks(len(t), block))
    return reduce(add, parts, np.zeros((t.shape[1], llm.shape[1])))


def embedding(v: ArrayLike, matrix: NDArray) -> tuple[NDArray, NDArray]:
    """The embeddings z [n, e] of images v [n, d], of length 1, and the lengths [n] of v M; an embedding of zeros stays zeros."""
    raw = np.asarray(v, np.float64) @ matrix
    norms = np.linalg.norm(raw, axis=1)
    return raw / np.maximum(norms, _TINY)[:, None], norms


def top(v: ArrayLike, norms: NDArray, t: NDArray, weights: NDArray, k: int = 25, block: int = BLOCK) -> Top:
    """The k strongest concepts for and against each label. Memory is bounded by n times `block`, time is linear in C.

    Args:
        v: [n, d]. norms: [n], of `embedding`. t: [C, d].
        weights: [C, K], l_c.p of each label's direction, scaled as the answer is.
    """
    v = np.asarray(v, np.float64) / np.maximum(norms, _TINY)[:, None]
    shape = (len(v), weights.shape[1])
    total, absolute = np.zeros(shape), np.zeros(shape)
    ids, scores = np.full((*shape, 2 * k), -1, np.int32), np.zeros((*shape, 2 * k))
    for rows in _blocks(len(t), block):
        scaled, weight = v @ np.asarray(t[rows], np.float64).T, np.asarray(weights[rows], np.float64)
        total += scaled @ weight
        absolute += np.abs(scaled) @ np.abs(weight)
        numbers = np.arange(rows.start, rows.start + len(weight), dtype=np.int32)
        for label in range(shape[1]):
            _keep(ids[:, label], scores[:, label], numbers, scaled * weight[:, label], k)
    # Where a side has fewer than k concepts, others or nothing would stand in its places.
    absent = np.where(np.arange(2 * k) < k, scores <= 0, scores >= 0)
    ids[absent], scores[absent] = -1, 0.0
    order = np.lexsort((ids, -np.abs(scores), np.broadcast_to(np.arange(2 * k) >= k, scores.shape)))
    ids, scores = (np.take_along_axis(values, order, 2) for values in (ids, scores))
    # Score by weight, since cosines of all these images with all these concepts would not be bounded by the block.
    weight = weights[np.maximum(ids, 0), np.arange(shape[1])[:, None]]
    cosines = np.divide(scores * norms[:, None, None], weight, out=np.zeros(ids.shape), where=ids >= 0)
    shares = np.abs(scores) / np.maximum(absolute, _TINY)[:, :, None]
    return Top(ids, scores, cosines, shares, total - scores.sum(2))


def _keep(ids: NDArray, scores: NDArray, numbers: NDArray, values: NDArray, k: int) -> None:
    """Puts the k highest and the k lowest of those kept and of new values [n, b] in the places of those kept [n, 2k]."""
    every = np.concatenate([scores, values], axis=1)
    chosen = np.argpartition(every, [k - 1, every.shape[1] - k], axis=1)
    chosen = np.concatenate([chosen[:, -k:], chosen[:, :k]], axis=1)
    before = np.take_along_axis(ids, np.minimum(chosen, 2 * k - 1), 1)
    ids[:] = np.where(chosen < 2 * k, before, numbers[np.maximum(chosen - 2 * k, 0)])
    scores[:] = np.take_along_axis(every, chosen, 1)


def _blocks(count: int, block: int) -> Iterator[slice]:
    return (slice(start, start + block) for start in range(0, count, block))
