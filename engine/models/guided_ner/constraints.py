"""What guides a tagger in training, beside the labels: three losses over its tags and its saliency.

Saliency q [W, N] is a distribution over a window's words: how much each one moves F, the log-odds of one marked entity of the
window. The target r [W, N] is that entity's fused explanation, from the table `targets`. Sums over words are divided by the
constant of the other losses, so that a record's loss is the same in every batch.
"""

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-9
# The weight of the words at the edges of entities is 1 + n r, at most 1 + this.
_MOST = 3.0
MARGIN = 1.0


def divergence(one: Tensor, other: Tensor, counted: Tensor) -> Tensor:
    """The Jensen-Shannon divergences, in nats, of the tags of words by two logits [W, N, K], summed over the words `counted`."""
    logs = one.log_softmax(-1), other.log_softmax(-1)
    mean = (0.5 * (logs[0].exp() + logs[1].exp())).clamp(min=_EPS).log()
    each = sum(0.5 * (log.exp() * (log - mean)).sum(-1) for log in logs)
    return (each * counted).sum()


def edge_weights(at_edge: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """What the cross-entropy of each word counts more [W, N]: at an edge of an entity 1 + n r, with n r up to 3 and n the words
    of the window; elsewhere nothing."""
    words = mask.sum(1, keepdim=True)
    return at_edge * (1 + (words * target).clamp(max=_MOST))


def edge_loss(logits: Tensor, starts: Tensor, ends: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of the first and last words of entities by the logits [W, N, 2], summed over the words."""
    gold = torch.stack([starts, ends], -1).float()
    return (functional.binary_cross_entropy_with_logits(logits, gold, reduction="none").sum(-1) * mask).sum()


def shift_loss(own: Tensor, shifted: Tensor, factor: Tensor) -> Tensor:
    """Sum of how far F of the spans [n] fails to lie 1 above that of the best span [n, m] with an end moved by a word, times a
    factor [n]."""
    return ((MARGIN - (own - shifted.amax(-1))).clamp(min=0) * factor).sum()


def disagreement(target: Tensor, saliency: Tensor, factor: Tensor) -> Tensor:
    """KL(r || q) of each window times a factor [W], summed; q alone has a gradient."""
    target = target.detach()
    return ((target * ((target + _EPS).log() - (saliency + _EPS).log())).sum(-1) * factor).sum()


def entropy(saliency: Tensor) -> Tensor:
    """The entropy of each window's saliency [W] in nats: it grows when a constraint is met by saying nothing."""
    return -(saliency * (saliency + _EPS).log()).sum(-1)


def gradient_saliency(score: Tensor, embeds: Tensor, mask: Tensor, word: Tensor, words: int) -> Tensor:
    """|<dF/de, e>| of each word, its share [W, words]; differentiable once more.

    Args:
        score: F [W]. embeds: [W, L, d]. mask: tokens of the text [W, L]. word: the word of each token [W, L].
    """
    (slope,) = torch.autograd.grad(score.sum(), embeds, create_graph=True)
    return _shares((slope * embeds).sum(-1).abs(), mask, word, words)


def attention_saliency(attention: Tensor, within: Tensor, mask: Tensor, word: Tensor, words: int) -> Tensor:
    """The last layer's attention [W, heads, L, L] from the tokens `within` an entity [W, L] to each word, its share [W, words]
    (the cheap surrogate of REGEX and SaLoss)."""
    given = (attention.mean(1) * within.unsqueeze(-1)).sum(1)
    return _shares(given, mask, word, words)


def _shares(values: Tensor, mask: Tensor, word: Tensor, words: int) -> Tensor:
    per_word = torch.zeros(len(values), words, device=values.device).scatter_add(1, word, values.float() * mask)
    return per_word / (per_word.sum(-1, keepdim=True) + _EPS)
