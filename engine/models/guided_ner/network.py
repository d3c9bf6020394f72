"""The network: an encoder, perhaps a BiLSTM, and a linear layer to the tags of each token; a CRF scores whole windows.

Words are tagged at the first of their tokens. `spans` gives the log-probability of a span under the tags: for softmax the sum of
its words' log-probabilities and that no I of its type follows; for a CRF the share of all paths, by forward and backward sums,
that tag exactly these words so.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.models.characters import new_encoder
from engine.models.entities.spans import Window
from engine.models.guided_ner.config import SOFTMAX, Config
from engine.models.guided_ner.crf import Crf

if TYPE_CHECKING:
    from engine.models.tokens import Batch

_EPS = 1e-6


class Network(nn.Module):
    """`glob` [vocabulary, types] is the global table: how much a token says for a type, over the training texts. No loss reaches
    it."""

    def __init__(self, config: Config, attention: str = "eager") -> None:
        super().__init__()
        self.config = config
        self.encoder = new_encoder(config.encoder, attention)
        width = self.encoder.config.hidden_size
        self.lstm = BiLstm(width, config.lstm) if config.lstm else None
        width = 2 * config.lstm or width
        self.tags = nn.Linear(width, config.tags)
        # Logits of the first and the last word of an entity of any type, which only training uses.
        self.edges = nn.Linear(width, 2)
        self.crf = None if config.head == SOFTMAX else Crf(len(config.types))
        self.glob = nn.Parameter(torch.zeros(self.encoder.config.vocab_size, len(config.types)))

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings [..., d]."""
        return self.encoder.get_input_embeddings()(ids)

    def states(self, batch: "Batch", embeds: Tensor | None = None, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """States [W, L, d] in fp32, and with `attention` the last layer's attention [W, heads, L, L]."""
        embeds = self.embed(batch.ids) if embeds is None else embeds
        out = self.encoder(inputs_embeds=embeds, attention_mask=batch.mask, output_attentions=attention)
        states = out.last_hidden_state.float()
        if self.lstm is not None:
            states = self.lstm(states, batch.mask.sum(1))
        return states, out.attentions[-1] if attention else None

    def forward(self, batch: "Batch", embeds: Tensor | None = None) -> Tensor:
        """Logits of the tags [W, L, K], those of [CLS] and [SEP] included."""
        return self.tags(self.states(batch, embeds)[0])

    def spans(self, logits: Tensor, words: "Words", rows: Tensor, first: Tensor, last: Tensor, kinds: Tensor) -> Tensor:
        """Log-probabilities [n] of spans from word `first` to `last` of the types `kinds` [n] in `rows` [n] of a batch.

        Args:
            logits: of tokens [W, L, K], without those of [CLS].
        """
        emissions, count = words.of(logits), words.mask.sum(1)[rows]
        begin, inside = 1 + 2 * kinds, 2 + 2 * kinds
        places = torch.arange(emissions.shape[1], device=logits.device)
        within = (places > first.unsqueeze(1)) & (places <= last.unsqueeze(1))
        after, goes_on = (last + 1).clamp(max=emissions.shape[1] - 1), last + 1 < count
        if self.crf is None:
            probs = emissions.log_softmax(-1)[rows]
            at = torch.arange(len(rows), device=logits.device)
            inner = (probs.gather(-1, inside.view(-1, 1, 1).expand(-1, probs.shape[1], 1)).squeeze(-1) * within).sum(1)
            stops = torch.log1p(-probs[at, after, inside].exp().clamp(max=1 - _EPS))
            return probs[at, first, begin] + inner + torch.where(goes_on, stops, 0.0)
        alphas, betas = self.crf.alphas(emissions, words.mask), self.crf.betas(emissions, words.mask)
        steps, _ = self.crf.transitions
        inner = emissions[rows].gather(-1, inside.view(-1, 1, 1).expand(-1, emissions.shape[1], 1)).squeeze(-1)
        longer = last > first
        moves = torch.where(longer, steps[begin, inside] + (last - first - 1) * steps[inside, inside], 0.0)
        tag = torch.where(longer, inside, begin)
        onward = steps[tag] + emissions[rows, after] + betas[rows, after]
        onward = onward.masked_fill(torch.arange(emissions.shape[-1], device=logits.device) == inside.unsqueeze(1), float("-inf"))
        ends = torch.where(goes_on, onward.logsumexp(-1), self.crf.last[tag])
        path = alphas[rows, first, begin] + (inner * within).sum(1) + moves + ends
        return path - self.crf.log_partition(alphas)[rows]


class BiLstm(nn.Module):
    """An LSTM over the tokens of each window and one from the last to the first; on a processor some seven times as fast as
    packed sequences."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.onward, self.back = (nn.LSTM(width, units, batch_first=True) for _ in range(2))

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """States [W, L, 2 * units] of states [W, L, d] with `lengths` [W] real tokens, behind which padding changes nothing."""
        places = torch.arange(states.shape[1], device=states.device)
        turned = lengths.unsqueeze(1) - 1 - places
        turned = torch.where(turned >= 0, turned, places).unsqueeze(-1)
        back, _ = self.back(states.gather(1, turned.expand_as(states)))
        return torch.cat([self.onward(states)[0], back.gather(1, turned.expand_as(back))], -1)


class Words:
    """Where the words of some windows are: the token of each word's first piece [W, N], and a mask [W, N] of real words."""

    def __init__(self, windows: Sequence[Window], device: torch.device | str) -> None:
        starts = [torch.from_numpy(window.words[0]) for window in windows]
        counts = torch.tensor([len(each) for each in starts])
        # A window within one long word has none.
        width = max(1, *counts.tolist())
        self.at = torch.stack([nn.functional.pad(each, (0, width - len(each))) for each in starts]).to(device)
        self.mask = (torch.arange(width) < counts.unsqueeze(1)).to(device)

    def of(self, values: Tensor) -> Tensor:
        """The values [W, N, ...] at the words, of those of tokens [W, L, ...]."""
        return values.gather(1, self.at.unsqueeze(-1).expand(-1, -1, values.shape[-1]))

    def number(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """The word [n] in which the tokens [n] of `rows` [n] lie."""
        return ((self.at[rows] <= tokens.unsqueeze(1)) & self.mask[rows]).sum(1) - 1


def log_odds(log_probability: Tensor) -> Tensor:
    """log p - log (1 - p), finite for every p."""
    return log_probability - torch.log1p(-log_probability.exp().clamp(max=1 - _EPS))
