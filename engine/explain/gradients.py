"""Methods from gradients: one forward and one backward pass per record, or per step."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.explain.passes import Scores, Work


def times_input(embeds: Tensor, baseline: Tensor | float, slope: Tensor) -> Tensor:
    """(x - b) . dF/dx of positions, [..., d] to [...]."""
    return ((embeds - baseline) * slope).sum(-1)


def gradient_x_input(work: Work) -> Scores:
    """(x_t - b_t) . dF/dx_t: to first order, what F loses when the position is blanked (Shrikumar et al. 2017)."""
    return _times_input(work, "gradient_x_input")


def attnlrp(work: Work) -> Scores:
    """Gradient times input under the rules of relevance propagation (`rules`; Achtibat et al. 2024, AttnLRP)."""
    with work.model.relevance_rules():
        return _times_input(work, "attnlrp")


def grad_l2(work: Work) -> Scores:
    """The length of dF/dx_t, unsigned (Bastings et al. 2022); a unit's is the sum of its positions'."""
    whole = np.zeros(work.records)

    def lengths(places: list[int], batch: Any, targets: Tensor) -> Tensor:
        whole[places], slope = slopes(work, batch, targets, work.model.embed(batch))
        return slope.norm(dim=-1)

    return Scores(work.unit_scores(lengths), whole)


def integrated_gradients(work: Work) -> Scores:
    """(x_t - b_t) . mean of dF/dx_t on the straight line from b to x (Sundararajan et al. 2017).

    The mean is taken by Gauss-Legendre quadrature at `steps` points; the residual is the method's convergence delta. Records and
    steps share passes, so memory is that of one pass for any number of steps.
    """
    kind = baseline_kind("integrated_gradients", work.settings.baseline)
    nodes, weights = np.polynomial.legendre.leggauss(work.settings.steps)
    alphas, weights = (nodes + 1) / 2, weights / 2
    members = np.repeat(np.arange(work.records), len(alphas))
    totals = [np.zeros(size) for size in work.sizes]
    for places, batch, targets in work.passes(members):
        records, steps = members[places], np.asarray(places) % len(alphas)
        end = work.model.embed(batch)
        start = work.baseline(records, batch, end, kind)
        alpha = torch.from_numpy(np.repeat(alphas[steps], work.sizes[records])).to(end).unsqueeze(-1)
        _, slope = slopes(work, batch, targets, start + alpha * (end - start))
        values = work.split(records, times_input(end, start, slope))
        for record, step, value in zip(records, steps, values, strict=True):
            totals[record] += weights[step] * value
    units = [work.to_units(record, values) for record, values in enumerate(totals)]
    return Scores(units, *((work.whole(), at_baseline(work, kind)) if work.settings.residual else (None, None)))


def baseline_kind(method: str, setting: str) -> str:
    """The baseline of a method, its own if the setting is `default`."""
    return ("zero" if method == "attnlrp" else "mask") if setting == "default" else setting


def slopes(work: Work, batch: Any, targets: Tensor, embeds: Tensor) -> tuple[np.ndarray, Tensor]:
    """F [records] and dF/dx [positions, d] at given embeddings."""
    with torch.enable_grad():
        leaf = embeds.detach().requires_grad_()
        score = work.model.score(batch, targets, embeds=leaf)
        (slope,) = torch.autograd.grad(score.sum(), leaf)
    return score.detach().double().cpu().numpy(), slope.float()


def _times_input(work: Work, method: str) -> Scores:
    kind, whole = baseline_kind(method, work.settings.baseline), np.zeros(work.records)

    def products(places: list[int], batch: Any, targets: Tensor) -> Tensor:
        embeds = work.model.embed(batch)
        whole[places], slope = slopes(work, batch, targets, embeds)
        return times_input(embeds, work.baseline(places, batch, embeds, kind), slope)

    return Scores(work.unit_scores(products), whole, at_baseline(work, kind) if work.settings.residual else None)


@torch.no_grad()
def at_baseline(work: Work, kind: str) -> np.ndarray:
    """F [records] at the baseline of the gradients, see `Work.baseline`."""
    if kind == "mask":
        return work.bare()
    values = np.zeros(work.records)
    for places, batch, targets in work.passes(range(work.records)):
        empty = work.baseline(places, batch, work.model.embed(batch), kind)
        values[places] = work.model.score(batch, targets, embeds=empty).double().cpu().numpy()
    return values
