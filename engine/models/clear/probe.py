"""A linear probe: one logistic regression a label.

The solver is exact and without chance, so nothing is stopped early and nothing depends on a seed. The reference trains by Adam
with early stopping, keeps a shallow copy of the best weights, and so measures the last ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from engine.errors import ConfigError

STRENGTHS = tuple(10.0**exponent for exponent in range(-6, 3))
"""C of scikit-learn, on features of one size: the smaller, the nearer to 0 the weights."""

# A feature that hardly varies is not blown up.
_STEPS, _LEAST_SCALE = 5000, 1e-6


@dataclass(frozen=True)
class Probe:
    """Logits are x W' + b, for `labels` alone: W is `weights` [K, e], b `intercepts` [K], fp64.

    `strengths` [K] and `areas` [K] are the chosen C and its area under the ROC curve on validation. `skipped` says of each other
    label why it has no weights.
    """

    labels: tuple[str, ...]
    weights: NDArray
    intercepts: NDArray
    strengths: NDArray
    areas: NDArray
    skipped: Mapping[str, str]

    def logits(self, x: ArrayLike) -> NDArray:
        return np.asarray(x, np.float64) @ self.weights.T + self.intercepts


def auc(right: ArrayLike, scores: ArrayLike) -> float | None:
    """The area under the ROC curve over known answers; None where a class is missing, which is no area of 0.

    Args:
        right: [n], 1 or 0, NaN where nobody knows. scores: [n].
    """
    right, scores = np.asarray(right, np.float64), np.asarray(scores, np.float64)
    known = ~np.isnan(right)
    return float(roc_auc_score(right[known], scores[known])) if len(np.unique(right[known])) == 2 else None


def fit_probe(
    x: ArrayLike,
    right: ArrayLike,
    valid_x: ArrayLike,
    valid_right: ArrayLike,
    labels: Sequence[str],
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fits each label on its known answers, with the C of the highest area on validation, of equals the smallest.

    Features are fitted with mean 0 and deviation 1 in train, which the weights take in: they are those of x as it is given.

    Args:
        x: features [n, e]. right: [n, K], 1 or 0, NaN where nobody knows. valid_x, valid_right: the same of validation.
    Raises:
        ConfigError: no label can be fitted.
    """
    x, valid_x = np.asarray(x, np.float64), np.asarray(valid_x, np.float64)
    right, valid_right = np.asarray(right, np.float64), np.asarray(valid_right, np.float64)
    answered = x[~np.isnan(right).all(1)]
    mean, scale = answered.mean(0), np.maximum(answered.std(0), _LEAST_SCALE)
    x, valid_x = (x - mean) / scale, (valid_x - mean) / scale
    fitted: dict[str, tuple[float, float, LogisticRegression]] = {}
    skipped: dict[str, str] = {}
    for column, label in enumerate(labels):
        known, answers = ~np.isnan(right[:, column]), valid_right[:, column]
        sides = {"train": right[known, column], "valid": answers[~np.isnan(answers)]}
        lacking = [side for side, values in sides.items() if len(np.unique(values)) < 2]
        if lacking:
            skipped[label] = f"not both classes in {' and '.join(lacking)}"
            continue
        for strength in sorted(strengths):
            model = LogisticRegression(C=strength, max_iter=_STEPS).fit(x[known], right[known, column])
            area = auc(answers, model.decision_function(valid_x))
            if label not in fitted or area > fitted[label][0]:
                fitted[label] = area, strength, model
    if not fitted:
        raise ConfigError("no label has both classes in train and in valid; a probe needs at least one that has")
    areas, chosen, models = zip(*fitted.values(), strict=True)
    weights = np.concatenate([model.coef_ for model in models]) / scale
    intercepts = np.concatenate([model.intercept_ for model in models]) - weights @ mean
    return Probe(tuple(fitted), weights, intercepts, np.array(chosen), np.array(areas), skipped)
