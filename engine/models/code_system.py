"""The base of systems that answer each text with a code for each task, each of a fixed list of labels.

A system brings a network and says where it is. What its training was told about the model (`model.*`), the labels and the
tokenizer make its checkpoint; a code whose probability reaches its task's threshold is sure.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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

FILES = ("decisions.json",)
_META = ["row", "text_sha256", "truncated_chars", "input_ids"]
# Of a task that nothing is sure of.
NONE = {"temperature": 1.0, "threshold": 1.01}
_TOP = 5


@dataclass(frozen=True)
class CodeOptions(TextOptions):
    """`thresholds` go before the checkpoint's, task by task."""

    thresholds: Mapping[str, float] = key(
        {}, "Probability from which a task is sure; without one the checkpoint's own.", at="decision.thresholds", low=0, high=1
    )


@dataclass(frozen=True)
class CodeModel:
    """What the training of any such system is told about the model: `model.*`."""

    encoder: str = key("pkg:minilm", "Encoder whose tokenizer is taken: pkg:minilm, path:<folder> or hub:<id>@<revision>.")
    window: int = key(254, "Tokens of text that are read together.", low=8)


@dataclass(frozen=True)
class CodeConfig:
    """What a network is made of: the labels by task, the tokenizer's number of words and ids of [CLS], [SEP], [PAD] and [MASK],
    and `model`, the settings of its training."""

    labels: Mapping[str, tuple[str, ...]]
    words: int
    special: tuple[int, int, int, int]
    model: Mapping[str, Any]

    @property
    def window(self) -> int:
        return self.model["window"]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "CodeConfig":
        labels = {task: tuple(codes) for task, codes in values["labels"].items()}
        return cls(labels, values["words"], tuple(values["special"]), values["model"])


def new_config(labels: Mapping[str, Sequence[str]], model: Mapping[str, Any]) -> CodeConfig:
    """That of a model to train."""
    tokenizer = load_tokenizer(encoder_folder(model["encoder"]))
    return CodeConfig({t: tuple(codes) for t, codes in labels.items()}, tokenizer.get_vocab_size(), special_ids(tokenizer), model)


def new_network(place: str, config: CodeConfig) -> "nn.Module":
    """The network at `module:class`, with the weights that it begins with."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(config)


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    digest: str
    config: CodeConfig
    decisions: Mapping[str, Mapping[str, float]]


class CodeSystem(TokenSystem):
    """See `engine.models.base.System`.

    `package` is the system's own, `network_at` the `module:class` of its network: made of a `CodeConfig`, with `embed(ids)` and,
    as its call, `network(batch, embeds=None)` for the logits [records, labels] of each task. All that it has to keep are
    parameters, no buffers.
    """

    table, Options = "codes", CodeOptions
    package: ClassVar[str]
    network_at: ClassVar[str]

    @classmethod
    def read(cls, path: str, options: CodeOptions) -> Checkpoint:
        found = checkpoint.read(path, cls.package, FILES)
        return Checkpoint(found.folder, found.digest, CodeConfig.of(found.config), found.values(FILES[0]))

    @classmethod
    def write(cls, folder: Path, config: CodeConfig, tensors: "Mapping[str, Tensor]", card: str) -> None:
        """Writes a checkpoint that is sure of nothing yet."""
        tokenizer = encoder_folder(config.model["encoder"]) / checkpoint.TOKENIZER
        files = {FILES[0]: dict.fromkeys(config.labels, NONE)}
        checkpoint.write(folder, cls.package, asdict(config), tensors, tokenizer, files, card)

    def build(self, dtype: "torch.dtype") -> "nn.Module":
        from safetensors.torch import load_file

        tensors = load_file(self.checkpoint.folder / checkpoint.MODEL)
        return checkpoint.fill(new_network(self.network_at, self.config), tensors, apart=":")

    def fields(self) -> list[pa.Field]:
        return codes_fields(list(self.config.labels))

    def known(self) -> Mapping[str, Sequence[str]]:
        return self.config.labels

    def auto(self) -> Mapping[str, Sequence[str]]:
        return {task: labels if self.needed(task) <= 1 else () for task, labels in self.config.labels.items()}

    def needed(self, task: str) -> float:
        """The probability from which a code of a task is sure."""
        return self.options.thresholds.get(task, self.checkpoint.decisions[task]["threshold"])

    @property
    def temperatures(self) -> Mapping[str, float]:
        return {task: values["temperature"] for task, values in self.checkpoint.decisions.items()}

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        return self.network(batch)

    def rows(self, prepared: pa.Table) -> Iterator[Mapping[str, Any]]:
        scores = self.scores(prepared)
        keys = scores["row"].to_pylist()
        prob = {
            task: dict(zip(keys, probabilities(matrix(scores[f"{task}_logits"]), scale), strict=True))
            for task, scale in self.temperatures.items()
        }
        for meta, windows in zip(prepared.select(_META).to_pylist(), self.window_counts(prepared), strict=True):
            reasons = ["text_truncated"] if meta["truncated_chars"] else []
            columns: dict[str, Any] = {}
            for task, labels in self.config.labels.items():
                columns |= self._answer(task, labels, prob[task][meta["row"]])
                reasons += [reason for reason in columns[f"{task}_reasons"] if reason not in reasons]
            yield {
                **columns,
                "row": meta["row"],
                "decision": REVIEW if reasons else AUTO,
                "reasons": reasons,
                "text_sha256": meta["text_sha256"],
                "n_tokens": len(meta["input_ids"]),
                "n_windows": windows,
                "truncated_chars": meta["truncated_chars"],
            }

    def _answer(self, task: str, labels: Sequence[str], prob: np.ndarray) -> dict[str, Any]:
        order, needed = np.argsort(-prob, kind="stable"), self.needed(task)
        reasons = ["no_threshold"] if needed > 1 else ["low_confidence"] if prob[order[0]] < needed else []
        return {
            f"{task}_code": labels[order[0]],
            f"{task}_prob": float(prob[order[0]]),
            f"{task}_decision": REVIEW if reasons else AUTO,
            f"{task}_reasons": reasons,
            f"{task}_top": [{"code": labels[place], "prob": float(prob[place])} for place in order[:_TOP]],
        }


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax [n, labels] of logits at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    mass = np.exp(scaled - scaled.max(-1, keepdims=True)) if scaled.size else scaled
    return mass / mass.sum(-1, keepdims=True) if scaled.size else mass
