"""The interface between a model and the methods and measures of this package.

A record is a row of *positions* (tokens, patches, words and vectors of a prompt): whatever can be erased and given a share of the
answer. The positions of all records of a batch form one flat row, record by record. Windows, padding, special tokens and paired
texts are the model's own business, and the batch itself is opaque here.

Each position has an embedding, and a blank that replaces it when it is erased. If a model reads a position in several layers, the
embedding is the concatenation.
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

    The first dimension of the tensor `targets` is the records: the methods only select rows of it. `own_methods` are names of
    methods that the model computes itself (its pooling, its attention).
    """

    score_kind: str
    own_methods: frozenset[str]

    def record_ids(self, batch: Any) -> list[str]:
        """Ids of the records, which seed every random draw."""

    def sizes(self, batch: Any) -> np.ndarray:
        """Positions of each record [records]."""

    def units(self, batch: Any) -> list[Units]:
        """The units of each record, usually words."""

    def named(self, batch: Any, targets: Tensor) -> list[Target]:
        """The name of each row of `targets`."""

    def take(self, batch: Any, members: Sequence[int]) -> Any:
        """A batch of these records in this order; a record may come several times."""

    def erase(self, batch: Any, keep: np.ndarray, how: str = "mask") -> Any:
        """The batch with the positions that are false in `keep` [positions] blanked (`mask`) or removed (`delete`).

        Raises:
            ContractError: nothing can be removed from these records.
        """

    def embed(self, batch: Any) -> Tensor:
        """Input embeddings [positions, d] in fp32, with respect to which gradients are taken."""

    def blank(self, batch: Any) -> Tensor:
        """The embeddings [positions, d] of erased positions."""

    def score(self, batch: Any, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        """What is explained, F [records], in units of `score_kind`; differentiable with respect to `embeds`."""

    def probability(self, batch: Any, targets: Tensor) -> Tensor:
        """The target's probability [records], which erasure measures."""

    def holds(self, batch: Any, targets: Tensor) -> Tensor:
        """Whether the target is still the model's answer [records]."""

    def relevance_rules(self) -> AbstractContextManager[None]:
        """A context in which gradients of `score` follow the rules of layer-wise relevance propagation (see `rules`)."""

    def own(self, method: str, batch: Any, targets: Tensor) -> Tensor:
        """Scores [positions] by one of `own_methods`."""


@runtime_checkable
class Perturbable(Explainable, Protocol):
    """A model whose records can be changed in other ways than by erasing positions, and that says what must never change."""

    def spared(self, batch: Any, targets: Tensor) -> list[np.ndarray]:
        """Flags of each record's units [n], as `units` has them, that no copy may change."""

    def replaced(self, batch: Any, chosen: np.ndarray, seeds: Sequence[int]) -> Any:
        """The batch with the `chosen` [positions] replaced by others of their class, drawn by the seed of each record."""

    def noised(self, batch: Any, chosen: np.ndarray, seeds: Sequence[int], scale: float) -> Any:
        """The batch with Gaussian noise on the input embeddings of the `chosen` [positions], of `scale` times the root of their
        mean square in the record, drawn by the seed of each record."""


@runtime_checkable
class SpanExplainable(Explainable, Protocol):
    """A model whose targets are spans of the text."""

    def shift_margin(self, batch: Any, targets: Tensor) -> Tensor:
        """F of each span minus the highest F of a span with its start or end moved by one word [records]; NaN if there is
        none."""
