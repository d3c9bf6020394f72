"""Methods that only query the model with units erased: occlusion, LIME, KernelSHAP."""

import numpy as np
from scipy.special import gammaln

from engine.explain.passes import Scores, Work


def occlusion(work: Work) -> Scores:
    """F(x) - F(x without the unit), one unit at a time (Zeiler and Fergus 2014)."""
    whole = work.whole()
    values = work.erased([(record, np.array([unit])) for record, units in enumerate(work.units) for unit in range(len(units))])
    units = np.split(values, np.cumsum([len(units) for units in work.units])[:-1])
    return Scores([full - rest for full, rest in zip(whole, units, strict=True)], whole, _bare(work))


def lime(work: Work) -> Scores:
    """Coefficients of a ridge regression of F on the units that stay; copies near the whole text weigh most (Ribeiro et al.
    2016).

    Each unit stays with probability one half. The weight of a copy is exp(-d^2 / kernel_width^2) for the cosine distance d of its
    row of zeros and ones from the row of ones.
    """
    from sklearn.linear_model import Ridge

    masks = []
    for record, units in enumerate(work.units):
        rng = np.random.default_rng(work.seed(record, "lime"))
        masks.append(np.vstack([np.ones(len(units), bool), rng.random((samples_of(work, record) - 1, len(units))) < 0.5]))
    scores = []
    for rows, values in zip(masks, _query(work, masks), strict=True):
        distance = 1 - np.sqrt(rows.mean(1))
        near = np.exp(-((distance / work.settings.kernel_width) ** 2))
        scores.append(_coefficients(Ridge(alpha=work.settings.ridge), rows, values, near * len(near) / near.sum()))
    return Scores(scores, work.whole(), _bare(work))


def kernel_shap(work: Work) -> Scores:
    """Shapley values of the units by weighted regression (Lundberg and Lee 2017, theorem 2).

    If there are no more coalitions than samples, all are used and the values are exact. Otherwise sizes are drawn by the kernel's
    mass, and each coalition comes with its complement. The values add up to F(x) - F(everything erased) by construction: the
    constraint takes the place of one unit in the regression.
    """
    from sklearn.linear_model import LinearRegression

    whole, bare = work.whole(), work.bare()
    plans = [_coalitions(work, record) for record in range(work.records)]
    answers = _query(work, [rows for rows, _ in plans])
    scores = []
    for (rows, weight), values, top, bottom in zip(plans, answers, whole, bare, strict=True):
        gap, last = top - bottom, rows[:, -1].astype(float)
        if rows.shape[1] == 1:
            scores.append(np.array([gap]))
            continue
        model = LinearRegression(fit_intercept=False)
        others = _coefficients(model, rows[:, :-1] - last[:, None], values - bottom - last * gap, weight)
        scores.append(np.append(others, gap - others.sum()))
    return Scores(scores, whole, bare)


def samples_of(work: Work, record: int) -> int:
    """Number of copies for LIME and KernelSHAP."""
    return work.settings.samples or max(64, 4 * len(work.units[record]))


def _coalitions(work: Work, record: int) -> tuple[np.ndarray, np.ndarray]:
    """Coalitions [samples, n], neither empty nor full, and their weights [samples] in the regression."""
    count, samples = len(work.units[record]), samples_of(work, record)
    if count == 1:
        return np.zeros((0, 1), dtype=bool), np.zeros(0)
    sizes = np.arange(1, count)
    if count < 31 and 2**count - 2 <= samples:
        rows = (np.arange(1, 2**count - 1)[:, None] >> np.arange(count)) & 1 > 0
        ways = gammaln(count + 1) - gammaln(sizes + 1) - gammaln(count - sizes + 1)
        kernel = (count - 1) / (np.exp(ways) * sizes * (count - sizes))
        return rows, kernel[rows.sum(1) - 1]
    rng = np.random.default_rng(work.seed(record, "kernel_shap"))
    mass = (count - 1) / (sizes * (count - sizes))
    drawn = rng.choice(sizes, size=(samples + 1) // 2, p=mass / mass.sum())
    order = rng.random((len(drawn), count)).argsort(1).argsort(1)
    rows = order < drawn[:, None]
    return np.vstack([rows, ~rows]), np.ones(2 * len(rows))


def _query(work: Work, masks: list[np.ndarray]) -> list[np.ndarray]:
    values = work.erased([(record, row) for record, rows in enumerate(masks) for row in rows])
    return np.split(values, np.cumsum([len(rows) for rows in masks])[:-1])


def _coefficients(model: object, rows: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients [n]; NaN if a value of the model is not finite, so that the record alone is flagged and its batch goes on."""
    if not np.all(np.isfinite(values)):
        return np.full(rows.shape[1], np.nan)
    return model.fit(rows.astype(float), values, sample_weight=weight).coef_


def _bare(work: Work) -> np.ndarray | None:
    return work.bare() if work.settings.residual else None
