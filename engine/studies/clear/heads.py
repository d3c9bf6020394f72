"""Answers of each kind of head in patient-wise folds, and areas under the ROC curve with intervals by patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.findings import ranking
from engine.evaluation.resample import draws, estimate, mean_known
from engine.models.clear import bottleneck
from engine.models.clear.bank import collapse, embedding
from engine.models.clear.concepts import Bank
from engine.models.clear.network import DualEncoder
from engine.models.clear.probe import Probe, fit_probe
from engine.models.clear.zero_shot import directions
from engine.studies.clear.radiographs import concepts_in_space, in_space, words
from engine.studies.results import Row

DIRECT, PROBE, ZERO_SHOT, STANDARD, IMPROVED = HEADS = ("direct", "probe", "zero_shot", "standard", "improved")


@dataclass(frozen=True)
class Part:
    """Images of a part of the data: features [n, width] and what is known of them [n, K]."""

    features: NDArray
    right: NDArray


@dataclass(frozen=True)
class Space:
    """A dual encoder with a bank in it."""

    encoder: DualEncoder
    bank: Bank
    t: NDArray
    matrix: NDArray

    @classmethod
    def of(cls, encoder: DualEncoder, bank: Bank) -> "Space":
        t = concepts_in_space(encoder, bank)
        return cls(encoder, bank, t, collapse(t, bank.embeddings))

    def z(self, features: NDArray) -> NDArray:
        return embedding(in_space(self.encoder, features), self.matrix)[0]


def zero_shot(space: Space, names: Sequence[str], test: NDArray) -> NDArray:
    """Scores [n, K] of test features by prompts alone."""
    return space.z(test) @ directions([words(name) for name in names], space.bank.embed).T


def direct(names: Sequence[str], train: Part, valid: Part, test: NDArray) -> NDArray:
    """Scores [n, K] of a probe on the image encoder's own features."""
    return scattered(fit_probe(train.features, train.right, valid.features, valid.right, names), names, test)


def probe(space: Space, names: Sequence[str], train: Part, valid: Part) -> Probe:
    return fit_probe(space.z(train.features), train.right, space.z(valid.features), valid.right, names)


def bottlenecks(
    space: Space, names: Sequence[str], train: Part, valid: Part, test: NDArray, fitted: Probe
) -> tuple[list[list[int]], dict[str, NDArray]]:
    """The concepts chosen for each label of the probe, and the scores [n, K] of both bottlenecks."""
    bank = space.bank
    chosen = bottleneck.choose(
        fitted.weights, bank.embeddings, bank.texts, [words(name) for name in fitted.labels], bottleneck.names_label
    )
    rows = np.unique([row for each in chosen for row in each]).astype(int)
    t, embeddings, scores = space.t[rows], bank.embeddings[rows], {}
    for kind, of_bank in ((STANDARD, None), (IMPROVED, embeddings)):
        seen = [bottleneck.features(in_space(space.encoder, each), t, of_bank) for each in (train.features, valid.features, test)]
        scores[kind] = scattered(fit_probe(seen[0], train.right, seen[1], valid.right, names), names, seen[2])
    return chosen, scores


def scattered(fitted: Probe, names: Sequence[str], x: NDArray) -> NDArray:
    """The logits [n, K] of a probe in the order of all names; 0 for those without one."""
    logits = np.zeros((len(x), len(names)))
    logits[:, [names.index(name) for name in fitted.labels]] = fitted.logits(x)
    return logits


class Areas:
    """Areas under the ROC curve of labels, all on the same draws of patients.

    Args:
        right: [n, K]. patients: [n]. strata: [n], such as folds: only images of one stratum are compared with each other, since
            the scores of two models have no common scale.
    """

    def __init__(
        self, right: NDArray, patients: NDArray, names: Sequence[str], rounds: int, strata: NDArray | None = None
    ) -> None:
        self.right, self.names, self.rounds = right, names, rounds
        strata = np.zeros(len(right), int) if strata is None else strata
        self.strata = [np.flatnonzero(strata == each) for each in np.unique(strata)]
        _, self.group = np.unique(patients.astype(str), return_inverse=True)

    def of(self, scores: NDArray) -> "Curve":
        """The areas of some scores [n, K], on all images and on each draw."""
        whole = self._areas(scores, np.ones((1, len(scores))))[0]
        chunks = draws(int(self.group.max()) + 1, self.rounds, 0, scores.size)
        return Curve(whole, np.concatenate([self._areas(scores, counts[:, self.group].astype(float)) for counts in chunks]))

    def rows(self, scores: NDArray, less: Mapping[str, NDArray] | None = None) -> list[Row]:
        """Rows for each label, for their mean, and for the differences to other scores by name."""
        curve, others = self.of(scores), {name: self.of(other) for name, other in (less or {}).items()}
        rows = [
            _row("auroc", *curve.label(at), int(self.right[:, at].sum()), f"label={name}") for at, name in enumerate(self.names)
        ]
        rows.append(_row("macro_auroc", *curve.macro(), len(self.right)))
        for name, other in others.items():
            rows.append(_row("macro_auroc", *curve.less(other), len(self.right), f"less {name}"))
        return rows

    def _areas(self, scores: NDArray, weights: NDArray) -> NDArray:
        return np.stack([self._area(scores[:, at], self.right[:, at], weights) for at in range(len(self.names))], 1)

    def _area(self, scores: NDArray, right: NDArray, weights: NDArray) -> NDArray:
        """The share [draws] of pairs in order, over the pairs of all strata."""
        total, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for rows in self.strata:
            inside, yes = weights[:, rows], right[rows] == 1
            count = inside[:, yes].sum(1) * inside[:, ~yes].sum(1)
            total += np.where(count > 0, count * np.nan_to_num(ranking(scores[rows], right[rows], inside)[0]), 0.0)
            pairs += count
        return np.divide(total, pairs, out=np.full(len(total), np.nan), where=pairs > 0)


@dataclass(frozen=True)
class Curve:
    """Areas [K] on all images, and on each draw [draws, K]."""

    whole: NDArray
    drawn: NDArray

    def label(self, at: int) -> tuple[float, float | None, float | None]:
        return _interval(self.whole[at], self.drawn[:, at])

    def macro(self) -> tuple[float, float | None, float | None]:
        return _interval(mean_known(self.whole[None])[0], mean_known(self.drawn))

    def less(self, other: "Curve") -> tuple[float, float | None, float | None]:
        drawn = mean_known(self.drawn) - mean_known(other.drawn)
        return _interval(mean_known(self.whole[None])[0] - mean_known(other.whole[None])[0], drawn)


def _interval(value: float, drawn: NDArray) -> tuple[float, float | None, float | None]:
    figure = estimate(value, [drawn], 0.95)
    return figure.value, figure.low, figure.high


def _row(metric: str, value: float, low: float | None, high: float | None, n: int, part: str = "all") -> Row:
    return Row(metric, value, low, high, n, part)
