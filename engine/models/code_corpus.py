"""A labelled table as what a system of codes is trained on, held whole: texts, a code for each task, and the split."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.keys import MISSING, key
from engine.models import tokens
from engine.models.code_system import CodeConfig, new_config
from engine.models.code_task import Task
from engine.models.examples import COMMON, Preparation
from engine.models.options import TextOptions
from engine.models.run import records_of
from engine.sources.labelled import Labelled, Reader
from engine.sources.labelled.splits import TEST, TRAIN, VALID, cut
from engine.storage import full_path

SPLITS = (TRAIN, VALID, TEST)
_NAMES = {name: f"data.{name}" for name in ("path", "id", "text", "labels", "group", "split")}


@dataclass(frozen=True)
class CodeData:
    path: str = key(MISSING, "Labelled texts: a Parquet, CSV or JSONL file, a folder or a glob.", path=True)
    id: str | None = key(None, "Column with the ids; null makes one of file and position.")
    text: str = key("text", "Column with the text.")
    labels: Mapping[str, str] = key({}, "Column with the right code, for each task, such as {site: site_code}.")
    group: str | None = key(None, "Column of the patient, who must not stand in two splits.")
    split: str | None = key(None, "Column with train, valid or test; null cuts by a hash of the patient, or of the id.")
    cut_share: float = key(0.1, "Share that is cut for test, and of the rest for valid.", low=0.01, high=0.5)


@dataclass
class LabelledTexts:
    """See `engine.models.base.Corpus`. `table` has `record_id`, `text`, `split` and a column of codes for each task."""

    settings: Mapping[str, Any]
    table: pa.Table
    left: Mapping[str, int] = field(default_factory=dict)

    @property
    def tasks(self) -> Sequence[str]:
        return list(self.settings["data"]["labels"])

    @cached_property
    def given(self) -> str:
        made = hashlib.sha256()
        for row in self.table.to_pylist():
            made.update(json.dumps(row, sort_keys=True).encode())
        return made.hexdigest()

    @cached_property
    def config(self) -> CodeConfig:
        train = self.part(TRAIN)
        counts = {task: sorted(Counter(train[task].drop_null().to_pylist()).items()) for task in self.tasks}
        tasks = [Task(task, tuple(code for code, _ in found), tuple(n for _, n in found)) for task, found in counts.items()]
        return new_config(tasks, self.settings["model"])

    def changed(self) -> bool:
        """Never: all of it is held."""
        return False

    def lines(self) -> list[str]:
        counts = Counter(self.table["split"].to_pylist())
        lines = [", ".join(f"{split}: {counts[split]:,}" for split in SPLITS)]
        return lines + [f"{count:,} left out: {why}" for why, count in self.left.items() if count]

    def part(self, split: str) -> pa.Table:
        return self.table.filter(pc.equal(self.table["split"], split))

    def records(self, split: str) -> pa.Table:
        """As a system takes them, numbered in the order of `part`."""
        part = self.part(split)
        return records_of(part["record_id"].to_pylist(), part["text"].to_pylist())

    def numbers(self, split: str, task: str) -> np.ndarray:
        """The labels' numbers [n], -1 for none and for a code that train does not have."""
        return _numbers(self.part(split)[task], self.config.labels[task])

    def preparation(self) -> Preparation:
        labels = self.config.labels
        schema = pa.schema([*COMMON, pa.field("input_ids", tokens.INTS), *(pa.field(task, pa.int32()) for task in labels)])
        return Preparation((), len, schema, self.given, {"config": self.config.to_json()}, [self._examples(schema)])

    def _examples(self, schema: pa.Schema) -> pa.Table:
        tokenizer = load_tokenizer(encoder_folder(self.settings["model"]["encoder"]))
        parts = []
        for split in (TRAIN, VALID):
            prepared, part = tokens.prepare(self.records(split), tokenizer, TextOptions.max_tokens), self.part(split)
            columns: dict[str, Any] = {name: part[name] for name in ("record_id", "split")}
            columns |= {"sample": pa.array([False] * len(part)), "input_ids": prepared["input_ids"]}
            columns |= {task: pa.array(self.numbers(split, task), pa.int32()) for task in self.config.labels}
            parts.append(pa.table(columns, schema=schema))
        return pa.concat_tables(parts)


def load_texts(settings: Mapping[str, Any]) -> LabelledTexts:
    """Reads the texts that `settings` name.

    Raises:
        ConfigError: nothing to read, a column is missing, ids stand twice, a split is unknown or lacks texts, or a patient
            stands in two.
    """
    data = CodeData(**{**settings["data"], "path": full_path(os.path.expanduser(settings["data"]["path"]))})
    if not data.labels:
        raise ConfigError("data.labels: name the column of at least one task, such as {site: site_code}")
    columns = {name: getattr(data, name) for name in ("path", "labels", "id", "text", "group", "split")}
    tables = list(Reader(Labelled(**columns, multi_label=(), names=_NAMES)).tables())
    if not tables:
        raise ConfigError(f"data.path: {data.path} has no rows")
    table = pa.concat_tables(tables)
    labelled = reduce(or_, (pc.field(task).is_valid() for task in data.labels))
    usable = table.filter(
        pc.field("failure").is_null() & pc.field("text").is_valid() & pc.field("record_id").is_valid() & labelled
    )
    frame = pl.from_arrow(usable.select(["record_id", "text", "group", "split", *data.labels]))
    frame = frame.with_columns(pl.col("group").fill_null(pl.col("record_id")))
    if data.split is None:
        cuts = [cut(name, data.cut_share) for name in frame["group"].to_list()]
        frame = frame.with_columns(pl.Series("split", cuts, pl.String))
    _check(frame)
    # What stands in a later split too is not learned from.
    rank = pl.col("split").replace_strict(dict(zip(SPLITS, range(3), strict=True)))
    apart = frame.filter(rank == rank.max().over("text"))
    kept = apart.drop("group").to_arrow()
    left = {"broken, or without text, id or label": len(table) - len(usable), "in a later split too": len(frame) - len(apart)}
    found = LabelledTexts({**settings, "data": {**settings["data"], "path": data.path}}, kept, left)
    missing = [split for split in SPLITS if not len(found.part(split))]
    if missing:
        raise ConfigError(f"data.split: there is no text for {' and '.join(missing)}; give more texts, or another split")
    for task in found.tasks:
        for split in SPLITS:
            if not found.part(split)[task].drop_null():
                raise ConfigError(f"data.labels: no text of {split} has a code of {task}; label some, or leave it out")
    for task, codes in found.config.labels.items():
        if len(codes) < 2:
            raise ConfigError(f"data.labels.{task}: the texts of train have {len(codes)} codes; there must be two at least")
    return found


def _check(frame: pl.DataFrame) -> None:
    unknown = set(frame["split"].unique().to_list()) - set(SPLITS)
    if unknown:
        raise ConfigError(f"data.split: values must be {', '.join(SPLITS)}; found {len(unknown)} others")
    twice = int(frame["record_id"].is_duplicated().sum())
    if twice:
        raise ConfigError(f"data.id: {twice:,} rows share their id with another; ids must be unique")
    crossing = int((frame.group_by("group").agg(pl.col("split").n_unique())["split"] > 1).sum())
    if crossing:
        raise ConfigError(f"data.group: {crossing:,} groups stand in more than one split; a patient must not cross splits")


def _numbers(codes: pa.ChunkedArray, labels: Sequence[str]) -> np.ndarray:
    place = {label: number for number, label in enumerate(labels)}
    return np.array([place.get(code, -1) for code in codes.to_pylist()], np.int64)
