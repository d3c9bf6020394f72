"""The network: windows of text under the prompt of each type, and heads for where an answer begins, ends, and which ends belong.

A sequence is [CLS] H S [SEP] C [SEP]: hard words, soft vectors, context (BERT-MRC, Li et al. 2020, with soft vectors beside the
query). All types that a window is asked for are in one batch. The heads follow the base model: one linear layer each for start
and end, and W h + GELU + linear over [h_i, h_j] for a pair (i, j), written as W1 h_i + W2 h_j so that only the pairs in question
are computed. The tagger has no prompt and one linear layer to B, I and O of every type.

Deep prompts (P-tuning v2, Liu et al. 2022, section 3.2) have vectors for every layer: each layer's own vectors overwrite what the
layer before made of its.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.entities.spans import Window
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.encoder import LayerInput, SplitEncoder, layers_of, load_layers
from engine.models.prompt_mrc.prompts import SoftPrompts
from engine.models.prompt_mrc.templates import definition

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The share of words that untrained heads expect to begin an entity of a type.
PRIOR = 0.02


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
        return Contexts(*(tensor.to(device) for tensor in vars(self).values()))


@dataclass
class Prompts:
    """The prompts of T types as far as they are encoded without a text: `states` [T, P, d] and `mask` [T, P].

    `hard` and `soft` [T, P] are flags of template words and soft vectors. `deep` has, for every layer but the first, the vectors
    [T, P, d] at the places of the soft ones; it is empty where soft vectors enter at the first layer only.
    """

    states: Tensor
    mask: Tensor
    hard: Tensor
    soft: Tensor
    deep: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.mask)

    def layer_input(self, rows: Tensor | slice = slice(None)) -> LayerInput | None:
        """What puts each layer's vectors into the states [N, P + L, d] of the prompts `rows`; None without deep vectors."""
        return partial(self._with_vectors, rows) if self.deep else None

    def _with_vectors(self, rows: Tensor | slice, states: Tensor, layer: int) -> Tensor:
        soft = self.soft[rows].bool().unsqueeze(-1)
        width = soft.shape[1]
        return torch.cat([torch.where(soft, self.deep[layer - 1][rows], states[:, :width]), states[:, width:]], 1)


@dataclass
class Logits:
    """States [N, L, d] of (window, type) pairs with start and end logits [N, L]; or, from a tagger, `tags` [W, L, types, 3]."""

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
    return Contexts(*map(torch.from_numpy, (ids, mask, starts, ends)))


def all_pairs(windows: int, prompts: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """All pairs of windows and prompts, as rows [windows * prompts] of each, window by window."""
    window = torch.arange(windows, device=device).repeat_interleave(prompts)
    return window, torch.arange(prompts, device=device).repeat(windows)


def word_pieces(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Word pieces of texts.

    Raises:
        ConfigError: a text has none.
    """
    pieces = [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    if not all(pieces):
        raise ConfigError("questions: a question has no words")
    return pieces


class MatchHead(nn.Module):
    """Whether a start and an end belong together: U gelu(W1 h_i + W2 h_j + b) + c."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.second = nn.Linear(width, inner, bias=False)
        self.gelu = nn.GELU()
        self.out = nn.Linear(inner, 1)

    def forward(self, states: Tensor, row: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """Logits [pairs] of positions `first` and `last` [pairs] in rows of the states [N, L, d]."""
        left, right = self.first(states[row, first]), self.second(states[row, last])
        return self.out(self.gelu(left + right)).squeeze(-1)


class MrcNetwork(nn.Module):
    """Encoder, prompts and heads; heads compute in fp32 whatever the encoder's precision."""

    def __init__(self, config: MrcConfig, encoder: nn.Module, tokenizer: "Tokenizer") -> None:
        super().__init__()
        self.config = config
        self.parted = SplitEncoder(encoder, config.share_layers)
        # Word pieces of each type's hard words.
        self.queries = word_pieces(tokenizer, config.queries) if config.is_hard else [[] for _ in config.types]
        width, bias = encoder.config.hidden_size, math.log(PRIOR / (1 - PRIOR))
        if config.is_tagger:
            self.tagger = nn.Linear(width, 3 * len(config.types))
            with torch.no_grad():
                self.tagger.bias.copy_(torch.tensor([-bias, 0.0, 0.0]).repeat(len(config.types)))
        else:
            self.start, self.end = nn.Linear(width, 1), nn.Linear(width, 1)
            nn.init.constant_(self.start.bias, bias)
            nn.init.constant_(self.end.bias, bias)
            self.match = MatchHead(width, config.match_width)
            for name, pieces in zip(config.types, self.queries, strict=True):
                config.check_room(len(pieces), f"'{name}'")
        if config.is_soft:
            self.soft = SoftPrompts(config, width, len(layers_of(encoder)) if config.deep else 1)

    @property
    def encoder(self) -> nn.Module:
        return self.parted.encoder

    @torch.no_grad()
    def start_soft(self, tokenizer: "Tokenizer") -> None:
        """Initialises the soft vectors from each type's definition; does nothing where the mode has none."""
        if self.config.is_soft:
            device = next(self.encoder.parameters()).device
            embed = self.parted.embed_deep if self.config.deep else self.parted.embed
            definitions = word_pieces(tokenizer, [definition(name, self.config) for name in self.config.types])
            self.soft.start([embed(torch.tensor(pieces, device=device)) for pieces in definitions])

    def set_query(self, number: int, pieces: Sequence[int]) -> None:
        """Replaces the hard words of a type, or appends those of a type that was not trained.

        Raises:
            ConfigError: the mode has no hard words, or the prompt gets too long.
        """
        if not self.config.is_hard:
            raise ConfigError(f"questions: a model of the mode '{self.config.mode}' reads none; take a hybrid or hard one")
        types = self.config.types
        self.config.check_room(len(pieces), f"'{types[number]}'" if number < len(types) else "a new type")
        self.queries[number : number + 1] = [list(pieces)]

    def embed_prompts(self, types: Sequence[int], words: Sequence[Sequence[int] | None] | None = None) -> Prompts:
        """The prompts [CLS] H S [SEP] of types as word embeddings, padded to the longest; a tagger's is [CLS] alone.

        Args:
            words: word pieces to stand for the query of each; None for the query.
        """
        cls, sep, pad, _ = self.config.special
        device = next(self.encoder.parameters()).device
        words = [None] * len(types) if words is None else words
        hard = [
            given if given is not None else self.queries[number] if self.config.is_hard else []
            for number, given in zip(types, words, strict=True)
        ]
        soft, closing = self.config.soft, 0 if self.config.is_tagger else 1
        width = max((1 + len(pieces) + soft + closing for pieces in hard), default=1)
        ids = torch.full((len(hard), width), pad)
        mask, is_hard, is_soft = torch.zeros(3, len(hard), width, dtype=torch.long)
        for row, pieces in enumerate(hard):
            begin = 1 + len(pieces)
            end = begin + soft
            ids[row, 0], ids[row, 1:begin] = cls, torch.tensor(pieces, dtype=torch.long)
            ids[row, end : end + closing] = sep
            mask[row, : end + closing], is_hard[row, 1:begin], is_soft[row, begin:end] = 1, 1, 1
        mask, is_hard, is_soft = (flags.to(device) for flags in (mask, is_hard, is_soft))
        embeds, deep = self.parted.embed(ids.to(device)), []
        if soft:
            vectors = torch.cat([self.soft.of(number) for number in types]).to(embeds.dtype)
            first, *later = vectors.split(embeds.shape[-1], -1)
            places = is_soft.bool().unsqueeze(-1)
            embeds = embeds.masked_scatter(places, first)
            deep = [torch.zeros_like(embeds).masked_scatter(places, layer) for layer in later]
        return Prompts(embeds, mask, is_hard, is_soft, deep)

    def encode_prompts(self, prompts: Prompts) -> Prompts:
        """Embedded prompts as far as they are encoded without a text; can be kept as long as the weights do not change."""
        return replace(prompts, states=self.parted.lower(prompts.states, prompts.mask, 0, 0, prompts.layer_input()))

    def encode_contexts(self, contexts: Contexts, embeds: Tensor | None = None) -> Tensor:
        """States [W, L, d] of texts as far as they are encoded without a prompt."""
        embeds = self.parted.embed(contexts.ids) if embeds is None else embeds
        return self.parted.lower(embeds, contexts.mask, self.config.context_position, 0 if self.config.is_tagger else 1)

    def score(self, contexts: Contexts, states: Tensor, prompts: Prompts, window: Tensor, prompt: Tensor) -> Logits:
        """The heads' logits for N pairs of a window and a prompt, given by their rows [N] in `contexts` and `prompts`.

        Args:
            states: of the contexts, from `encode_contexts`.
        """
        states = self.parted.upper(
            prompts.states[prompt],
            prompts.mask[prompt],
            states[window],
            contexts.mask[window],
            self.config.context_position,
            prompts.layer_input(prompt),
        )
        if self.config.is_tagger:
            return Logits(states, tags=self.tagger(states).unflatten(-1, (len(self.config.types), 3)))
        return Logits(states, self.start(states).squeeze(-1), self.end(states).squeeze(-1))

    def forward(self, contexts: Contexts, types: Sequence[int]) -> Logits:
        """Every window under every one of the types, window by window."""
        prompts = self.encode_prompts(self.embed_prompts(types))
        window, prompt = all_pairs(len(contexts.ids), len(prompts), contexts.ids.device)
        return self.score(contexts, self.encode_contexts(contexts), prompts, window, prompt)


def new_network(config: MrcConfig, dtype: torch.dtype, attention: str) -> MrcNetwork:
    """A network with a pretrained encoder and fresh heads and prompts, all drawn from `config.seed`.

    Args:
        config: from `templates.complete_config`.
    Raises:
        ConfigError: a query is too long, or the encoder is too small.
    """
    tokenizer = load_tokenizer(encoder_folder(config.encoder))
    encoder = load_layers(config, dtype, attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = MrcNetwork(config, encoder, tokenizer)
    network.start_soft(tokenizer)
    return network
