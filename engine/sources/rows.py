"""The table of a shard's records, readable and broken."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import RowError
from engine.records import IMAGES, records_schema
from engine.sources.base import InputConfig
from engine.sources.column_types import cast_column


class Rows:
    """Collects the records of a shard, readable and broken, into a table.

    The kept columns are given either as plain values with each record, or as Arrow arrays after several records.
    """

    def __init__(self, config: InputConfig, keep: Sequence[pa.Field]) -> None:
        self._config = config
        self._keep = tuple(keep)
        # Id, source, position, text or images, and failure of each record.
        self._rows: list[tuple[str, str, int, Any, dict[str, str] | None]] = []
        self._values: list[Sequence[str | None]] = []
        self._arrays: list[list[pa.Array]] = [[] for _ in self._keep]

    def add(
        self,
        source: str,
        position: int,
        given_id: str | bytes | float | None,
        payload: Any,
        kept: Sequence[str | None] = (),
        record_id: str | None = None,
        invalid_keep: bool = False,
    ) -> None:
        """Adds a parsed record; an invalid value becomes its failure.

        Args:
            given_id: the id in the input, NaN if it is missing; ignored if the config names no id column.
            payload: the text or its UTF-8 bytes; of a study the images, each a dict of `IMAGE_FILE`, or None if it is missing.
            kept: values of the kept columns; empty if `keep_arrays` follows.
            record_id: the id of the record if the config names no id column; by default source and position.
            invalid_keep: one of the kept values is not valid text.
        """
        record_id, error = record_id or f"{source}:{position}", None
        if kept:
            valid = [value if value is None or _is_encodable(value) else None for value in kept]
            kept, invalid_keep = valid, valid != list(kept)
        try:
            if self._config.id is not None:
                record_id = given(self._config, source, given_id)
            if invalid_keep:
                raise RowError("invalid_encoding", "input.keep")
        except RowError as raised:
            error = raised
        self.put(record_id, source, position, payload, error)
        if kept:
            self._values.append(kept)

    def put(self, record_id: str, source: str, position: int, payload: Any, error: RowError | None = None) -> None:
        """Adds a record with this very id, without kept columns; an invalid payload becomes its failure if it has none."""
        data = failure = None
        try:
            if error is not None:
                raise error
            data = self._checked(payload)
        except RowError as raised:
            failure = {"kind": raised.kind, "detail": raised.detail}
        self._rows.append((record_id, source, position, data, failure))

    def fail(self, source: str, position: int, error: RowError, record_id: str | None = None) -> None:
        """Adds a record that could not be parsed."""
        self.put(record_id or f"{source}:{position}", source, position, None, error)
        self._values.append((None,) * len(self._keep))

    def keep_arrays(self, arrays: Sequence[pa.Array]) -> None:
        """Adds the kept columns of the records that were added without values: one array per column, of the column's type."""
        self._flush()
        for chunks, array in zip(self._arrays, arrays, strict=True):
            chunks.append(array)

    def table(self) -> pa.Table:
        """All records so far, as a table of `records_schema`."""
        self._flush()
        if self._keep:
            columns = [
                pa.concat_arrays(chunks) if chunks else pa.array([], field.type)
                for chunks, field in zip(self._arrays, self._keep, strict=True)
            ]
            keep = pa.StructArray.from_arrays(columns, fields=list(self._keep))
        else:
            keep = pa.array([{}] * len(self._rows), pa.struct([]))
        schema = records_schema(self._keep, self._config.reads)
        columns = [range(len(self._rows)), *([row[i] for row in self._rows] for i in range(5))]
        arrays = [pa.array(values, schema.field(i).type) for i, values in enumerate(columns)]
        return pa.Table.from_arrays([*arrays, keep], schema=schema)

    def _checked(self, payload: Any) -> Any:
        if self._config.reads == IMAGES:
            return _images(payload, self._config.max_bytes)
        return None if self._config.text is None else _utf8(payload, self._config.max_bytes)

    def _flush(self) -> None:
        """Turns the kept values so far into arrays."""
        for field, values, chunks in zip(self._keep, zip(*self._values, strict=True), self._arrays, strict=False):
            chunks.append(cast_column(pa.array(values, pa.string()), field))
        self._values.clear()


def given(config: InputConfig, source: str, value: str | bytes | float | None) -> str:
    """The id that the input gives a record, under `input.id_scope`.

    Raises:
        RowError: it is missing, or no text or whole number.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise RowError("invalid_encoding", "input.id") from None
    if isinstance(value, float):
        # A float this large may have lost digits of a whole number.
        value = None if math.isnan(value) else int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise RowError("parse_error", f"id is {type(value).__name__}")
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        raise RowError("parse_error", "missing_id")
    value = str(value)
    if not _is_encodable(value):
        raise RowError("invalid_encoding", "input.id")
    return f"{source}:{value}" if config.id_scope == "file" else value


def _utf8(text: str | bytes | None, max_bytes: int) -> bytes:
    """The text as checked UTF-8 bytes; RowError if it is missing, blank, too large or not Unicode."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        raise RowError("missing_text")
    if not isinstance(text, (str, bytes)):
        raise RowError("parse_error", f"text is {type(text).__name__}")
    try:
        data = text.encode("utf-8") if isinstance(text, str) else text
        if len(data) > max_bytes:
            raise RowError("too_large", f"bytes={len(data)}")
        characters = text if isinstance(text, str) else data.decode("utf-8")
    except UnicodeError:
        raise RowError("invalid_encoding") from None
    if not characters or characters.isspace():
        raise RowError("missing_text")
    return data


def _images(files: Sequence[Mapping[str, Any] | None] | None, max_bytes: int) -> Sequence[Mapping[str, Any]]:
    """The images of a study; RowError if one is missing or too large."""
    missing = sum(file is None or (file["path"] is None and not file["data"]) for file in files or ())
    if missing or not files:
        raise RowError("missing_image", f"images={missing} of {len(files)}" if files else "")
    largest = max(file["size"] for file in files)
    if largest > max_bytes:
        raise RowError("too_large", f"bytes={largest}")
    return files


def _is_encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
