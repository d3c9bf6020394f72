"""Annotated text in Parquet: a row a document, with tokens and their tags as lists, or with text and a list of spans.

Columns go by their usual names: `record_id`, `sentence_id` or `doc_id`; `tokens` with `ner_tags` or `tags`; `text` with `spans`,
whose fields are `start`, `end`, `type` or `label`, and `group_id` where there is one; `split`; `dataset` or `corpus`; `lang` or
`language`. Offsets are whole numbers, ids text or whole numbers, all else is text.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.sources.labelled import iob2
from engine.sources.labelled.documents import Document, Span, split_called
from engine.sources.parquet import whole
from engine.storage import Entry

IDS, _TAGS = ("record_id", "sentence_id", "doc_id", "id"), ("ner_tags", "tags")
_DATASETS, _LANGUAGES, _TYPES = ("dataset", "corpus"), ("lang", "language"), ("type", "label")


def read(file: Entry, made: str, dataset: str, split: str | None = None, id: str | None = None) -> Iterator[Document]:
    """The rows of a file; `dataset` and `split` say what they belong to where no column does, `made` begins the ids of rows
    without one, `id` names the column with ids where it has no usual name.

    Raises:
        ConfigError: it is no Parquet, has none of the columns needed or one of another type, or a split that is none of train,
            valid, test.
    """
    name = posixpath.basename(file.path)
    table = whole(file.path, f"{name} cannot be read as Parquet; write it again, or leave it out", expect=file, key="data.path")
    known = table.column_names
    tags, ids = _first(known, _TAGS), _first(known, IDS if id is None else (id,))
    tagged = "tokens" in known and tags is not None
    if not tagged and not {"text", "spans"} <= set(known):
        raise ConfigError(f"{name} has neither tokens and {_TAGS[0]} nor text and spans; it has {', '.join(known)}", "data.path")
    described = {
        "dataset": _first(known, _DATASETS),
        "lang": _first(known, _LANGUAGES),
        "split": _first(known, ("split",)),
    }
    _check(table, name, tagged, ids, described.values())
    for number, row in enumerate(table.to_pylist()):
        more = {key: None if column is None else row[column] for key, column in described.items()}
        if more["split"] is not None and split_called(more["split"]) is None:
            raise ConfigError(f"{name} has a split that is none of train, valid, test (row {number})", "data.path")
        more = {**more, "dataset": more["dataset"] or dataset, "split": split_called(more["split"]) or split}
        given = None if ids is None else row[ids]
        record_id = f"{made}:{number}" if given is None else str(given)
        if row.get("failure"):
            yield Document(record_id, "", broken=row["failure"]["detail"] or row["failure"]["kind"], **more)
        elif tagged:
            yield iob2.document(record_id, row["tokens"] or (), row[tags] or (), **more)
        elif row["text"] is None or row["spans"] is None:
            yield Document(record_id, "", broken="no text" if row["text"] is None else "no list of spans", **more)
        else:
            yield _spanned(record_id, row["text"], row["spans"], more)


def _check(table: pa.Table, name: str, tagged: bool, ids: str | None, described: Iterable[str | None]) -> None:
    """Types of the columns that matter, so that rows need no doubt. A column of nulls alone is a missing one."""
    kinds = {field.name: field.type for field in table.schema}
    for column in described:
        if column is not None:
            _want(kinds[column], _is_text, f"column {column}", name, "text")
    failure = kinds.get("failure")
    if ids is not None:
        _want(kinds[ids], _is_id, f"column {ids}", name, "text or whole numbers")
    if failure is not None:
        _want(failure, _is_failure, "column failure", name, "a record with kind and detail, both text")
    if tagged:
        for column in ("tokens", _first(table.column_names, _TAGS)):
            if not _is_list(kinds[column]) or not _is_text(kinds[column].value_type):
                raise ConfigError(f"column {column} of {name} must be a list of text", "data.path")
        return
    _want(kinds["text"], _is_text, "column text", name, "text")
    spans = kinds["spans"]
    fields = {field.name: field.type for field in spans.value_type} if _is_structs(spans) else {}
    if not {"start", "end"} <= set(fields) or not set(fields) & set(_TYPES):
        raise ConfigError(f"column spans of {name} must be a list with start, end and type (or label) of each", "data.path")
    for field, kind in fields.items():
        if field in _FIELDS:
            fits, wanted = _FIELDS[field]
            _want(kind, fits, f"field {field} of column spans", name, wanted)


def _want(kind: pa.DataType, fits: Callable[[pa.DataType], bool], what: str, name: str, wanted: str) -> None:
    if not (pa.types.is_null(kind) or fits(kind)):
        raise ConfigError(f"{what} of {name} must be {wanted}, it is {kind}", "data.path")


def _is_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(plain) or pa.types.is_large_string(plain)


def _is_id(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_structs(kind: pa.DataType) -> bool:
    return _is_list(kind) and pa.types.is_struct(kind.value_type)


def _is_failure(kind: pa.DataType) -> bool:
    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    return {"kind", "detail"} <= set(fields) and all(_is_text(fields[name]) for name in ("kind", "detail"))


_FIELDS = {
    **dict.fromkeys(("start", "end"), (pa.types.is_integer, "whole numbers")),
    **dict.fromkeys(_TYPES, (_is_text, "text")),
    "group_id": (_is_id, "text or whole numbers"),
}


def _spanned(record_id: str, text: str, rows: Sequence[Mapping[str, Any] | None], more: Mapping[str, Any]) -> Document:
    spans = []
    for row in rows:
        kind = row and (row.get("type") or row.get("label"))
        if not kind or row["start"] is None or row["end"] is None:
            return Document(record_id, "", broken="a span lacks its start, end or type", **more)
        group = row.get("group_id")
        spans.append(Span(row["start"], row["end"], kind, None if group is None else str(group)))
    return Document(record_id, text, tuple(spans), **more)


def _first(known: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in known), None)
