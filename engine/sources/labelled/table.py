"""Labelled records in tables: the labels of each id, and the marks in its text.

Tables are read as reports are (`engine.sources`), so formats, encodings, dialects, broken rows and ids behave the same in
training, calibration and evaluation. A few hundred rows come at a time, and any process can read any piece of an input.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from posixpath import basename
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import sources
from engine.errors import ConfigError, RowError
from engine.records import FAILURE, IMAGES, TEXT
from engine.sources.base import CSV, DOUBLE, JSONL, PARQUET, InputConfig, Shard
from engine.sources.column_types import is_list
from engine.sources.files import ENDINGS, format_of
from engine.sources.labelled.values import CODES, as_text, codes_in, findings, highlights, spans, with_nulls
from engine.sources.packed import plain_name
from engine.storage import Entry, storage_for

_PIECE_BYTES = 2 << 20
_BATCH = 512
_INPUT_SETTINGS = ("format", "encoding", "delimiter", "quoting", "escape", "id_scope", "max_bytes")
# Labels are usable without the text.
_HARMLESS = {"missing_text", "too_large"}
_FORMATS = {PARQUET: "Parquet", CSV: "CSV", JSONL: "JSON lines"}
_NO_STATE = {"kind": "parse_error", "detail": "a finding is none of positive, negative and uncertain"}


@dataclass(frozen=True)
class Labelled:
    """Where labelled records are, and what their columns hold.

    `labels` maps a task to its column with a code or several: a list, or codes joined by `;`. `multi_label` are the tasks with
    lists; every other task has one code, even if the cell has a `;`. None goes by the columns' types. `source` is a column whose
    value and a colon are put before the id; `id_scope` "file" does so with the file's name. `pair` is a second text, `group` the
    unit that must not be split, such as the patient. `marks` is the column with highlights, `spans` one with marked spans for
    each task. `findings` maps a finding to the column with its state, or is one column with lists of name and state. `failed` is
    a column with `kind` and `detail` of a record's known failure. `more` are further columns, as text, by their new names.
    With `image` the rows are images instead of texts: that column has paths, below `root`, or bytes, and `study` is the column
    whose equal values make one record.
    `names` are the user's names of the settings, for messages; `KEPT` are the settings that name columns.
    """

    path: str
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    text: str | None = None
    image: str | None = None
    study: str | None = None
    root: str | None = None
    source: str | None = None
    id_scope: str = "input"
    group: str | None = None
    split: str | None = None
    pair: str | None = None
    multi_label: Sequence[str] | None = None
    marks: str | None = None
    spans: Mapping[str, str] = field(default_factory=dict)
    findings: str | Mapping[str, str] = field(default_factory=dict)
    failed: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: str = DOUBLE
    escape: str | None = None
    max_bytes: int = 4_194_304
    names: Mapping[str, str] = field(default_factory=dict)

    KEPT: ClassVar[tuple[str, ...]] = ("labels", "group", "split", "pair", "marks")

    def named(self, key: str) -> str:
        """The user's name of a setting."""
        return self.names.get(key, key)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column but id and text, each once."""
        single = (self.source, self.group, self.split, self.pair, self.marks, self.failed)
        names = [*self.labels.values(), *single, *self.spans.values(), *self.states.values(), *self.more.values()]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def states(self) -> Mapping[str | None, str]:
        """The column of each finding's state, or under None the column that lists all."""
        return {None: self.findings} if isinstance(self.findings, str) else self.findings

    def input(self) -> InputConfig:
        """The table as an input of reports, or of images."""
        keep = tuple(name for name in self.columns if name != self.text)
        settings = {name: getattr(self, name) for name in _INPUT_SETTINGS}
        if self.image is not None:
            settings |= {"reads": IMAGES, "image": self.image, "study": self.study, "root": self.root}
        return InputConfig(self.path, self.id, self.text, keep, **settings)

    def schema_of(self, file: Entry) -> pa.Schema:
        """The columns of a file, see `engine.sources.schema_of`.

        Raises:
            ConfigError: it cannot be read.
        """
        with self.renaming():
            config = self.input()
        try:
            return sources.schema_of(config, storage_for(file.path), file)
        except RowError as error:
            if error.kind != "invalid_encoding":
                raise unreadable(file.path, format_of(config, file)) from None
            problem = f"the first line of {basename(file.path)} is not {self.encoding}; set the file's encoding"
            raise ConfigError(problem, self.named("encoding")) from None

    @contextmanager
    def renaming(self) -> Iterator[None]:
        """Errors within the block use the user's names of the settings."""
        try:
            yield
        except ConfigError as error:
            keep = " or ".join(dict.fromkeys(self.named(key) for key in self.KEPT if getattr(self, key)))
            message = re.sub(r"input\.(\w+)", lambda match: keep if match[1] == "keep" else self.named(match[1]), str(error))
            raise ConfigError(message) from None


def files_at(path: str, format: str | None = None) -> list[Entry]:
    """The files of a labelled input, see `engine.sources.files.survey`.

    Raises:
        ConfigError: there are none; its key is `data.path`.
    """
    try:
        return sources.list_files(InputConfig(path, None, format=format), storage_for(path))
    except ConfigError as error:
        raise ConfigError(error.message.removesuffix("; set input.format"), error.key and "data.path") from None


def unreadable(path: str, format: str) -> ConfigError:
    """The error for a file with broken content."""
    name = basename(path)
    if plain_name(path).lower().endswith(ENDINGS[format]):
        return ConfigError(f"{name} cannot be read as {_FORMATS[format]}; write it again, or leave it out", "data.path")
    endings = " ".join((*ENDINGS[CSV], *ENDINGS[JSONL]))
    return ConfigError(f"{name} is no Parquet file; names of other tables end in one of {endings}", "data.path")


class Reader:
    """A labelled table with its files listed and its columns checked.

    Args:
        files: some of its files; None for all.
    Raises:
        ConfigError: there is nothing to read, a column is missing, or a column has the wrong type for its setting.
    """

    def __init__(self, config: Labelled, files: Sequence[Entry] | None = None) -> None:
        self.config, self._storage = config, storage_for(config.path)
        with config.renaming():
            self._input = config.input()
            self.files = list(sources.list_files(self._input, self._storage) if files is None else files)
            self._fields = sources.keep_fields(self._input, self._storage, self.files)
        self.kinds = {field.name: field.type for field in self._fields}

    def tables(self) -> Iterator[pa.Table]:
        """The whole table, see `read`."""
        for piece in self.pieces():
            yield from self.read(piece)

    def pieces(self) -> Iterator[Shard]:
        """The table in order, cut into pieces of about 2 MB of text from one file each."""
        with self.config.renaming():
            base = sources.input_base(self._input)
            for file in self.files:
                yield from sources.cut(self._input, self._storage, [file], _PIECE_BYTES, base)

    def read(self, piece: Shard) -> Iterator[pa.Table]:
        """The records of a piece, a few hundred at a time.

        Returns:
            Tables of one schema: `record_id` (null if missing), `source`, `text` (large_string) or `images`, `group`, `split` and
            `pair` (null unless configured); for each task T `T` (text, or a list of it); if configured `marks`, `T_spans`,
            `findings` and further columns; `failure` of records that cannot be read.
        Raises:
            ConfigError: a column has the wrong type for its setting.
        """
        with self.config.renaming():
            table = self._typed(*self._records(piece), piece)
        for start in range(0, len(table), _BATCH):
            yield table.slice(start, _BATCH)

    def _records(self, piece: Shard) -> tuple[pa.Table, pa.Array]:
        """The records of a piece, and which of them have no id; those are read a second time without one, for their text."""
        records = sources.read(self._input, self._storage, piece, self._fields)
        without_id = pc.fill_null(pc.equal(pc.struct_field(records["failure"], "detail"), "missing_id"), False).combine_chunks()
        if pc.any(without_id).as_py():
            other = sources.read(replace(self._input, id=None), self._storage, piece, self._fields)
            rows = np.arange(len(records)) + len(records) * without_id.to_numpy(zero_copy_only=False)
            records = pa.concat_tables([records, other]).take(pa.array(rows))
        return records, without_id

    def _typed(self, records: pa.Table, without_id: pa.Array, piece: Shard) -> pa.Table:
        config, keep = self.config, records["keep"].combine_chunks()
        inputs = {name: pa.chunked_array([keep.field(name)]) for name in self.kinds}
        if piece.slices[0].format != PARQUET:
            # A format without types has no nulls either.
            inputs = {name: with_nulls(column) for name, column in inputs.items()}
        payload = TEXT if config.image is None else IMAGES
        inputs[config.text] = records[payload]
        ids = pc.if_else(without_id, pa.scalar(None, pa.string()), records["record_id"])
        columns: dict[str, Any] = {
            "record_id": ids if config.source is None else pc.binary_join_element_wise(as_text(inputs[config.source]), ids, ":"),
            "source": records["source"],
            payload: records[payload],
        }
        for name in ("group", "split", "pair"):
            column = getattr(config, name)
            columns[name] = pa.nulls(len(records), pa.string()) if column is None else as_text(inputs[column])
        columns |= {task: self._codes(task, inputs[column], piece) for task, column in config.labels.items()}
        if config.marks is not None:
            columns["marks"] = highlights(inputs[config.marks], config.named("marks"))
        columns |= {f"{task}_spans": spans(inputs[column]) for task, column in config.spans.items()}
        columns |= {name: as_text(inputs[column]) for name, column in config.more.items()}
        failure = [None if error and error["kind"] in _HARMLESS else error for error in records["failure"].to_pylist()]
        if config.failed is not None:
            failure = [error or reason for error, reason in zip(failure, inputs[config.failed].to_pylist(), strict=True)]
        if config.findings:
            columns["findings"], unknown = findings({name: inputs[column] for name, column in config.states.items()})
            failure = [error or (_NO_STATE if row else None) for error, row in zip(failure, unknown, strict=True)]
        columns["failure"] = pa.array(failure, FAILURE)
        return pa.table(columns)

    def _codes(self, task: str, column: pa.ChunkedArray, piece: Shard) -> pa.ChunkedArray | pa.Array:
        """The column of a task: a code as text, or codes as a list of text."""
        many, listed = self.config.multi_label, is_list(column.type)
        wanted = listed if many is None else task in many
        # In a format without types a cell of text can hold a list of codes.
        typed = piece.slices[0].format == PARQUET and column.null_count < len(column)
        try:
            if wanted and not (listed or typed):
                return pa.array([codes_in(cell) for cell in column.to_pylist()], CODES)
            if wanted == listed:
                return column.cast(CODES if wanted else pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        where, labels, lists = piece.slices[0].source, self.config.named("labels"), self.config.named("multi_label")
        raise ConfigError(f"{labels}: a column of {where} has the wrong type; codes are text, lists of it for {lists}")
