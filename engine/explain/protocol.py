"""How a model offers itself to the methods and measures of this room.

A record is a row of *positions* (tokens, patches): whatever can be erased and given a share of the answer. The positions of all
records of a batch lie one after the other in one flat row, record by record in the order of the batch; windows, padding, special
tokens and paired texts are the model's own business. The batch itself is opaque here.
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

    def named(self, targets: Tensor) -> list[Target]:
        """What each row of `targets` stands for."""

    def take(self, batch: Any, members: Sequence[int]) -> Any:
        """A batch of these records in this order; a record may come more than once."""

    def erase(self, batch: Any, keep: np.ndarray, how: str = "mask") -> Any:
        """The batch without the positions that are false in `keep` [positions]: blanked (`mask`) or taken out (`delete`)."""

    def embed(self, batch: Any) -> Tensor:
        """Input embeddings [positions, d] in fp32: what gradients are taken to."""

    def blank(self) -> Tensor:
        """The embedding [d] of an erased position."""

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
