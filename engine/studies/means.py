"""Rows of means and shares with their intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from engine.evaluation.resample import Totals, ratio, share_interval
from engine.studies.results import Row


def mean(
    metric: str, values: ArrayLike, groups: Sequence[str], rounds: int, below: ArrayLike | None = None, note: str = ""
) -> Row:
    """The mean of values [n], or their sum over that of `below` [n]; NaN are left out. The interval draws whole groups."""
    values = np.asarray(values, dtype=float)
    below = np.ones(len(values)) if below is None else np.asarray(below, dtype=float)
    known = np.flatnonzero(~np.isnan(values) & ~np.isnan(below))
    if not known.size:
        return Row(metric, None, n=0, note=note)
    totals = Totals([groups[at] for at in known], {"above": values[known], "below": below[known]})
    estimate = totals.estimates({metric: ratio("above", "below")}, rounds)[metric]
    return Row(metric, estimate.value, estimate.low, estimate.high, known.size, note=note)


def share(metric: str, hits: Sequence[bool], note: str = "") -> Row:
    """The share of hits with its exact interval; no value where there is nothing to count."""
    if not len(hits):
        return Row(metric, None, n=0, note=note)
    low, high = share_interval(sum(hits), len(hits))
    return Row(metric, sum(hits) / len(hits), low, high, len(hits), note=note)


def plain_mean(metric: str, values: Sequence[float], note: str = "") -> Row:
    """The mean of values, without an interval; no value where there are none."""
    return Row(metric, float(np.mean(values)) if len(values) else None, n=len(values), note=note)
