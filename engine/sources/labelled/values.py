"""What a column of labels holds, in one Arrow type whatever the format: codes, highlights, marked spans, findings.

Parquet has lists and structures for them; a cell of CSV or JSONL holds the same as JSON, several codes also joined by semicolons.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.sources.column_types import is_text

MARK = [
    pa.field("start", pa.int64()),
    pa.field("end", pa.int64()),
    pa.field("label", pa.string()),
    pa.field("annotator", pa.string()),
]
CODES = pa.list_(pa.string())
MARKS = pa.list_(pa.struct(MARK))
SPANS = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32(), "type": pa.string(), "group_id": pa.string()}))
FINDINGS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("state", pa.int8())]))
_STATES = {"positive": 1, "1": 1, "negative": 0, "0": 0, "uncertain": -1, "-1": -1}


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A plain column as text.

    Raises:
        ConfigError: it holds lists or structures.
    """
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError("a column to group, part or choose by holds lists or structures; name a plain one") from None


def with_nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text with null for what is blank."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def codes_in(value: str | Sequence[str | None] | None) -> list[str] | None:
    """The codes of a list or a cell, in their order and without blanks around them.

    A list without any says that no code applies, which is an answer; a cell without any says nothing: None.
    """
    listed = _json(value) if isinstance(value, str) else value
    parts = listed if isinstance(listed, list) else (value or "").split(";")
    codes = [code for code in (str(part).strip() for part in parts if part is not None) if code]
    return codes if codes or isinstance(listed, list) else None


def highlights(column: pa.ChunkedArray, key: str) -> pa.Array:
    """Highlights as `MARKS`: each has `start` and `end`, and `label` and `annotator` where they are said.

    Args:
        key: what the user calls the setting that names the column.
    Raises:
        ConfigError: the column holds no lists of such.
    """
    if is_text(column.type):
        column = _parsed(column, key)
    kind = column.type.value_type if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) else None
    if kind is None or not pa.types.is_struct(kind) or not {"start", "end"} <= {field.name for field in kind}:
        raise ConfigError(f"{key}: the column must hold lists of highlights with start and end")
    column = column.combine_chunks()
    inner = column.values
    fields = {field.name for field in kind}
    parts = {f.name: inner.field(f.name) if f.name in fields else pa.nulls(len(inner), f.type) for f in MARK}
    return pa.ListArray.from_arrays(column.offsets.cast(pa.int32()), as_marks(parts, key), type=MARKS, mask=column.is_null())


def as_marks(columns: Mapping[str, Any], key: str) -> pa.StructArray:
    """Columns of `MARK` as one.

    Raises:
        ConfigError: a start or an end is missing, or one of another type.
    """
    if any(columns[name].null_count for name in ("start", "end")):
        raise ConfigError(f"{key}: start and end must not be null")
    try:
        return pa.StructArray.from_arrays([columns[f.name].cast(f.type) for f in MARK], fields=MARK)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        raise ConfigError(f"{key}: start and end must be whole numbers, label and annotator text") from None


def spans(column: pa.ChunkedArray) -> pa.Array:
    """Marked spans as `SPANS`; null where there is no list, and in place of a span that cannot be read."""
    rows = []
    for value in column.to_pylist():
        listed = _json(value) if isinstance(value, str) else value
        rows.append([_span(each) for each in listed] if isinstance(listed, list) else None)
    return pa.array(rows, SPANS)


def _span(value: Any) -> dict[str, Any] | None:
    """One of `SPANS`; its type may be called `label`, a pair has none."""
    try:
        told = value if isinstance(value, dict) else {"start": value[0], "end": value[1]}
        start, end = float(told["start"]), float(told["end"])
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
    if not all(each.is_integer() and abs(each) < 2**31 for each in (start, end)):
        return None
    kind, group = told.get("type") or told.get("label"), told.get("group_id")
    kind, group = kind if isinstance(kind, str) else None, None if group is None else str(group)
    return {"start": int(start), "end": int(end), "type": kind, "group_id": group}


def findings(columns: Mapping[str | None, pa.ChunkedArray]) -> tuple[pa.Array, list[bool]]:
    """What each row says of findings, as `FINDINGS`: 1 positive, 0 negative, -1 uncertain; what is not mentioned is left out.

    Also which rows hold a state that is none of these; such a row says nothing.

    Args:
        columns: states by finding, or under None one column of lists with `name` and `state` of each.
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
    """Numbers come as floats from tables with gaps, and as such are written to CSV."""
    if value is None or value == "" or value != value:
        return None
    word = str(value).strip().lower()
    return _STATES[word.removesuffix(".0")]


def _json(value: str) -> Any:
    """What a cell holds as JSON, None where it is none."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _parsed(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    """Highlights from JSON in cells; an empty cell has none."""
    try:
        cells = [json.loads(cell) if cell and not cell.isspace() else None for cell in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, MARKS)])
    except (pa.ArrowException, TypeError, ValueError, RecursionError):
        raise ConfigError(f"{key}: the column must hold lists of highlights with start and end") from None
