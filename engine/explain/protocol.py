"""How a model offers itself to the methods and measures of this room.

A record is a row of *positions* (tokens, patches, words and vectors of a prompt): whatever can be erased and given a share of the
answer. The positions of all records of a batch lie one after the other in one flat row, record by record in the order of the
batch; windows, padding, special tokens and paired texts are the model's own business. The batch itself is opaque here.

A position has an embedding and a blank of its own, what stands there when it is erased. Where a model reads something at a
position in several layers, its embedding is all of it side by side.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from engine.explain.explanation import Target
from engine.text.units import Units


@runtime_checkable
class Explainable(Protocol):
    """A model that can be explained.

    `targets` are a tensor whose first dimension is the records: the methods only pick rows from it. `own_methods` are names of
    methods that the model computes itself (its pooling, its attention).
    """

    score_kind: str
    own_methods: frozenset[str]

    def record_ids(self, batch: Any) -> list[str]:
        """Ids of the records: seeds of every random draw."""

    def sizes(self, batch: Any) -> np.ndarray:
        """Positions of each record [records]."""

    def units(self, batch: Any) -> list[Units]:
        """The units of each record that its positions belong to, words as a rule."""

    def named(self, batch: Any, targets: Tensor) -> list[Target]:
        """What each row of `targets` stands for."""

    def take(self, batch: Any, members: Sequence[int]) -> Any:
        """A batch of these records in this order; a record may come more than once."""

    def erase(self, batch: Any, keep: np.ndarray, how: str = "mask") -> Any:
        """The batch without the positions that are false in `keep` [positions]: blanked (`mask`) or taken out (`delete`).

        Raises:
            ContractError: nothing can be taken out of these records.
        """

    def embed(self, batch: Any) -> Tensor:
        """Input embeddings [positions, d] in fp32: what gradients are taken to."""

    def blank(self, batch: Any) -> Tensor:
        """The embeddings [positions, d] that the positions have when they are erased."""

    def score(self, batch: Any, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        """What is explained, F [records], in units of `score_kind`; differentiable with respect to `embeds`."""

    def probability(self, batch: Any, targets: Tensor) -> Tensor:
        """The target's probability [records]: what erasure measures."""

    def holds(self, batch: Any, targets: Tensor) -> Tensor:
        """Whether the model's answer still is the target [records]."""

    def relevance_rules(self, attention: str) -> AbstractContextManager[None]:
        """While open, gradients of `score` follow the rules of layer-wise relevance propagation (see `rules`)."""

    def own(self, method: str, batch: Any, targets: Tensor) -> Tensor:
        """Scores [positions] by one of `own_methods`."""


@runtime_checkable
class SpanExplainable(Explainable, Protocol):
    """A model whose targets are spans of the text."""

    def shift_margin(self, batch: Any, targets: Tensor) -> Tensor:
        """F of each span less the most that it is for one whose start or end lies a word further out or in [records]; NaN where
        there is none."""
