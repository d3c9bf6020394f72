"""A tiny system for texts: the mean of a text's token embeddings, and a linear layer to the codes of one task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.encoders import encoder_folder, load_tokenizer, special_ids
from engine.keys import key
from engine.models import checkpoint
from engine.models.columns import matrix
from engine.models.options import TextOptions
from engine.models.token_system import TokenSystem
from engine.records import AUTO, REVIEW, codes_fields

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from engine.models.tokens import Batch

TABLE, TASK, SYSTEM = "codes", "site", __name__
FILES = ("threshold.json",)
_META = ["row", "text_sha256", "truncated_chars", "input_ids"]


@dataclass(frozen=True)
class Options(TextOptions):
    """`threshold` goes before the checkpoint's."""

    threshold: float | None = key(None, "Probability from which a code is sure.", at="decision.threshold", low=0.0, high=1.0)


@dataclass(frozen=True)
class Config:
    labels: tuple[str, ...]
    words: int
    width: int = 8
    window: int = 62
    special: tuple[int, int, int, int] = (101, 102, 0, 103)


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    digest: str
    config: Config
    threshold: float


def new_config(labels: tuple[str, ...]) -> Config:
    tokenizer = load_tokenizer(encoder_folder("tiny:bert"))
    return Config(labels, tokenizer.get_vocab_size(), special=special_ids(tokenizer))


def network(config: Config) -> "nn.ModuleDict":
    from torch import nn

    return nn.ModuleDict({"words": nn.Embedding(config.words, config.width), "head": nn.Linear(config.width, len(config.labels))})


def write_checkpoint(folder: Path, config: Config, tensors: Mapping[str, "Tensor"], threshold: float) -> str:
    tokenizer, files = encoder_folder("tiny:bert") / checkpoint.TOKENIZER, {FILES[0]: threshold}
    return checkpoint.write(folder, SYSTEM, vars(config), tensors, tokenizer, files, "# A toy\n")


def read_checkpoint(path: str) -> Checkpoint:
    found = checkpoint.read(path, SYSTEM, FILES)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in found.config.items()}
    return Checkpoint(found.folder, found.digest, Config(**values), found.values(FILES[0]))


class Mean(TokenSystem):
    table, Options = TABLE, Options

    @classmethod
    def read(cls, path: str, options: Options) -> Checkpoint:
        return read_checkpoint(path)

    def build(self, dtype: "torch.dtype") -> "nn.Module":
        from safetensors.torch import load_file

        return checkpoint.fill(network(self.config), load_file(self.checkpoint.folder / checkpoint.MODEL))

    def fields(self) -> list[pa.Field]:
        return codes_fields([TASK])

    def known(self) -> dict[str, tuple[str, ...]]:
        return {TASK: self.config.labels}

    def predict(self, batch: "Batch") -> "dict[str, Tensor]":
        words = self.network["words"](batch.ids) * batch.text.unsqueeze(-1)
        total = words.new_zeros(batch.records, self.config.width).index_add_(0, batch.record, words.sum(1))
        count = words.new_zeros(batch.records).index_add_(0, batch.record, batch.text.sum(1).to(words.dtype))
        return {TASK: self.network["head"](total / count.clamp_min(1).unsqueeze(-1))}

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        scores = self.scores(prepared)
        logits = dict(zip(scores["row"].to_pylist(), matrix(scores[f"{TASK}_logits"]), strict=True))
        needed = self.checkpoint.threshold if self.options.threshold is None else self.options.threshold
        for meta, windows in zip(prepared.select(_META).to_pylist(), self.window_counts(prepared), strict=True):
            mass = np.exp(logits[meta["row"]] - logits[meta["row"]].max())
            best, prob = int(mass.argmax()), float(mass.max() / mass.sum())
            sure = prob >= needed
            yield {
                "row": meta["row"],
                "decision": AUTO if sure else REVIEW,
                "reasons": [] if sure else ["low_confidence"],
                f"{TASK}_code": self.config.labels[best],
                f"{TASK}_prob": prob,
                f"{TASK}_decision": AUTO if sure else REVIEW,
                "text_sha256": meta["text_sha256"],
                "n_tokens": len(meta["input_ids"]),
                "n_windows": windows,
                "truncated_chars": meta["truncated_chars"],
            }


load = Mean.load
