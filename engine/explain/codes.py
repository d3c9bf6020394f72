"""The quantity F that is explained of a classifier's logits, and the target's probability.

For one code F is its log-odds, z_c - log sum_{j != c} exp z_j, which does not saturate; for several codes at once it is the sum
of their logits. A target is a code's index [n] or, for a multi-label task, a mask [n, labels].
"""

import torch
from torch import Tensor


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """F [n] of target codes [n] under logits [n, labels]."""
    chosen = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    others = logits.scatter(-1, target.unsqueeze(-1), float("-inf")).logsumexp(-1)
    return chosen - others


def target_score(logits: Tensor, target: Tensor, multi_label: bool) -> Tensor:
    """F of the targets [n]."""
    return (logits * target).sum(-1) if multi_label else log_odds(logits, target)


def target_probability(logits: Tensor, target: Tensor, multi_label: bool, temperature: float) -> Tensor:
    """The target's probability [n] at a temperature; for several codes that of the least probable."""
    scaled = logits.double() / temperature
    if multi_label:
        prob = torch.sigmoid(scaled)
        return torch.where(target > 0, prob, torch.ones_like(prob)).amin(-1)
    return scaled.softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)


def answers(logits: Tensor, multi_label: bool) -> Tensor:
    """The model's own answers, as targets."""
    return (logits > 0).float() if multi_label else logits.argmax(-1)
