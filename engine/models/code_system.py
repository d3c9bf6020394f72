"""The base of systems that answer each text with a code for each task, each from a fixed list of labels.

A system provides a network. Its checkpoint consists of the model settings of its training (`model.*`), the tasks and the
tokenizer; `code_decide.py` turns logits into decisions.
"""

import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from engine.encoders import encoder_folder, load_tokenizer, special_ids
from engine.errors import ConfigError
from engine.keys import key
from engine.models import checkpoint
from engine.models.code_decide import Answer, answer, auto_codes, margins
from engine.models.code_task import Task, TaskCalibration, TaskConfig
from engine.models.columns import list_values, matrix
from engine.models.options import CodeOptions
from engine.models.token_system import TokenSystem
from engine.records import AUTO, REASONS, REVIEW, codes_fields
from engine.registry import code_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from engine.models.tokens import Batch

CALIBRATION = "calibration.json"
# Reasons that keep a code from `auto`, whatever the text.
_NEVER = ("rare_class_below_support", "no_threshold")


@dataclass(frozen=True)
class CodeModel:
    """The model settings of every such training: `model.*`."""

    encoder: str = key("pkg:minilm", "Encoder whose tokenizer is used: pkg:minilm, path:<folder> or hub:<id>@<commit>.")
    window: int = key(254, "Tokens of text in one window.", low=8)


@dataclass(frozen=True)
class CodeConfig(TaskConfig):
    """What a network is built from: the tasks, the tokenizer's vocabulary size (`words`), the ids of [CLS], [SEP], [PAD] and
    [MASK], and the `model` settings of its training."""

    words: int
    special: tuple[int, int, int, int]
    model: Mapping[str, Any]

    @property
    def window(self) -> int:
        return self.model["window"]


def new_config(tasks: Sequence[Task], model: Mapping[str, Any]) -> CodeConfig:
    """The configuration of a model to train."""
    tokenizer = load_tokenizer(encoder_folder(model["encoder"]))
    return CodeConfig(tuple(tasks), tokenizer.get_vocab_size(), special_ids(tokenizer), model)


def new_network(place: str, config: CodeConfig) -> "nn.Module":
    """The network at `module:class`, with its initial weights."""
    return pkgutil.resolve_name(place)(config)


@dataclass(frozen=True)
class CodeCheckpoint:
    """A verified checkpoint of codes without its weights. `part` is the part that replaces the whole's own head."""

    folder: Path
    digest: str
    config: TaskConfig
    calibration: Mapping[str, TaskCalibration]
    part: str | None = None

    def revised(self, calibration: Mapping[str, TaskCalibration]) -> dict[str, Any]:
        """The files of a revision, which names the digest of the original."""
        values = json.loads((self.folder / (self.part or "") / CALIBRATION).read_text())
        return calibration_file(calibration, **{**values, "revision_of": self.digest})


def calibration_file(calibration: Mapping[str, TaskCalibration], **values: Any) -> dict[str, Any]:
    """calibration.json for `engine.models.checkpoint`, with further values."""
    return {CALIBRATION: {**values, "tasks": {name: task.to_json() for name, task in calibration.items()}}}


def read_calibration(values: Mapping[str, Any]) -> dict[str, TaskCalibration]:
    """The tasks of a calibration.json."""
    return {name: TaskCalibration.from_json(task) for name, task in values["tasks"].items()}


class CodeSystem(TokenSystem):
    """See `engine.models.base.System`.

    `package` is the system's package, `network_at` the `module:class` of its network: built from a `CodeConfig`, with
    `embed(ids)` and the call `network(batch, embeds=None)`, which returns the logits [records, labels] of each task. Its state
    must be parameters, no buffers.

    A system with another form of checkpoint overrides `read` and `build`; `kept` are further columns of its prepared texts that
    `row` needs.
    """

    table, Options = "codes", CodeOptions
    package: ClassVar[str]
    network_at: ClassVar[str]
    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        self.require("decision.thresholds", options.thresholds)

    def require(self, key: str, tasks: Iterable[str]) -> None:
        """ConfigError about a key if the model lacks one of its tasks."""
        unknown = [task for task in tasks if task not in self.config.labels]
        if unknown:
            raise ConfigError(f"{key}: the model has no task '{unknown[0]}'; it has {', '.join(self.config.labels)}")

    @classmethod
    def read(cls, path: str, options: CodeOptions) -> CodeCheckpoint:
        stored = checkpoint.read(path, cls.package, (CALIBRATION,))
        calibration = read_calibration(stored.values(CALIBRATION))
        return CodeCheckpoint(stored.folder, stored.digest, CodeConfig.from_json(stored.config), calibration)

    @classmethod
    def write(cls, folder: Path, config: CodeConfig, tensors: "Mapping[str, Tensor]", card: str) -> None:
        """Writes a checkpoint without thresholds."""
        tokenizer = encoder_folder(config.model["encoder"]) / checkpoint.TOKENIZER
        files = calibration_file({task.name: TaskCalibration() for task in config.tasks})
        checkpoint.write(folder, cls.package, config.to_json(), tensors, tokenizer, files, card)

    def build(self, dtype: "torch.dtype") -> "nn.Module":
        from safetensors.torch import load_file

        tensors = load_file(self.checkpoint.folder / checkpoint.MODEL)
        return checkpoint.fill(new_network(self.network_at, self.config), tensors, apart=":")

    def fields(self) -> list[pa.Field]:
        return codes_fields(list(self.config.labels))

    def known(self) -> Mapping[str, Sequence[str]]:
        return self.config.labels

    def auto(self) -> Mapping[str, Sequence[str]]:
        return {task.name: auto_codes(task, self.calibration(task.name), self.options) for task in self.config.tasks}

    def limits(self) -> Mapping[str, str]:
        known, auto = self.known(), self.auto()
        counts = [f"{len(auto[task])} of {len(known[task])} {task} codes" for task in self.deciding]
        line = f"{' and '.join(counts)} can be coded without review with this model"
        return dict.fromkeys(_NEVER, f"{line} (decision.min_support={self.options.min_support}).") if counts else {}

    @property
    def deciding(self) -> Sequence[str]:
        """The tasks that must all be certain for a text to be coded without review."""
        return list(self.config.labels)

    def calibration(self, task: str) -> TaskCalibration:
        """The calibration of a task; a task without one is never certain."""
        return self.checkpoint.calibration.get(task, TaskCalibration())

    @property
    def temperatures(self) -> Mapping[str, float]:
        return {task: self.calibration(task).temperature for task in self.config.labels}

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        return self.network(batch)

    def rows(self, prepared: pa.Table) -> Iterator[Mapping[str, Any]]:
        scores = self.scores(prepared)
        logits = {task: matrix(scores[f"{task}_logits"]) for task in self.known()}
        for place, meta in enumerate(self.meta(prepared)):
            yield self.row(meta, {task: values[place] for task, values in logits.items()})

    def meta(self, prepared: pa.Table) -> list[dict[str, Any]]:
        """The facts about each prepared text that `row` needs: key and id, how much was read, and the columns `kept`."""
        columns = prepared.select(["row", "record_id", "text_sha256", "truncated_chars", *self.kept]).to_pylist()
        counts = zip(columns, list_values(prepared["input_ids"]), self.window_counts(prepared), strict=True)
        return [{**values, "n_tokens": len(ids), "n_windows": windows} for values, ids, windows in counts]

    def row(self, meta: Mapping[str, Any], logits: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A text's row from its logits [labels] of each task."""
        answers = {t.name: answer(t, logits[t.name], self.calibration(t.name), self.options) for t in self.config.tasks}
        columns = dict(meta)
        for task, one in answers.items():
            columns |= {f"{task}_{name}": value for name, value in vars(one).items()}
            columns[f"{task}_name"] = code_name(task, one.code)
        reasons = self.reasons(meta, answers)
        columns["decision"] = REVIEW if reasons else AUTO
        return columns | {"reasons": [reason for reason in REASONS if reason in reasons]}

    def reasons(self, meta: Mapping[str, Any], answers: Mapping[str, Answer]) -> set[str]:
        """The reasons to review a text."""
        truncated = {"text_truncated"} if meta["truncated_chars"] else set()
        return truncated.union(*(answers[task].reasons for task in self.deciding))

    def unsure(self, prepared: pa.Table, tolerance: float) -> dict[int, list[str]]:
        """The columns of each row that could change if probabilities, or the relative distance from known texts, changed by less
        than `tolerance`."""
        scores = self.scores(prepared)
        unsure: dict[int, list[str]] = {row: [] for row in scores["row"].to_pylist()}
        for task in self.config.tasks:
            of_task = list_values(scores[f"{task.name}_logits"])
            for columns, logits in zip(unsure.values(), of_task, strict=True):
                if min(margins(task, logits, self.calibration(task.name), self.options)) < tolerance:
                    columns += [f"{task.name}_code", f"{task.name}_decision", "decision"]
        return unsure
