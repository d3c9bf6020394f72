"""Deformable phrase-level attention: words and the phrases around them, whose places are learned.

The published system (Metzner et al., arXiv 2507.21302) gives no equations; this is our reconstruction from deformable convolution
(Dai et al. 2017; Zhu et al. 2019, "v2") in one dimension and the same authors' target attention. For token i and sample j of K,
with h the token states [d] of a window whose text stands at 0..n-1:

    pos_ij = clip(i + j - (K-1)/2 + R tanh(W_r h_i)_j, 0, n-1)      j = 0..K-1, K = 3, R the reach
    s_ij   = h at pos_ij, linear between its two neighbours
    m_ij   = 2 sigmoid((W_m h_i)_j)
    p_i    = tanh(W_p [m_i1 s_i1; ...; m_iK s_iK])

    a^w = softmax_i(q_w . ELU(K_w h_i) / sqrt d)    c_w = sum_i a^w_i h_i
    a^p = softmax_i(q_p . ELU(K_p p_i) / sqrt d)    c_p = sum_i a^p_i p_i

and the context is [c_w; c_p]. W_r and W_m start at 0: a plain window of K tokens. The weight of a phrase is divided among the
tokens that it was sampled from, by m_ij / sum_j m_ij and the two neighbours' shares of the interpolation.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.models.site_classifier.heads import Attended, Pool, query_scores, record_softmax, record_sums

if TYPE_CHECKING:
    from engine.models.tokens import Batch

SAMPLES = 3


class DeformablePhrases(Pool):
    """See the module; with a `reach` of 0 samples do not move."""

    def __init__(self, states: int, reach: float) -> None:
        super().__init__()
        self.width = 2 * states
        self.reach = reach
        scale = states**-0.5
        self.word_key = nn.Linear(states, states)
        self.word_query = nn.Parameter(nn.init.normal_(torch.empty(states), std=scale))
        self.offset = _zeroed(nn.Linear(states, SAMPLES))
        self.gate = _zeroed(nn.Linear(states, SAMPLES))
        self.phrase = nn.Linear(SAMPLES * states, states)
        self.phrase_key = nn.Linear(states, states)
        self.phrase_query = nn.Parameter(nn.init.normal_(torch.empty(states), std=scale))

    def forward(self, states: Tensor, batch: "Batch", constant: bool = False) -> Attended:
        words = record_softmax(query_scores(self.word_query, self.word_key(states)), batch, constant)
        word_context = record_sums(words, states, batch).squeeze(1)
        place, gate = self._places(states, batch)
        place, gate = (place.detach(), gate.detach()) if constant else (place, gate)
        phrases = self._phrases(states, place, gate)
        chosen = record_softmax(query_scores(self.phrase_query, self.phrase_key(phrases)), batch, constant)
        phrase_context = record_sums(chosen, phrases, batch).squeeze(1)
        weights = torch.cat([words, _to_tokens(chosen.squeeze(-1), place, gate).unsqueeze(-1)], -1)
        return Attended(torch.cat([word_context, phrase_context], -1), weights, (phrases, chosen, place, gate))

    def shares(self, states: Tensor, attended: Attended, slope: Tensor) -> Tensor:
        word_slope, phrase_slope = slope.split(states.shape[-1], -1)
        phrases, chosen, place, gate = attended.parts
        words = torch.einsum("wld,wd->wl", states, word_slope) * attended.weights[..., 0]
        return words + _to_tokens(torch.einsum("wld,wd->wl", phrases, phrase_slope) * chosen.squeeze(-1), place, gate)

    def _places(self, states: Tensor, batch: "Batch") -> tuple[Tensor, Tensor]:
        """Places and gates of each token's samples, [W, L, K] each, in fp32 whatever the precision of the states."""
        text, index = batch.text.int(), torch.arange(states.shape[1], device=states.device)
        # A text with masked tokens has holes, so the number of tokens does not say where it ends.
        first, last = text.argmax(1).view(-1, 1, 1), (text * index).amax(1).view(-1, 1, 1)
        index = index.view(1, -1, 1)
        window = torch.arange(SAMPLES, device=states.device) - (SAMPLES - 1) / 2
        with torch.autocast(states.device.type, enabled=False):
            shift = self.reach * torch.tanh(self.offset(states.float()))
            gate = 2 * torch.sigmoid(self.gate(states.float()))
            place = torch.minimum(torch.maximum(index + window + shift, first.float()), last.float())
        return place, gate

    def _phrases(self, states: Tensor, place: Tensor, gate: Tensor) -> Tensor:
        low, high, part = _neighbours(place)
        sampled = torch.lerp(_at(states, low), _at(states, high), part.unsqueeze(-1))
        return torch.tanh(self.phrase((gate.unsqueeze(-1) * sampled).flatten(2)))


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _neighbours(place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The token at or below a place, the next token, and the place's distance from the lower one.

    At a whole number the next token has no share, but it has a slope: without that no place would ever begin to move.
    """
    low = place.detach().floor().long()
    high = (low + 1).clamp_max(place.shape[1] - 1)
    return low, high, place - low


def _at(states: Tensor, index: Tensor) -> Tensor:
    """States [W, L, K, d] of tokens by index [W, L, K]."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, states.shape[-1])
    return states.gather(1, flat).view(*index.shape, states.shape[-1])


def _to_tokens(values: Tensor, place: Tensor, gate: Tensor) -> Tensor:
    """Values [W, L] of phrases, divided among the tokens that they were sampled from."""
    low, high, part = _neighbours(place)
    shares = values.unsqueeze(-1) * gate / gate.sum(-1, keepdim=True)
    total = torch.zeros_like(values).scatter_add(1, low.flatten(1), (shares * (1 - part)).flatten(1))
    return total.scatter_add(1, high.flatten(1), (shares * part).flatten(1))
