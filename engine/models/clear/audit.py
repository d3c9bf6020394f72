"""Audits: which concepts a label stands for in the data, which concepts go with a model's failures, and what removing them does.

A mean of cosines is the cosine of a mean, mean(s) = mean(v) T', so no audit needs the cosines of all images with all concepts.
Sources: Kim et al., MONET (Nature Medicine 2024) for the audit of data; Han et al., CLEAR (2026) for the audit of a model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, rankdata
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from engine.models.clear.bank import BLOCK, embedding
from engine.models.clear.probe import auc

COMPONENTS, CLUSTERS, SEED = 50, 40, 42
LEAST, DRAWS, LISTED = 20, 1000, 20
"""Images that a cluster must have, permutations, concepts that a contrast lists."""


@dataclass(frozen=True)
class Concepts:
    """Concepts of the bank, the highest score first: `ids`, `scores`, and of a contrast the q value of each."""

    ids: NDArray
    scores: NDArray
    q: NDArray = field(default_factory=lambda: np.zeros(0))


def audit_data(positive: ArrayLike, negative: ArrayLike, t: NDArray, most: int = LISTED) -> Concepts:
    """The concepts that set the images of a label apart: t_c.(mean v(positive) - mean v(negative)).

    Args:
        positive, negative: images [n, d]. t: [C, d].
    """
    difference = np.asarray(positive, np.float64).mean(0) - np.asarray(negative, np.float64).mean(0)
    scores = _by_concept(t, difference)
    ids = np.argsort(-scores, kind="stable")[:most]
    return Concepts(ids, scores[ids])


def clusters(features: Mapping[str, ArrayLike]) -> tuple[dict[str, NDArray], NDArray]:
    """The cluster [n] of each image of each data set, and the centres [CLUSTERS, COMPONENTS], fewer where the sets are small.

    PCA and KMeans are fitted once for all sets together: centres that were fitted for each set alone lie in different spaces, and
    their distances mean nothing.

    Args:
        features: [n, width] of each data set, by its name.
    """
    arrays = {name: np.asarray(values, np.float64) for name, values in features.items()}
    every = np.concatenate(list(arrays.values()))
    reduced = PCA(min(COMPONENTS, *every.shape), random_state=SEED).fit_transform(every)
    fitted = KMeans(min(CLUSTERS, len(every)), n_init=10, random_state=SEED).fit(reduced)
    ends = np.cumsum([len(values) for values in arrays.values()])[:-1]
    return dict(zip(arrays, np.split(fitted.labels_, ends), strict=True)), fitted.cluster_centers_


@dataclass(frozen=True)
class Answered:
    """The images of one data set and a model's answers about one label: `v` [n, d], `cluster` [n], `scores` [n] in any unit and
    `right` [n], 1 or 0. Leave out images whose answer nobody knows."""

    v: NDArray
    cluster: NDArray
    scores: NDArray
    right: NDArray


@dataclass(frozen=True)
class Cluster:
    """How well a model does in a cluster of `images`: `area` under the ROC curve, and the `q` value of its being so low by
    chance. Where `skipped` says why, both are None."""

    number: int
    images: int
    area: float | None = None
    q: float | None = None
    skipped: str = ""


def areas(images: Answered, seed: int = SEED) -> list[Cluster]:
    """The clusters of a data set, in order of their numbers.

    The null hypothesis: images are in clusters at random. p is the share of draws of as many images, both classes among them,
    whose area is as low; q corrects it for the number of clusters (Benjamini and Hochberg 1995).
    """
    measured: list[Cluster] = []
    p: list[float] = []
    for number in np.unique(images.cluster).tolist():
        inside = images.cluster == number
        count, area = int(inside.sum()), auc(images.right[inside], images.scores[inside])
        if count < LEAST or area is None:
            why = f"fewer than {LEAST} images" if count < LEAST else "one class only"
            measured.append(Cluster(number, count, skipped=why))
            continue
        measured.append(Cluster(number, count, area))
        drawn = _areas_by_chance(images, count, np.random.default_rng([seed, number]))
        p.append((1 + int((drawn <= area + 1e-12).sum())) / (1 + len(drawn)))
    q = iter(false_discovery_control(p).tolist() if p else [])
    return [Cluster(each.number, each.images, each.area, next(q)) if not each.skipped else each for each in measured]


def _areas_by_chance(images: Answered, count: int, rng: np.random.Generator) -> NDArray:
    rows = np.stack([rng.choice(len(images.right), count, replace=False) for _ in range(DRAWS)])
    right, ranks = images.right[rows] > 0, rankdata(images.scores[rows], axis=1)
    positive = right.sum(1)
    both = (positive > 0) & (positive < count)
    right, ranks, positive = right[both], ranks[both], positive[both]
    return ((ranks * right).sum(1) - positive * (positive + 1) / 2) / (positive * (count - positive))


@dataclass(frozen=True)
class Contrast:
    """A cluster of low area, its nearest partner of high area, and the concepts that are stronger in the low one."""

    low: Cluster
    partner: Cluster
    concepts: Concepts


def audit_model(
    audited: Answered, centres: NDArray, t: NDArray, other: Answered | None = None, seed: int = SEED
) -> list[Contrast]:
    """What the images of low clusters show more than those of their partners, the lowest cluster first.

    Low is a cluster below the area of the whole audited set. Its partner is the nearest cluster (Euclid, of centres) at or above
    that area in `other`, by default in the audited set itself. The images of each are those of its own set: the reference looks
    up the partner's number among the clusters of the first set.

    The null hypothesis of a concept: the images of both clusters are one set, so membership is permuted. q corrects p for all
    concepts of the bank, since those listed were chosen by their difference. With DRAWS permutations p is at least 1 / (DRAWS +
    1); in a large bank only concepts among many of that kind can have a low q.

    Args:
        centres: of `clusters`, fitted on both sets together. t: [C, d].
    """
    reference = auc(audited.right, audited.scores)
    if reference is None:
        return []
    measured = areas(audited, seed)
    source, partners = (audited, measured) if other is None else (other, areas(other, seed))
    low = [each for each in measured if each.area is not None and each.area < reference]
    high = [each for each in partners if each.area is not None and each.area >= reference]
    contrasts = []
    for cluster in sorted(low, key=lambda each: each.area) if high else []:
        distances = np.linalg.norm(centres[[each.number for each in high]] - centres[cluster.number], axis=1)
        partner = high[int(distances.argmin())]
        sides = audited.v[audited.cluster == cluster.number], source.v[source.cluster == partner.number]
        rng = np.random.default_rng([seed, cluster.number, partner.number])
        contrasts.append(Contrast(cluster, partner, _stronger(*sides, t, rng)))
    return contrasts


def _stronger(low: NDArray, high: NDArray, t: NDArray, rng: np.random.Generator) -> Concepts:
    """The concepts with mean s(low) - mean s(high) > 0, at most LISTED."""
    every = np.concatenate([low, high]).astype(np.float64)
    member = np.concatenate([np.full(len(low), 1 / len(low)), np.full(len(high), -1 / len(high))])
    permuted = np.stack([rng.permutation(member) for _ in range(DRAWS)]) @ every
    scores = _by_concept(t, member @ every)
    as_high = [(block @ permuted.T >= scores[rows, None] - 1e-12).sum(1) for rows, block in _blocks(t)]
    q = false_discovery_control((1 + np.concatenate(as_high)) / (1 + DRAWS))
    ids = np.argsort(-scores, kind="stable")[:LISTED]
    ids = ids[scores[ids] > 0]
    return Concepts(ids, scores[ids], q[ids])


def remove(v: ArrayLike, matrix: NDArray, t: ArrayLike, llm: ArrayLike, mean: ArrayLike) -> NDArray:
    """The embeddings z' [n, e] of images when some concepts K are the same in all: normalize(v M - (s_K - mean_K) L_K).

    The rest of the bank is not needed, and what other concepts say of the same thing stays.

    Args:
        v: [n, d]. matrix: M [d, e] of the whole bank. t, llm: [K, d] and [K, e]. mean: [K], mean s of a reference set.
    """
    cosines = np.asarray(v, np.float64) @ np.asarray(t, np.float64).T
    raw = np.asarray(v, np.float64) @ matrix - (cosines - np.asarray(mean, np.float64)) @ np.asarray(llm, np.float64)
    return embedding(raw, np.eye(raw.shape[1]))[0]


@dataclass(frozen=True)
class Effect:
    """What a removal does to a label: mean change of its probability, and of the area under the ROC curve (None without both
    classes)."""

    probability: float
    area: float | None


def effect(before: ArrayLike, after: ArrayLike, right: ArrayLike) -> Effect:
    """Compares probabilities [n] with and without concepts; right [n] is 1, 0 or NaN."""
    one, other = auc(right, before), auc(right, after)
    change = float(np.mean(np.asarray(after, np.float64) - np.asarray(before, np.float64)))
    return Effect(change, None if one is None or other is None else other - one)


def _by_concept(t: NDArray, direction: NDArray) -> NDArray:
    return np.concatenate([block @ direction for _, block in _blocks(t)])


def _blocks(t: NDArray) -> Iterator[tuple[slice, NDArray]]:
    for start in range(0, len(t), BLOCK):
        rows = slice(start, start + BLOCK)
        yield rows, np.asarray(t[rows], np.float64)
