"""A run's table as CSV for a spreadsheet: one line per report, entity or finding, lists as words, no cell a formula."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.records import AUTO, FAILED, REVIEW, system_columns, tasks_of
from engine.storage import storage_for

ALL = "all"
ROWS = (ALL, AUTO, REVIEW, FAILED)
DELIMITERS = (",", ";")
_RECORD = ("record_id", "source", "position", "decision")
_TASK = ("code", "name", "prob", "top")
# Columns with lists, each item on a line of its own: the beginning of the headers, and the fields shown.
_LISTS = {
    "entities": ("entity", ("type", "start", "end", "assertion", "score", "zero_shot")),
    "labels": ("finding", ("name", "prob", "threshold", "pred", "clear")),
}
_BEGINNING = codecs.BOM_UTF8 + _RECORD[0].encode()
_BATCH = 4096
_SHOWN = 3
# The start of a formula, also after blanks and in full width (OWASP, CSV injection). Apostrophes before it count, so that one in
# the text can be told from one that was added.
_FORMULA = re.compile(r"'*[\s\x00-\x1f\ufeff]*[=+\-@\t\r\n＝＋－＠]")


def write_sheet(path: str, files: Sequence[str], rows: str = ALL, delimiter: str = ",") -> int:
    """Writes the rows of `codes`, `entities` or `findings` as CSV, whole or not at all; returns the number of lines below the
    header.

    The columns: record_id, source, position, decision, reasons; for each task code, name, probability and the most probable
    codes, or one entity's type, place, assertion and score, or one finding's name, probability, threshold, whether it is positive
    and whether it is clear; the kind of failure; the kept columns. A report without entities has one line. UTF-8 with a byte
    order mark and `\\r\\n`, as spreadsheets expect; with the delimiter `;`, numbers have a decimal comma.

    Args:
        files: the published files of the table, in order; a few thousand rows are read at a time.
        rows: one of `ROWS`: which decisions. delimiter: one of `DELIMITERS`.
    Raises:
        ConfigError: a file is missing, the table is another one, or the path is a folder or a file that is no export.
    """
    storage = storage_for(path)
    if storage.is_folder(path):
        raise ConfigError(f"{path} is a folder; name a file to write")
    if storage.stat(path) is not None:
        with storage.open(path) as old:
            if old.read(len(_BEGINNING)) != _BEGINNING:
                raise ConfigError(f"{path} exists and is no export of a run; name another file, or remove it first")
    lines = -1
    with storage.writer(path) as file:
        file.write(codecs.BOM_UTF8)
        for part in _parts(files, rows, "," if delimiter == ";" else "."):
            text = io.StringIO(newline="")
            csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(part)
            file.write(text.getvalue().encode("utf-8"))
            lines += len(part)
    return lines


def harmless(text: str) -> str:
    """The text, after an apostrophe if a spreadsheet might take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _parts(files: Sequence[str], rows: str, point: str) -> Iterator[list[Sequence[str]]]:
    """The header, then the lines batch by batch. `point` is the decimal mark."""
    for number, path in enumerate(files):
        storage = storage_for(path)
        if storage.stat(path) is None:
            raise ConfigError(f"{path} is missing; start the run's own command again, which puts its tables in place")
        with storage.open(path) as stream:
            parquet = pq.ParquetFile(stream)
            names = _names(parquet.schema_arrow)
            if number == 0:
                yield [[harmless(name) for name, _ in _cells(parquet.schema_arrow.empty_table().select(names), point)]]
            for batch in parquet.iter_batches(_BATCH, columns=names):
                table = pa.Table.from_batches([batch]).select(names)
                if rows != ALL:
                    table = table.filter(pc.equal(table["decision"], rows))
                yield list(zip(*(cells for _, cells in _cells(table, point)), strict=True))


def _names(schema: pa.Schema) -> list[str]:
    """The columns to read.

    Raises:
        ConfigError: the table has neither codes nor entities nor findings.
    """
    answers = [f"{task}_{end}" for task in tasks_of(schema) for end in ("decision", *_TASK)]
    answers += [name for name in _LISTS if name in system_columns(schema.names)]
    if not answers:
        raise ConfigError(
            "the run has neither codes nor entities nor findings; name the output.path of jobs.code_reports, extract_entities or "
            "read_images"
        )
    kept = schema.names[schema.names.index("model_digest") + 1 :]
    return [name for name in (*_RECORD, "reasons", *answers, "failure", *kept) if name in schema.names]


def _cells(table: pa.Table, point: str) -> list[tuple[str, list[str]]]:
    """The headers with the cells under each; a kept column may share its name with one of these."""
    answers: list[tuple[str, list[str]]] = []
    for column in [name for name in _LISTS if name in system_columns(table.column_names)]:
        head, fields = _LISTS[column]
        pairs = [(row, item) for row, items in enumerate(table[column].to_pylist()) for item in items or [{}]]
        table = table.take(pa.array([row for row, _ in pairs], pa.int64()))
        kinds = table.schema.field(column).type.value_type
        # Runs of older versions have no assertions.
        for name in (name for name in fields if kinds.get_field_index(name) >= 0):
            values = pa.array([item.get(name) for _, item in pairs], kinds.field(name).type)
            answers.append((f"{head}_{name}", (_probs if pa.types.is_floating(values.type) else _texts)(values, point)))
    for task in tasks_of(table.schema):
        for end in _TASK:
            if (name := f"{task}_{end}") in table.column_names:
                values = table[name]
                answers.append((name, {"prob": _probs, "top": _tops}.get(end, _texts)(values, point)))
    reasons = [harmless("; ".join(row or ())) for row in table["reasons"].to_pylist()]
    kinds = _texts(pc.struct_field(table["failure"], "kind"), point)
    kept = table.column_names[table.column_names.index("failure") + 1 :]
    record, kept = ([(name, _texts(table[name], point)) for name in names] for names in (_RECORD, kept))
    return [*record, ("reasons", reasons), *answers, ("failure", kinds), *kept]


def _texts(values: pa.Array | pa.ChunkedArray, point: str) -> list[str]:
    """Cells of any type; null is empty."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return [_number(value, point) for value in values.cast(pa.string()).to_pylist()]
    if pa.types.is_nested(kind):
        texts = [value if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in values.to_pylist()]
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        texts = [value if value is None else value.hex() for value in values.to_pylist()]
    else:
        texts = values.cast(pa.string()).to_pylist()
    return [_text(value) for value in texts]


def _text(value: str | None) -> str:
    return "" if value is None else harmless(value)


def _number(value: str | None, point: str) -> str:
    # An infinite value is no number to a spreadsheet.
    return value.replace(".", point) if value and value[-1].isdigit() else _text(value)


def _probs(values: pa.Array | pa.ChunkedArray, point: str) -> list[str]:
    return [_prob(value, point) for value in values.to_pylist()]


def _prob(value: float | None, point: str) -> str:
    return "" if value is None else f"{value:.4f}".replace(".", point)


def _tops(values: pa.ChunkedArray, point: str) -> list[str]:
    rows = ((row or ())[:_SHOWN] for row in values.to_pylist())
    return [harmless("; ".join(f"{top['code']} {_prob(top['prob'], point)}" for top in row)) for row in rows]
