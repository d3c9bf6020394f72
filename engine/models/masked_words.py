"""An encoder learns by masked language modelling: it guesses hidden tokens from those around them.

Source: Devlin et al., BERT (NAACL 2019), section 3.1: 15 % of the tokens are asked for, of which 80 % are masked, 10 % replaced
by a random token and 10 % left. The head is a linear layer with GELU and layer norm over the tied word embeddings.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.records import seed_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ASKED, _MASKED, _OTHER = 0.15, 0.8, 0.1


class _Head(nn.Module):
    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        return functional.linear(self.norm(functional.gelu(self.dense(states))), embeddings, self.bias)


class MaskedWords:
    """See `engine.training.loop.Learner`. Every parameter of the encoder is trained, in fp32.

    Args:
        special: ids of [CLS], [SEP], [PAD] and [MASK]. pieces: token ids of each piece of text. names: of the pieces; they seed
            which tokens are hidden. held: one piece in so many is held back for validation; 0: none.
    """

    def __init__(
        self,
        encoder: "PreTrainedModel",
        special: Sequence[int],
        pieces: Sequence[np.ndarray],
        names: Sequence[str],
        *,
        seed: int,
        device: torch.device,
        held: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.device, self.special = seed, device, special
        self.encoder = encoder.to(device)
        self.vocabulary = encoder.config.vocab_size
        self.head = _Head(encoder.config.hidden_size, self.vocabulary).to(device)
        self.pieces, self.names = pieces, names
        self.train = [number for number in range(len(pieces)) if not held or number % held]
        self.valid = [number for number in range(len(pieces)) if held and not number % held]

    def parameters(self) -> Mapping[str, Tensor]:
        return {
            f"{part}.{name}": value
            for part, module in (("encoder", self.encoder), ("words", self.head))
            for name, value in module.named_parameters()
        }

    def order(self, epoch: int) -> list[int]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.train).tolist()

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        ordered = sorted(examples, key=lambda number: len(self.pieces[number]))
        for at in range(0, len(ordered), 8):
            loss, counts, tokens = self._losses(ordered[at : at + 8], epoch)
            yield {"words": (loss / counts).sum()}, tokens

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Mean loss of a hidden token on held-back pieces, the same tokens hidden each time."""
        total = counted = 0.0
        for at in range(0, len(self.valid), 8):
            loss, counts, _ = self._losses(self.valid[at : at + 8], -1)
            total, counted = total + float(loss.sum()), counted + float(counts.sum())
        return {"loss": total / counted} if counted else {}

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}

    def _losses(self, group: Sequence[int], epoch: int) -> tuple[Tensor, Tensor, int]:
        """Summed losses [pieces] of hidden tokens, how many they are, and tokens read."""
        cls, sep, pad, mask = self.special
        rows = [[cls, *self.pieces[number].tolist(), sep] for number in group]
        width = max(map(len, rows))
        ids = np.full((len(rows), width), pad, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        is_token, is_target, inputs = ids != pad, np.zeros(ids.shape, bool), ids.copy()
        for at, number in enumerate(group):
            rng = np.random.default_rng(seed_of(self.names[number], "masked words", epoch, self.seed))
            count = len(rows[at]) - 2
            chosen = 1 + rng.choice(count, max(1, round(_ASKED * count)), replace=False)
            fate = rng.random(len(chosen))
            is_target[at, chosen] = True
            inputs[at, chosen[fate < _MASKED]] = mask
            other = chosen[(fate >= _MASKED) & (fate < _MASKED + _OTHER)]
            inputs[at, other] = rng.integers(self.vocabulary, size=len(other))
        targets, masked, real, whole = (torch.from_numpy(array).to(self.device) for array in (is_target, inputs, is_token, ids))
        states = self.encoder(input_ids=masked, attention_mask=real.long())[0]
        logits = self.head(states[targets], self.encoder.get_input_embeddings().weight)
        loss = functional.cross_entropy(logits, whole[targets], reduction="none")
        row = targets.nonzero()[:, 0]
        total = torch.zeros(len(rows), device=self.device).index_add(0, row, loss)
        return total, torch.bincount(row, minlength=len(rows)).float(), int(is_token.sum())
