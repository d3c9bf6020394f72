"""The site classifier in the training loop: settings to a learner, in each worker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.encoders import (
    attention_for,
    check_window,
    encoder_digest,
    encoder_folder,
    load_encoder,
    load_tokenizer,
    pick_precision,
    special_ids,
)
from engine.errors import ConfigError, ContractError, InputChanged
from engine.machine import processors
from engine.models.adapter import attach
from engine.models.columns import list_values, lists
from engine.models.site_classifier.calibrating import gold
from engine.models.site_classifier.config import ClassifierConfig, Task
from engine.models.site_classifier.learner import Examples, LearnConfig, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.rationales.samples import KINDS
from engine.pipeline.flow import in_order, ray_runs
from engine.storage import S3Config, s3_config, use_s3
from engine.text.tokens import tokenize
from engine.training.data import DataConfig, Piece, Survey, beside, pieces, read_piece
from engine.training.loop import Worker
from engine.training.repeats import Repeats
from engine.training.shards import COMMON, Index, read_index, shard_rows, write_shards
from engine.training.stream import Share, Stream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.text.tokens import TokenizedText

Labels = Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]


def learner(settings: Mapping[str, Any], worker: Worker) -> SiteLearner:
    """Builds the network, and the stream of a worker's examples, from plain settings.

    `data`, `model` and `learn` are fields of their dataclasses; `seed`; `examples` is the folder that `write_examples` filled.
    """
    torch.manual_seed(settings["seed"])
    data, index = DataConfig(**settings["data"]), read_index(settings["examples"])
    if index is None:
        raise ContractError("the examples of a training are not there")
    if not sum(index.reports):
        raise ConfigError("data.text: no report of train has a word in it")
    labels = {task: (tuple(names), tuple(support)) for task, (names, support) in index.facts["labels"].items()}
    config = classifier_config(settings["model"], labels, data)
    device = str(worker.device)
    encoder = load_encoder(config.encoder, pick_precision(settings.get("precision", "auto"), device), attention_for(device))
    attach(encoder, config.rank)
    network = SiteNetwork(config, encoder)
    learn = LearnConfig(**{**settings["learn"], "seed": settings["seed"]})
    window = max(1, data.held // shard_rows(data.held))
    stream = Stream(
        settings["examples"],
        index,
        lambda table: examples_of(table, config),
        window=window,
        share=Share(worker.rank, worker.world, worker.batch),
        s3=replace(s3_config(), proven=True),
        **({"flow": in_order} if ray_runs() and len(index.reports) > window else {}),
    )
    return SiteLearner(network, stream, learn, worker.device)


def classifier_config(model: Mapping[str, Any], labels: Labels, data: DataConfig) -> ClassifierConfig:
    """The architecture, with the label sets of a `Survey`.

    Raises:
        ConfigError: the settings are none, or windows that long do not fit the encoder.
    """
    encoder = model.get("encoder", "pkg:minilm")
    named = {key: value for key, value in model.items() if key != "encoder"}
    check_window(encoder, named.get("window", ClassifierConfig.window))
    return ClassifierConfig(
        tasks=tuple(Task(name, *labels[name], name in data.multi_label) for name in data.labels),
        paired=data.pair is not None,
        encoder=encoder,
        encoder_digest=encoder_digest(encoder),
        special=special_ids(load_tokenizer(encoder_folder(encoder))),
        **named,
    )


def write_examples(data: DataConfig, config: ClassifierConfig, found: Survey, folder: str, scratch: Path) -> Index:
    """Tokenizes the examples of train and valid into shards; what is there already is taken as it is.

    Ray Data reads and tokenizes the input, a range of rows a task; an input of one range is not worth starting it.

    Raises:
        InputChanged: the input is not what the shards were made of.
    """
    given = [asdict(piece) for piece in pieces(data)]
    index = read_index(folder)
    if index is not None:
        if index.facts["input"] != json.loads(json.dumps(given)):
            raise InputChanged(
                "data.path: the files have changed since this training began; bring them back, or choose a new folder"
            )
        return index
    rows, work = shard_rows(data.held), Tokenize(data, config, found.repeats, replace(s3_config(), proven=True))
    tables = in_order(pieces(data), work, processors()) if ray_runs() and len(given) > 1 else map(work, pieces(data))
    tokenizer = load_tokenizer(encoder_folder(config.encoder))
    samples = (encoded(found.samples.slice(at, rows), config, tokenizer) for at in range(0, len(found.samples), rows))
    return write_shards(chain(tables, samples), _schema(config), folder, scratch, rows, {"labels": found.labels, "input": given})


@dataclass(frozen=True)
class Tokenize:
    """Reads and tokenizes a piece of the input; wherever it is sent."""

    data: DataConfig
    config: ClassifierConfig
    repeats: Repeats
    s3: S3Config

    def __call__(self, piece: Piece) -> pa.Table:
        use_s3(self.s3)
        side, tokenizer = beside(self.data), load_tokenizer(encoder_folder(self.config.encoder))
        tables = [encoded(table, self.config, tokenizer) for table in read_piece(self.data, piece, side, self.repeats)]
        return pa.concat_tables(tables) if tables else _schema(self.config).empty_table()


def encoded(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int = 16384) -> pa.Table:
    """Examples of train and valid as tokens and numbers; those without any token are left out.

    A label that is not in a task's label set counts as none.
    """
    found = _encoded(examples.filter(pc.not_equal(examples["split"], "test")), config, tokenizer, max_tokens)
    return found.filter(pc.greater(pc.list_value_length(found["ids"]), 0))


def tokenized(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int = 16384) -> Examples:
    """Examples held whole, in their order, for a training on cached states; no epoch shows those of test or without any token."""
    found = examples_of(_encoded(examples, config, tokenizer, max_tokens), config)
    split, readable = np.array(examples["split"].to_pylist()), np.array([len(ids) > 0 for ids in found.ids])
    return replace(found, train=(split == "train") & readable, valid=(split == "valid") & readable)


def _encoded(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    texts = examples["text"].to_pylist()
    tokens = tokenize(tokenizer, texts, max_tokens)
    questions = tokenize(tokenizer, [text or "" for text in examples["pair"].to_pylist()], config.window // 2)
    marked = [
        None if marks is None else flags(found, marks, len(text))
        for found, marks, text in zip(tokens, examples["marks"].to_pylist(), texts, strict=True)
    ]
    columns = {
        "record_id": examples["record_id"],
        "split": examples["split"],
        "sample": pc.is_in(examples["kind"], pa.array(KINDS)),
        "kind": examples["kind"],
        "ids": lists([found.ids for found in tokens]),
        "pair": lists([found.ids if config.paired else None for found in questions]),
        "marked": lists(marked, np.int8),
    }
    for task in config.tasks:
        numbers = gold(examples[task.name].to_pylist(), task)
        if task.multi_label:
            _forget(numbers, examples["unknown"].to_pylist(), task)
        columns[_column(task)] = lists(list(numbers), np.int64) if task.multi_label else pa.array(numbers)
    return pa.table(columns, schema=_schema(config))


def _forget(numbers: np.ndarray, unknown: Sequence[Sequence[str] | None], task: Task) -> None:
    """Codes [n, labels] of which a text says neither yes nor no become -1, in place."""
    index = {label: number for number, label in enumerate(task.labels)}
    for row, codes in enumerate(unknown):
        numbers[row, [index[code] for code in codes or () if code in index]] = -1


def examples_of(table: pa.Table, config: ClassifierConfig) -> Examples:
    """What `encoded` wrote, as the learner takes it."""
    labels = {}
    for task in config.tasks:
        column = table[_column(task)]
        many = task.multi_label and len(table)
        labels[task.name] = np.stack(list_values(column)) if many else column.to_numpy()
    everyone = np.ones(len(table), dtype=bool)
    return Examples(
        record_id=table["record_id"].to_pylist(),
        ids=list_values(table["ids"]),
        labels=labels,
        train=everyone,
        valid=everyone,
        pairs=list_values(table["pair"]) if config.paired else None,
        kind=np.array(table["kind"].to_pylist()),
        sample=np.array(table["sample"].to_pylist(), dtype=bool),
        marked=list_values(table["marked"]),
    )


def _schema(config: ClassifierConfig) -> pa.Schema:
    ids, marked, numbers = (pa.large_list(kind) for kind in (pa.int32(), pa.int8(), pa.int64()))
    own = [pa.field("kind", pa.string()), pa.field("ids", ids), pa.field("pair", ids), pa.field("marked", marked)]
    labels = [pa.field(_column(task), numbers if task.multi_label else pa.int64()) for task in config.tasks]
    return pa.schema([*COMMON, *own, *labels])


def _column(task: Task) -> str:
    return f"label_{task.name}"


def flags(tokens: "TokenizedText", marks: Sequence[Mapping[str, Any]], length: int) -> np.ndarray:
    """Which tokens lie in a word that a highlight touches, [tokens]; one outside the text's `length` says nothing."""
    words = np.zeros(len(tokens.word_start), dtype=bool)
    for mark in marks:
        if 0 <= mark["start"] < mark["end"] <= length:
            words |= (tokens.word_start < mark["end"]) & (tokens.word_end > mark["start"])
    return words[tokens.word_of_token]
