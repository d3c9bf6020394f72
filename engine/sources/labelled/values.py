"""Columns of labels in one Arrow type for all formats: codes, highlights, marked spans, findings.

Parquet has lists and structures for them; a cell of CSV or JSONL has the same as JSON, or codes joined by semicolons.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.sources.column_types import is_text

MARKS = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "label": pa.string(), "annotator": pa.string()}))
MARK = list(MARKS.value_type)
CODES = pa.list_(pa.string())
SPANS = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32(), "type": pa.string(), "group_id": pa.string()}))
FINDINGS = pa.list_(pa.struct({"name": pa.string(), "state": pa.int8()}))
_STATES = {"positive": 1, "1": 1, "negative": 0, "0": 0, "uncertain": -1, "-1": -1}


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; ConfigError if it holds lists or structures."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError("a column to group, part or choose by holds lists or structures; name a plain one") from None


def with_nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text with null for blank values."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def codes_in(value: str | Sequence[str | None] | None) -> list[str] | None:
    """The codes of a list or a cell, in order and without blanks around them.

    An empty list says that no code applies; an empty cell says nothing: None.
    """
    listed = _json(value) if isinstance(value, str) else value
    parts = listed if isinstance(listed, list) else (value or "").split(";")
    codes = [code for code in (str(part).strip() for part in parts if part is not None) if code]
    return codes if codes or isinstance(listed, list) else None


def highlights(column: pa.ChunkedArray, key: str) -> pa.Array:
    """Highlights as `MARKS`: each with `start` and `end`, and optionally `label` and `annotator`.

    Args:
        key: the user's name of the setting that names the column.
    Raises:
        ConfigError: the column has no lists of highlights.
    """
    problem = ConfigError("the column must hold lists of highlights with start and end", key)
    if is_text(column.type):
        try:
            cells = [json.loads(cell) if cell and not cell.isspace() else None for cell in column.to_pylist()]
            column = pa.chunked_array([pa.array(cells, MARKS)])
        except (pa.ArrowException, TypeError, ValueError, RecursionError):
            raise problem from None
    kind = column.type.value_type if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) else None
    fields = {field.name for field in kind} if kind is not None and pa.types.is_struct(kind) else set()
    if not {"start", "end"} <= fields:
        raise problem
    column = column.combine_chunks()
    inner = column.values
    parts = {f.name: inner.field(f.name) if f.name in fields else pa.nulls(len(inner), f.type) for f in MARK}
    return pa.ListArray.from_arrays(column.offsets.cast(pa.int32()), as_marks(parts, key), type=MARKS, mask=column.is_null())


def as_marks(columns: Mapping[str, Any], key: str) -> pa.StructArray:
    """The columns of `MARK` as one; ConfigError if a start or end is missing, or a column has another type."""
    if any(columns[name].null_count for name in ("start", "end")):
        raise ConfigError("start and end must not be null", key)
    try:
        return pa.StructArray.from_arrays([columns[f.name].cast(f.type) for f in MARK], fields=MARK)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        raise ConfigError("start and end must be whole numbers, label and annotator text", key) from None


def spans(column: pa.ChunkedArray) -> pa.Array:
    """Marked spans as `SPANS`; null for a missing list and for a span that cannot be read."""
    rows = []
    for value in column.to_pylist():
        listed = _json(value) if isinstance(value, str) else value
        rows.append([_span(item) for item in listed] if isinstance(listed, list) else None)
    return pa.array(rows, SPANS)


def _span(value: Any) -> dict[str, Any] | None:
    """One of `SPANS`; its type may be called `label`, and a pair has none."""
    try:
        span = value if isinstance(value, dict) else {"start": value[0], "end": value[1]}
        start, end = float(span["start"]), float(span["end"])
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
    if not all(offset.is_integer() and abs(offset) < 2**31 for offset in (start, end)):
        return None
    kind, group = span.get("type") or span.get("label"), span.get("group_id")
    kind = kind if isinstance(kind, str) else None
    return {"start": int(start), "end": int(end), "type": kind, "group_id": None if group is None else str(group)}


def findings(columns: Mapping[str | None, pa.ChunkedArray]) -> tuple[pa.Array, list[bool]]:
    """The findings of each row as `FINDINGS`: 1 positive, 0 negative, -1 uncertain, without those not mentioned.

    Also which rows have an unknown state; such a row is null.

    Args:
        columns: states by finding, or under None one column of lists with `name` and `state`.
    """
    rows, unknown = [], []
    for values in zip(*(column.to_pylist() for column in columns.values()), strict=True):
        pairs: Iterable[tuple[Any, Any]] = zip(columns, values, strict=True)
        try:
            if None in columns:
                listed = json.loads(values[0]) if isinstance(values[0], str) else values[0]
                pairs = listed.items() if isinstance(listed, dict) else [(each["name"], each["state"]) for each in listed or ()]
            states = [{"name": str(name), "state": _state(value)} for name, value in pairs]
            rows.append([each for each in states if each["state"] is not None])
            unknown.append(False)
        except (ValueError, TypeError, KeyError):
            rows.append(None)
            unknown.append(True)
    return pa.array(rows, FINDINGS), unknown


def _state(value: str | float | None) -> int | None:
    """Numbers of columns with nulls are floats, also in CSV."""
    if value is None or value == "" or value != value:
        return None
    word = str(value).strip().lower()
    return _STATES[word.removesuffix(".0")]


def _json(value: str) -> Any:
    """The JSON value of a cell; None if it is no JSON."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
