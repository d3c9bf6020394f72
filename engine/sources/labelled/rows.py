"""Annotated text in tables: a row a document, with text and a list of spans, or with lists of tokens and tags.

Columns have their usual names: `record_id`, `sentence_id` or `doc_id`; `tokens` with `ner_tags` or `tags`; `text` with `spans`
or `entities`, whose fields are `start`, `end`, `type` or `label`, and optionally `group_id`; `split`; `dataset` or `corpus`;
`lang` or `language`. Offsets are whole numbers, ids text or whole numbers, everything else is text. A cell of CSV or JSONL has
its spans as JSON.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace

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
_SPANS = ("spans", "entities")
_TEXT, _NUMBER, _ID, _LIST = "text", "whole numbers", "text or whole numbers", "a list of text"
_FAILURE = "a record with kind and detail, both text"
_FITS: Mapping[str, Callable[[pa.DataType], bool]] = {
    _TEXT: is_text,
    _NUMBER: pa.types.is_integer,
    _ID: lambda kind: is_text(kind) or pa.types.is_integer(kind),
    _LIST: lambda kind: is_list(kind) and is_text(kind.value_type),
    _FAILURE: lambda kind: all(is_text(_fields(kind).get(name, pa.null())) for name in ("kind", "detail")),
}
_SPAN_FIELDS = {"start": _NUMBER, "end": _NUMBER, **dict.fromkeys(_TYPES, _TEXT), "group_id": _ID}
# The run that reads the texts decides which of them are too large.
_MOST_BYTES = 1 << 30


def read(file: Entry, config: Labelled, prefix: str, dataset: str, split: str | None = None) -> Iterator[Document]:
    """The rows of a file, with the columns of `config.group` and `config.more` that it has.

    Args:
        prefix: of the ids of rows without one. dataset, split: defaults of rows whose columns do not say.
    Raises:
        ConfigError: it cannot be read, lacks a needed column or has one of another type, or a split that is none of train, valid,
            test.
    """
    name, schema = posixpath.basename(file.path), config.schema_of(file)
    names = schema.names
    tags, ids = _first(names, _TAGS if "tokens" in names else ()), _first(names, [config.id] if config.id else _IDS)
    marked = _first(names, _SPANS)
    if not tags and ("text" not in names or marked is None):
        raise ConfigError(f"{name} has neither tokens and {_TAGS[0]} nor text and spans; it has {', '.join(names)}", "data.path")
    facts = {"dataset": _first(names, _DATASETS), "lang": _first(names, _LANGUAGES), "split": _first(names, ["split"])}
    content = {"tokens": _LIST, tags: _LIST} if tags else {"text": _TEXT}
    _check(schema, name, {**dict.fromkeys(facts.values(), _TEXT), **content, ids: _ID, "failure": _FAILURE}, marked)
    extra = {key: column for key, column in {"group": config.group, **config.more}.items() if column in names}
    if ids is None and (extra or config.source or config.id_scope == "file"):
        raise ConfigError(f"{config.named('id')}: {name} has none of the columns {', '.join(_IDS)}; name the one with its ids")
    # A config of a subclass names further columns.
    plain = Labelled(**{each.name: getattr(config, each.name) for each in fields(Labelled)})
    table = replace(
        plain,
        id=ids,
        group=None,
        failed=_first(names, ["failure"]),
        max_bytes=_MOST_BYTES,
        more={key: column for key, column in {**facts, **extra}.items() if column},
        **({"labels": {"tokens": "tokens", "tags": tags}} if tags else {"text": "text", "spans": {"marked": marked}}),
    )
    tables = Reader(table, [file]).tables()
    for number, row in enumerate(row for table in tables for row in table.to_pylist()):
        if row["split"] is not None and split_called(row["split"]) is None:
            raise ConfigError(f"{name} has a split that is none of train, valid, test (row {number})", "data.path")
        values = {
            "dataset": row.get("dataset") or dataset,
            "lang": row.get("lang"),
            "split": split_called(row["split"]) or split,
            "more": {key: row[key] for key in extra},
        }
        record_id = f"{prefix}:{number}" if ids is None or row["record_id"] is None else row["record_id"]
        failure = row["failure"]
        if failure and failure["kind"] == "unreadable_file":
            raise unreadable(file.path, format_of(config.input(), file))
        if failure:
            yield Document(record_id, "", broken=failure["detail"] or failure["kind"], **values)
        elif tags:
            yield iob2.document(record_id, row["tokens"] or (), row["tags"] or (), **values)
        elif row["text"] is None or row["marked_spans"] is None:
            yield Document(record_id, "", broken="no text" if row["text"] is None else "no list of spans", **values)
        elif all(span and span["type"] for span in row["marked_spans"]):
            yield Document(record_id, row["text"], tuple(Span(**span) for span in row["marked_spans"]), **values)
        else:
            yield Document(record_id, "", broken="a span lacks its start, end or type", **values)


def _check(schema: pa.Schema, name: str, columns: Mapping[str | None, str], marked: str | None) -> None:
    """Checks the types of the columns once, so that rows need no checks, and the fields of the column of spans `marked`. A column
    of nulls counts as missing."""
    kinds = {field.name: value_type(field.type) for field in schema}
    checks = [(f"column {column}", kinds[column], wanted) for column, wanted in columns.items() if column in kinds]
    if "text" in columns and marked and not is_text(kinds[marked]):
        inner = _fields(kinds[marked].value_type) if is_list(kinds[marked]) else {}
        if not {"start", "end"} <= set(inner) or not set(inner) & set(_TYPES):
            raise ConfigError(
                f"column {marked} of {name} must be a list with start, end and type (or label) of each", "data.path"
            )
        checks += [
            (f"field {each} of column {marked}", inner[each], _SPAN_FIELDS[each]) for each in inner if each in _SPAN_FIELDS
        ]
    for what, kind, wanted in checks:
        if not pa.types.is_null(kind) and not _FITS[wanted](kind):
            raise ConfigError(f"{what} of {name} must be {wanted}, it is {kind}", "data.path")


def _fields(kind: pa.DataType) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}


def _first(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """The first of these names that is a column."""
    return next((name for name in names if name in columns), None)
