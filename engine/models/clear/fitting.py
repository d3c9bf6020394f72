"""What answers are made of, fitted on labelled studies: a direction in the concept embedding for each finding.

Whatever the head, an answer is z.p + b, so that the same sum over concepts explains it. A bottleneck is the same on a bank of a
few concepts, chosen for each finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.models.clear import bottleneck
from engine.models.clear.bank import collapse, embedding
from engine.models.clear.concepts import Bank
from engine.models.clear.config import BOTTLENECK, ZERO_SHOT
from engine.models.clear.probe import Probe, fit_probe
from engine.models.clear.space import Space
from engine.models.clear.zero_shot import directions
from engine.models.findings.decide import FindingCalibration


@dataclass(frozen=True)
class Labelled:
    """Images v [n, d] in the shared space, and what is known of them, states [n, K]: 1, 0, or anything else."""

    v: NDArray
    states: NDArray

    @property
    def right(self) -> NDArray:
        """States as 1, 0 and NaN."""
        return np.where(np.isin(self.states, (0, 1)), self.states, np.nan)


@dataclass(frozen=True)
class Head:
    """A fitted head: its space, the rows of the bank that it uses, and why a finding is answered by prompts instead."""

    space: Space
    concepts: NDArray
    by_prompts: dict[str, str]

    def logits(self, v: NDArray) -> NDArray:
        """Logits [n, K] of images v [n, d]."""
        return embedding(v, self.space.matrix)[0] @ self.space.directions + self.space.intercepts


def fit_head(kind: str, t: NDArray, concepts: Bank, names: Sequence[str], train: Labelled, valid: Labelled) -> Head:
    """The head of a kind; a finding that lacks yes or no in train or valid is answered by prompts.

    Args:
        t: [C, d], the concepts of the bank in the shared space. valid: chooses the strength of the probe.
    """
    prompts = directions(names, concepts.embed)
    rows, matrix = np.arange(len(t)), collapse(t, concepts.embeddings)
    if kind == ZERO_SHOT:
        return Head(_space(t, concepts.embeddings, matrix, train, prompts.T, np.zeros(len(names))), rows, {})
    probe = _probe(matrix, names, train, valid)
    if kind == BOTTLENECK:
        chosen = bottleneck.choose(probe.weights, concepts.embeddings, concepts.texts, probe.labels, bottleneck.names_label)
        rows = np.unique([row for of_label in chosen for row in of_label]).astype(int)
        t, matrix = t[rows], collapse(t[rows], concepts.embeddings[rows])
        probe = _probe(matrix, names, train, valid)
    weights, intercepts = prompts.copy(), np.zeros(len(names))
    for row, name in enumerate(probe.labels):
        weights[names.index(name)], intercepts[names.index(name)] = probe.weights[row], probe.intercepts[row]
    space = _space(t, concepts.embeddings[rows], matrix, train, weights.T, intercepts)
    return Head(space, rows, dict(probe.skipped))


def _probe(matrix: NDArray, names: Sequence[str], train: Labelled, valid: Labelled) -> Probe:
    parts = [part for each in (train, valid) for part in (embedding(each.v, matrix)[0], each.right)]
    return fit_probe(*parts, list(names))


def _space(t: NDArray, embeddings: NDArray, matrix: NDArray, train: Labelled, directions: NDArray, intercepts: NDArray) -> Space:
    centre = (train.v / embedding(train.v, matrix)[1][:, None]).mean(0)
    return Space(t, matrix, centre, directions, intercepts, np.asarray(embeddings, np.float64) @ directions)


def calibrated(
    space: Space, names: Sequence[str], fitted: Mapping[str, FindingCalibration]
) -> tuple[Space, dict[str, FindingCalibration]]:
    """A space whose logits are calibrated log-odds, and the calibration that is left: thresholds and bounds.

    A strong ridge gives logits that hardly differ, and single precision, in which rows have them, would drop what does.
    """
    temperature = np.array([fitted[name].temperature for name in names])
    bias = np.array([fitted[name].bias for name in names])
    scaled = {name: getattr(space, name) / temperature for name in ("directions", "weights")}
    left = {name: replace(fitted[name], temperature=1.0, bias=0.0) for name in names}
    return replace(space, intercepts=space.intercepts / temperature + bias, **scaled), left


def concept_table(concepts: Bank, rows: NDArray) -> pa.Table:
    """The concepts of a head, for its checkpoint."""
    columns = {"concept_id": rows.astype(np.int32), "text": [concepts.texts[row] for row in rows]}
    return pa.table({**columns, "n_reports": concepts.n_reports[rows]})
