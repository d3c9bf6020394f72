"""Methods that only ask the model again with units erased: occlusion, LIME, KernelSHAP."""

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
    """Weights of a ridge regression of F on which units are left, near the whole text counting most (Ribeiro et al. 2016).

    Each unit stays with probability one half; the nearness of a copy is exp(-d^2 / kernel_width^2) for the cosine distance d of
    its row of zeros and ones to the row of ones.
    """
    from sklearn.linear_model import Ridge

    drawn = []
    for record, units in enumerate(work.units):
        rng = np.random.default_rng(work.seed(record, "lime"))
        drawn.append(np.vstack([np.ones(len(units), bool), rng.random((samples_of(work, record) - 1, len(units))) < 0.5]))
    found = []
    for rows, values in zip(drawn, _asked(work, drawn), strict=True):
        distance = 1 - np.sqrt(rows.mean(1))
        near = np.exp(-((distance / work.settings.kernel_width) ** 2))
        found.append(_fitted(Ridge(alpha=work.settings.ridge), rows, values, near * len(near) / near.sum()))
    return Scores(found, work.whole(), _bare(work))


def kernel_shap(work: Work) -> Scores:
    """Shapley values of the units by weighted regression (Lundberg and Lee 2017, theorem 2).

    Where all coalitions are no more than the samples, they are all asked and the values are exact. Else sizes are drawn by the
    kernel's own mass and each coalition comes with its complement. The values add up to F(x) - F(everything erased) by
    construction: that constraint takes the place of one unit in the regression.
    """
    from sklearn.linear_model import LinearRegression

    whole, bare = work.whole(), work.bare()
    plans = [_coalitions(work, record) for record in range(work.records)]
    answers = _asked(work, [rows for rows, _ in plans])
    found = []
    for (rows, weight), values, top, bottom in zip(plans, answers, whole, bare, strict=True):
        gap = top - bottom
        if rows.shape[1] == 1:
            found.append(np.array([gap]))
            continue
        last = rows[:, -1].astype(float)
        first = _fitted(LinearRegression(fit_intercept=False), rows[:, :-1] - last[:, None], values - bottom - last * gap, weight)
        found.append(np.append(first, gap - first.sum()))
    return Scores(found, whole, bare)


def samples_of(work: Work, record: int) -> int:
    """Copies that LIME and KernelSHAP ask the model about."""
    return work.settings.samples or max(64, 4 * len(work.units[record]))


def _coalitions(work: Work, record: int) -> tuple[np.ndarray, np.ndarray]:
    """Coalitions [samples, n], neither empty nor full, and their weights in the regression [samples]."""
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


def _asked(work: Work, drawn: list[np.ndarray]) -> list[np.ndarray]:
    values = work.erased([(record, row) for record, rows in enumerate(drawn) for row in rows])
    return np.split(values, np.cumsum([len(rows) for rows in drawn])[:-1])


def _fitted(model: object, rows: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients [n]; no number where the model gave none, so that the record is flagged and not its batch lost."""
    if not np.all(np.isfinite(values)):
        return np.full(rows.shape[1], np.nan)
    return model.fit(rows.astype(float), values, sample_weight=weight).coef_


def _bare(work: Work) -> np.ndarray | None:
    return work.bare() if work.settings.residual else None
