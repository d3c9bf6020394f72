"""The network: windows of text under the prompt of each type, and heads that say where an answer begins, ends, and what belongs.

A sequence is [CLS] H S [SEP] C [SEP]: hard words, soft vectors, context (Li et al. 2020, BERT-MRC, with soft vectors beside the
query). All types that a window is asked for pass in one batch. The heads follow the base model: one linear layer each for start
and end, and for a pair (i, j) W h + GELU + linear over [h_i, h_j], written as W1 h_i + W2 h_j so that only the pairs in question
are ever made. The tagger has no prompt and one linear layer to B, I and O of every type.

Deep prompts (P-tuning v2, Liu et al. 2022, section 3.2) have vectors for every layer: what a layer made of those at its input is
overwritten by the next one's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.encoder import Enter, Parted, layers_of
from engine.models.prompt_mrc.instances import Window
from engine.models.prompt_mrc.prompts import SoftPrompts


@dataclass
class Contexts:
    """Windows as one padded batch: `ids`, `mask` (1 up to the closing [SEP]), `starts` and `ends` (flags of tokens that may begin
    or end an answer), all [W, L]."""

    ids: Tensor
    mask: Tensor
    starts: Tensor
    ends: Tensor

    def to(self, device: torch.device | str) -> "Contexts":
        """The batch on a device."""
        return Contexts(*(getattr(self, name).to(device) for name in ("ids", "mask", "starts", "ends")))


@dataclass
class Asked:
    """The prompts of some types as far as they are encoded without a text: `states` [T, P, d] and `mask` [T, P].

    `hard` and `soft` [T, P] are flags of template words and soft vectors. `deep` has the vectors [T, P, d] of every layer but the
    first at the places of soft ones, and is empty where these enter at the first alone.
    """

    states: Tensor
    mask: Tensor
    hard: Tensor
    soft: Tensor
    deep: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.mask)

    def entering(self, rows: Tensor | slice = slice(None)) -> Enter | None:
        """What puts a layer's vectors into the states [N, P + L, d] of the prompts `rows`, None where none enter."""
        return partial(self._enter, rows) if self.deep else None

    def _enter(self, rows: Tensor | slice, states: Tensor, layer: int) -> Tensor:
        soft = self.soft[rows].bool().unsqueeze(-1)
        width = soft.shape[1]
        return torch.cat([torch.where(soft, self.deep[layer - 1][rows], states[:, :width]), states[:, width:]], 1)


@dataclass
class Found:
    """States [N, L, d] of (window, type) pairs, and start and end logits [N, L]; for the tagger [W, L, types, 3] `tags`."""

    states: Tensor
    start: Tensor | None = None
    end: Tensor | None = None
    tags: Tensor | None = None


def collate(windows: Sequence[Window], special: tuple[int, int, int, int]) -> Contexts:
    """Windows to a batch, each closed by [SEP]."""
    _, sep, pad, _ = special
    shape = (len(windows), max((len(window) for window in windows), default=0) + 1)
    ids, mask = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    starts, ends = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, window in enumerate(windows):
        count = len(window)
        ids[row, :count], ids[row, count] = window.ids, sep
        mask[row, : count + 1] = 1
        starts[row, :count], ends[row, :count] = window.starts, window.ends
    return Contexts(*(torch.from_numpy(each) for each in (ids, mask, starts, ends)))


class MatchHead(nn.Module):
    """Whether a start and an end belong together: U gelu(W1 h_i + W2 h_j + b) + c."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.second = nn.Linear(width, inner, bias=False)
        self.gelu = nn.GELU()
        self.out = nn.Linear(inner, 1)

    def forward(self, states: Tensor, row: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """Logits [pairs] of pairs of positions `first` and `last` in rows of the states [N, L, d]."""
        left, right = self.first(states[row, first]), self.second(states[row, last])
        return self.out(self.gelu(left + right)).squeeze(-1)


class MrcNetwork(nn.Module):
    """Encoder, prompts and heads; heads work in fp32 whatever the encoder's precision.

    Args:
        queries: word pieces of each type's hard words; empty ones where the mode has none.
    """

    def __init__(self, config: MrcConfig, encoder: nn.Module, queries: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.config = config
        self.parted = Parted(encoder, config.share_layers)
        self.queries = [list(each) for each in queries]
        width = encoder.config.hidden_size
        bias = math.log(config.prior / (1 - config.prior))
        if config.is_tagger:
            self.tagger = nn.Linear(width, 3 * len(config.types))
            with torch.no_grad():
                self.tagger.bias.copy_(torch.tensor([-bias, 0.0, 0.0]).repeat(len(config.types)))
        else:
            self.start, self.end = nn.Linear(width, 1), nn.Linear(width, 1)
            nn.init.constant_(self.start.bias, bias)
            nn.init.constant_(self.end.bias, bias)
            self.match = MatchHead(width, config.match_width)
            for name, words in zip(config.types, self.queries, strict=True):
                config.check_room(len(words), f"'{name}'")
        if config.is_soft:
            self.soft = SoftPrompts(config, width, len(layers_of(encoder)) if config.deep else 1)

    @property
    def encoder(self) -> nn.Module:
        return self.parted.encoder

    @torch.no_grad()
    def start_soft(self, definitions: Sequence[Sequence[int]]) -> None:
        """Sets the soft vectors as training begins from the pieces of each type's definition."""
        device = next(self.encoder.parameters()).device
        embed = self.parted.embed_deep if self.config.deep else self.parted.embed
        self.soft.start([embed(torch.tensor(list(pieces), device=device)) for pieces in definitions])

    def ask_anew(self, number: int, words: Sequence[int]) -> None:
        """Puts a question in the place of a type's, or after all of them for a type that was not trained.

        Raises:
            ConfigError: the mode reads no questions, or the question is too long.
        """
        if not self.config.is_hard:
            raise ConfigError(f"questions: a model of the mode '{self.config.mode}' reads none; take a hybrid or hard one")
        types = self.config.types
        self.config.check_room(len(words), f"'{types[number]}'" if number < len(types) else "a new type")
        self.queries[number : number + 1] = [list(words)]

    def prompt_embeds(self, types: Sequence[int]) -> Asked:
        """The prompts [CLS] H S [SEP] of some types as word embeddings, padded to the longest."""
        cls, sep, pad, _ = self.config.special
        device = next(self.encoder.parameters()).device
        hard = [[] if self.config.is_tagger or not self.config.is_hard else self.queries[number] for number in types]
        tails = [0 if self.config.is_tagger else 1] * len(hard)
        soft = self.config.soft
        width = max((1 + len(words) + soft + tail for words, tail in zip(hard, tails, strict=True)), default=1)
        ids = torch.full((len(hard), width), pad)
        flags = torch.zeros(3, len(hard), width, dtype=torch.long)
        for row, (words, tail) in enumerate(zip(hard, tails, strict=True)):
            opened = 1 + len(words)
            ids[row, 0], ids[row, 1:opened] = cls, torch.tensor(words, dtype=torch.long)
            ids[row, opened + soft : opened + soft + tail] = sep
            flags[0, row, : opened + soft + tail] = 1
            flags[1, row, 1:opened] = 1
            flags[2, row, opened : opened + soft] = 1
        ids, flags = ids.to(device), flags.to(device)
        embeds, deep = self.parted.embed(ids), []
        if soft:
            rows = torch.cat([self.soft.of(number) for number in types]).to(embeds.dtype)
            first, *later = rows.split(embeds.shape[-1], -1)
            places = flags[2].bool().unsqueeze(-1)
            embeds = embeds.masked_scatter(places, first)
            deep = [torch.zeros_like(embeds).masked_scatter(places, each) for each in later]
        return Asked(embeds, *flags, deep)

    def ask(self, types: Sequence[int]) -> Asked:
        """The prompts of some types, encoded as far as that goes without a text; to be kept where weights do not change."""
        return self.encoded(self.prompt_embeds(types))

    def encoded(self, prompts: Asked) -> Asked:
        """Prompts as word embeddings to prompts as far as they are encoded without a text."""
        return replace(prompts, states=self.parted.lower(prompts.states, prompts.mask, 0, 0, prompts.entering()))

    def read(self, contexts: Contexts, embeds: Tensor | None = None) -> Tensor:
        """States [W, L, d] of texts as far as they are encoded without a prompt."""
        embeds = self.parted.embed(contexts.ids) if embeds is None else embeds
        kind = 0 if self.config.is_tagger else 1
        return self.parted.lower(embeds, contexts.mask, self.config.context_position, kind)

    def answer(self, contexts: Contexts, read: Tensor, asked: Asked, window: Tensor, prompt: Tensor) -> Found:
        """The heads' logits for N pairs of a window and a prompt, given by their rows [N] in `contexts` and `asked`."""
        states = self.parted.upper(
            asked.states[prompt],
            asked.mask[prompt],
            read[window],
            contexts.mask[window],
            self.config.context_position,
            asked.entering(prompt),
        )
        if self.config.is_tagger:
            return Found(states, tags=self.tagger(states).unflatten(-1, (len(self.config.types), 3)))
        return Found(states, self.start(states).squeeze(-1), self.end(states).squeeze(-1))

    def forward(self, contexts: Contexts, types: Sequence[int]) -> Found:
        """Every window under every one of some types, window by window."""
        asked = self.ask(types)
        window, prompt = pairs(len(contexts.ids), len(asked), contexts.ids.device)
        return self.answer(contexts, self.read(contexts), asked, window, prompt)


def pairs(windows: int, prompts: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """All pairs of windows and prompts [windows * prompts], window by window."""
    window = torch.arange(windows, device=device).repeat_interleave(prompts)
    return window, torch.arange(prompts, device=device).repeat(windows)
