"""The system as every verb sees it: findings, each the sum of what named concepts contribute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.keys import key
from engine.models.clear import bank
from engine.models.clear.checkpoint import Checkpoint, build_network, read_checkpoint
from engine.models.clear.space import Space
from engine.models.findings.settings import FindingOptions
from engine.models.findings.system import FindingSystem

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import Tensor

    from engine.models.clear.serving import Network


@dataclass(frozen=True)
class Options(FindingOptions):
    concepts: int = key(
        25,
        "Concepts listed for and against each finding, strongest first; the others are summed in `rest`. 0: none.",
        at="explain.concepts",
        low=0,
    )
    embedding: bool = key(False, "Also write each study's concept embedding.", at="findings.embedding")


class Clear(FindingSystem):
    """See `engine.models.base.System`."""

    Options = Options

    @classmethod
    def read(cls, path: str, options: Options) -> Checkpoint:
        return read_checkpoint(path)

    def build(self, dtype: "torch.dtype") -> "Network":
        return build_network(self.checkpoint, dtype)

    def predict(self, features: "Tensor") -> "Tensor":
        return self.network.logits(features)

    @cached_property
    def space(self) -> Space:
        return self.checkpoint.space()

    @cached_property
    def concepts(self) -> "pa.Table":
        return self.checkpoint.concepts()

    @cached_property
    def texts(self) -> Sequence[str]:
        return self.concepts["text"].to_pylist()

    @cached_property
    def ids(self) -> Sequence[int]:
        return self.concepts["concept_id"].to_pylist()

    def details(self, features: np.ndarray, logits: np.ndarray) -> Sequence[Mapping[str, Any]]:
        """The concepts of each study, and what is needed to add them up to the logits.

        A concept's score is what the logit owes it compared with the mean of the training images; the intercept is the logit of
        that mean.
        """
        if not len(features):
            return []
        v, z, norms = self.embedded(features)
        rows: list[dict[str, Any]] = [{"n_concepts": len(self.space.t)} for _ in v]
        if self.options.embedding:
            rows = [row | {"embedding": of.astype(np.float32).tolist()} for row, of in zip(rows, z, strict=True)]
        if not self.options.concepts:
            return rows
        differences = v / norms[:, None] - self.space.centre
        top = bank.top(differences, np.ones(len(v)), self.space.t, self.space.weights, self.options.concepts)
        means = self.space.centre @ self.space.matrix @ self.space.directions + self.space.intercepts
        for study, row in enumerate(rows):
            # Study by study: the concepts of a whole shard at once would take a hundred megabytes.
            cosines = self.space.t[np.maximum(top.ids[study], 0)].astype(np.float64) @ v[study]
            parts = [top.ids[study], top.scores[study], top.shares[study], cosines]
            row["concepts"] = [
                self._concept(name, *values)
                for label, name in enumerate(self.names)
                for values in zip(*(part[label] for part in parts), strict=True)
                if values[0] >= 0
            ]
            row["labels"] = {
                name: {"intercept": float(means[label]), "rest": float(top.rest[study, label])}
                for label, name in enumerate(self.names)
            }
        return rows

    def embedded(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of features [n, width]: the images v [n, d], their embeddings z [n, e] and the lengths [n] of v M."""
        import torch

        with torch.inference_mode():
            v = self.network.directions_of(torch.from_numpy(features).to(self.device)).cpu().numpy()
        return v, *bank.embedding(v, self.space.matrix)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits [n, findings] of features [n, width]."""
        import torch

        with torch.inference_mode():
            return self.predict(torch.from_numpy(features).to(self.device)).cpu().numpy()

    def _concept(self, label: str, row: int, score: float, share: float, cosine: float) -> dict[str, Any]:
        about = {"label": label, "concept": self.ids[row], "text": self.texts[row]}
        return about | {"score": float(score), "weight": float(share), "cosine": float(cosine)}
