"""Annotated text in tables: a row a document, with text and a list of spans, or with tokens and their tags as lists.

Columns go by their usual names: `record_id`, `sentence_id` or `doc_id`; `tokens` with `ner_tags` or `tags`; `text` with `spans`,
whose fields are `start`, `end`, `type` or `label`, and `group_id` where there is one; `split`; `dataset` or `corpus`; `lang` or
`language`. Offsets are whole numbers, ids text or whole numbers, all else is text. A cell of CSV
or JSONL holds its spans as JSON.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.sources.column_types import is_list, is_text, value_type
from engine.sources.files import format_of
from engine.sources.labelled import iob2
from engine.sources.labelled.documents import Document, Span, split_called
from engine.sources.labelled.table import Labelled, Reader, unreadable
from engine.storage import Entry

_IDS, _TAGS = ("record_id", "sentence_id", "doc_id", "id"), ("ner_tags", "tags")
_DATASETS, _LANGUAGES, _TYPES = ("dataset", "corpus"), ("lang", "language"), ("type", "label")
_TEXT, _NUMBER, _ID, _LIST = "text", "whole numbers", "text or whole numbers", "a list of text"
_FAILURE = "a record with kind and detail, both text"
_FITS: Mapping[str, Callable[[pa.DataType], bool]] = {
    _TEXT: is_text,
    _NUMBER: pa.types.is_integer,
    _ID: lambda kind: is_text(kind) or pa.types.is_integer(kind),
    _LIST: lambda kind: is_list(kind) and is_text(kind.value_type),
    _FAILURE: lambda kind: all(is_text(_fields(kind).get(name, pa.null())) for name in ("kind", "detail")),
}
_OF_SPANS = {"start": _NUMBER, "end": _NUMBER, **dict.fromkeys(_TYPES, _TEXT), "group_id": _ID}
# Which texts are too large is for the run to say that reads them.
_MOST_BYTES = 1 << 30


def read(file: Entry, config: Labelled, made: str, dataset: str, split: str | None = None) -> Iterator[Document]:
    """The rows of a file, with those of `config.group` and `config.more` that it has.

    Args:
        made: begins the ids of rows without one. dataset, split: what rows belong to where no column says it.
    Raises:
        ConfigError: it cannot be read, has none of the columns needed or one of another type, or a split that is none of train,
            valid, test.
    """
    name, schema = posixpath.basename(file.path), config.schema_of(file)
    known = schema.names
    tags, ids = _first(known, _TAGS if "tokens" in known else ()), _first(known, [config.id] if config.id else _IDS)
    if not tags and not {"text", "spans"} <= set(known):
        raise ConfigError(f"{name} has neither tokens and {_TAGS[0]} nor text and spans; it has {', '.join(known)}", "data.path")
    own = {"dataset": _first(known, _DATASETS), "lang": _first(known, _LANGUAGES), "split": _first(known, ["split"])}
    marks = {"tokens": _LIST, tags: _LIST} if tags else {"text": _TEXT}
    _check(schema, name, {**dict.fromkeys(own.values(), _TEXT), **marks, ids: _ID, "failure": _FAILURE})
    beside = {key: column for key, column in {"group": config.group, **config.more}.items() if column in known}
    if ids is None and (beside or config.source or config.id_scope == "file"):
        raise ConfigError(f"{config.named('id')}: {name} has none of the columns {', '.join(_IDS)}; name the one with its ids")
    asked: dict[str, Any] = {each.name: getattr(config, each.name) for each in fields(Labelled)}
    asked |= {"labels": {"tokens": "tokens", "tags": tags}} if tags else {"text": "text", "spans": {"marked": "spans"}}
    asked |= {"id": ids, "group": None, "failed": _first(known, ["failure"]), "max_bytes": _MOST_BYTES}
    asked["more"] = {key: column for key, column in {**own, **beside}.items() if column}
    read = Reader(Labelled(**asked), [file]).tables()
    for number, row in enumerate(row for table in read for row in table.to_pylist()):
        if row["split"] is not None and split_called(row["split"]) is None:
            raise ConfigError(f"{name} has a split that is none of train, valid, test (row {number})", "data.path")
        more = {
            "dataset": row.get("dataset") or dataset,
            "lang": row.get("lang"),
            "split": split_called(row["split"]) or split,
            "more": {key: row[key] for key in beside},
        }
        record_id = f"{made}:{number}" if ids is None or row["record_id"] is None else row["record_id"]
        if row["failure"] and row["failure"]["kind"] == "unreadable_file":
            raise unreadable(file.path, format_of(config.input(), file))
        if row["failure"]:
            yield Document(record_id, "", broken=row["failure"]["detail"] or row["failure"]["kind"], **more)
        elif tags:
            yield iob2.document(record_id, row["tokens"] or (), row["tags"] or (), **more)
        elif row["text"] is None or row["marked_spans"] is None:
            yield Document(record_id, "", broken="no text" if row["text"] is None else "no list of spans", **more)
        elif all(span and span["type"] for span in row["marked_spans"]):
            yield Document(record_id, row["text"], tuple(Span(**span) for span in row["marked_spans"]), **more)
        else:
            yield Document(record_id, "", broken="a span lacks its start, end or type", **more)


def _check(schema: pa.Schema, name: str, columns: Mapping[str | None, str]) -> None:
    """Types of the columns that matter, so that rows need no doubt. A column of nulls alone is a missing one."""
    kinds = {field.name: value_type(field.type) for field in schema}
    checks = [(f"column {column}", kinds[column], wanted) for column, wanted in columns.items() if column in kinds]
    if "text" in columns and not is_text(kinds["spans"]):
        inner = _fields(kinds["spans"].value_type) if is_list(kinds["spans"]) else {}
        if not {"start", "end"} <= set(inner) or not set(inner) & set(_TYPES):
            raise ConfigError(f"column spans of {name} must be a list with start, end and type (or label) of each", "data.path")
        checks += [(f"field {each} of column spans", inner[each], _OF_SPANS[each]) for each in inner if each in _OF_SPANS]
    for what, kind, wanted in checks:
        if not pa.types.is_null(kind) and not _FITS[wanted](kind):
            raise ConfigError(f"{what} of {name} must be {wanted}, it is {kind}", "data.path")


def _fields(kind: pa.DataType) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}


def _first(known: Sequence[str], names: Iterable[str]) -> str | None:
    return next((name for name in names if name in known), None)
