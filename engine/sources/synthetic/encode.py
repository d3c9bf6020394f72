"""Blocks of the corpus as the bytes of a file, in each format that the engine reads.

Not every format can hold every kind of damage: CSV hardly tells null from empty, a folder of texts has no ids to repeat.
"""

import io
import json
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import csv

from engine.sources.synthetic.damage import KINDS
from engine.sources.synthetic.generate import SPANS

FORMATS = ("parquet", "csv", "jsonl", "text", "files")
# What corpora of texts and of images can be written as.
TEXT_FORMATS, IMAGE_FORMATS = FORMATS[:4], ("parquet", "files")
_NOT_IN = {"csv": {"null_text"}, "text": {"null_text", "null_id", "duplicate_id"}}


def kinds(format: str) -> tuple[str, ...]:
    """The kinds of damage that a format can hold."""
    return tuple(kind for kind in KINDS if kind not in _NOT_IN.get(format, ()))


def csv_bytes(block: pa.Table, header: bool) -> bytes:
    """A block as CSV; spans are JSON, [[start, end], ...] or objects with a type. Null is an empty field without quotes."""
    for index, field in enumerate(block.schema):
        if pa.types.is_list(field.type):
            rows = block[field.name].to_pylist()
            if field.type == SPANS:
                rows = [[list(span.values()) for span in spans] for spans in rows]
            block = block.set_column(index, field.name, pa.array(map(json.dumps, rows), pa.string()))
    sink = io.BytesIO()
    csv.write_csv(block, sink, csv.WriteOptions(include_header=header, quoting_style="needed"))
    return sink.getvalue()


def jsonl_bytes(block: pa.Table) -> bytes:
    """A block as JSON lines. A lone surrogate is written as an escape, other invalid text as raw bytes."""
    rows = block.drop_columns("text").to_pylist()
    return b"".join(_line(block.column_names, row, raw) for row, raw in zip(rows, raw_texts(block), strict=True))


def raw_texts(block: pa.Table) -> Iterator[bytes | None]:
    """The bytes of the texts, valid UTF-8 or not."""
    for chunk in block["text"].chunks:
        yield from chunk.cast(pa.binary()).to_pylist()


def _line(names: list[str], row: dict, raw: bytes | None) -> bytes:
    text, ascii_only = None, False
    if raw is not None:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            try:
                text, ascii_only = raw.decode("utf-8", "surrogatepass"), True
            except UnicodeDecodeError:
                text = raw.decode("utf-8", "surrogateescape")
    ordered = {name: text if name == "text" else row[name] for name in names}
    line = json.dumps(ordered, ensure_ascii=ascii_only, separators=(",", ":")) + "\n"
    return line.encode("utf-8", "surrogateescape")
