"""Which tokens decided: methods that need one forward pass and at most one backward pass a task.

The score that they explain is defined in `engine.explain.codes`.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from engine.explain.codes import target_score
from engine.explain.gradients import times_input
from engine.models.site_classifier.network import Pooled, SiteNetwork
from engine.models.tokens import Batch

Scores = Mapping[str, Tensor]


def attention(network: SiteNetwork, batch: Batch, embeds: Tensor, pooled: Pooled, targets: Mapping[str, Tensor]) -> Scores:
    """The pool's weights, averaged over its queries: where the model looked, which need not be why it answered.

    The head `cls` has no weights and gets those of the encoder's last layer. The windows of a record count alike, and the part of
    special tokens is missing from the sum.
    """
    if network.config.head != "cls":
        return {name: attended.weights.detach().mean(-1) for name, attended in pooled.attended.items()}
    windows = torch.bincount(batch.record, minlength=batch.records)[batch.record].unsqueeze(-1)
    return dict.fromkeys(pooled.attended, network.first_attention(batch) * batch.text / windows)


@torch.no_grad()
def specials_mass(network: SiteNetwork, batch: Batch) -> Tensor:
    """The share of each record's attention that lies on special tokens, [records]; 0 for every head but `cls`."""
    total = torch.zeros(batch.records, device=batch.ids.device)
    if network.config.head == "cls":
        outside = (network.first_attention(batch) * ~batch.text.bool()).sum(1)
        total = total.index_add(0, batch.record, outside)
        total = total / torch.bincount(batch.record, minlength=batch.records).clamp_min(1)
    return total


def pooling(network: SiteNetwork, batch: Batch, embeds: Tensor, pooled: Pooled, targets: Mapping[str, Tensor]) -> Scores:
    """Each token's exact share of the linear part, without a backward pass through the encoder.

    For the attention pool it is sum_k a_kt (dF/dc_k . h_t).
    """
    scores = {}
    for name, attended in pooled.attended.items():
        with torch.enable_grad():
            context = attended.context.detach().requires_grad_()
            total = target_score(network.heads[name](context), targets[name], network.config.task(name).multi_label).sum()
        (slope,) = torch.autograd.grad(total, context)
        with torch.no_grad():
            scores[name] = network.pools[name].shares(pooled.states, attended, slope[batch.record])
    return scores


def gradient_x_input(network: SiteNetwork, batch: Batch, embeds: Tensor, pooled: Pooled, targets: Mapping[str, Tensor]) -> Scores:
    """(x_t - x_[MASK]) . dF/dx_t: to first order, what F loses when the token is masked (Shrikumar et al. 2017)."""
    blank = network.embed(torch.tensor(network.config.special[3], device=embeds.device)).detach()
    return {name: times_input(embeds.detach(), blank, slope) for name, slope in _slopes(network, embeds, pooled.logits, targets)}


def attnlrp(network: SiteNetwork, batch: Batch, embeds: Tensor, pooled: Pooled, targets: Mapping[str, Tensor]) -> Scores:
    """Relevance: x_t . dF/dx_t under the rules of `engine.explain.rules`, with the pool's weights as constants.

    The forward pass must have run under those rules, and they must still be in force.
    """
    logits = network.pool(batch, pooled.states, constant=True).logits
    return {name: times_input(embeds.detach(), 0.0, slope) for name, slope in _slopes(network, embeds, logits, targets)}


def grad_l2(network: SiteNetwork, batch: Batch, embeds: Tensor, pooled: Pooled, targets: Mapping[str, Tensor]) -> Scores:
    """The length of dF/dx_t: unsigned (Bastings et al. 2022 find it hard to beat on BERT)."""
    return {name: slope.norm(dim=-1) for name, slope in _slopes(network, embeds, pooled.logits, targets)}


def _slopes(
    network: SiteNetwork, embeds: Tensor, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    names = list(logits)
    for name in names:
        total = target_score(logits[name], targets[name], network.config.task(name).multi_label).sum()
        (slope,) = torch.autograd.grad(total, embeds, retain_graph=name != names[-1])
        yield name, slope.float()


Method = Callable[[SiteNetwork, Batch, Tensor, Pooled, Mapping[str, Tensor]], Scores]

METHODS: Mapping[str, Method] = {
    "attention": attention,
    "pooling": pooling,
    "gradient_x_input": gradient_x_input,
    "grad_l2": grad_l2,
    "attention_constant": gradient_x_input,
    "attnlrp": attnlrp,
}
NEEDS_BACKWARD = frozenset({"gradient_x_input", "grad_l2", "attention_constant", "attnlrp"})
