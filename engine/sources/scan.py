"""Finds where records begin and end in the bytes of CSV and JSONL files, in one pass without holding the file.

Cutting and reading find the same records: a slice begins and ends at a record, and the bytes of a record alone decide whether it
is whole or broken. Which records a torn quote makes doubtful is decided once, while cutting (`tears`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from engine.errors import RowError
from engine.sources.base import Slice, interrupted, unreadable
from engine.sources.dialect import Dialect, grammar
from engine.sources.packed import Damaged, open_file, slice_bytes
from engine.storage import Entry, Storage

_CHUNK = 1 << 20
_LF = re.compile(rb"\n")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Span(NamedTuple):
    """One record in a file: bytes `start` to `stop` with its line end; `data` is None if there is an `error`.

    `head` is the part of a record with a torn quote up to where that shows: a quote, or the end of what was read.
    """

    start: int
    stop: int
    data: bytes | None
    error: RowError | None
    head: bytes = b""


class Tear(NamedTuple):
    """A part of a file in which record boundaries are lost: one failed row."""

    start: int
    stop: int
    detail: str


class _Window:
    """The part of a file between two offsets, seen through a buffer that begins at the current record."""

    def __init__(self, stream: BinaryIO, start: int, stop: int, chunk: int = _CHUNK) -> None:
        stream.seek(start)
        self._stream = stream
        self._left = stop - start
        self._step = self._chunk = chunk
        self.offset = start
        self.data = b""
        self.at = 0
        self.ended = False

    def has_data(self) -> bool:
        return self.size() > 0 or (self.read_more() and self.size() > 0)

    def size(self) -> int:
        """Bytes in the buffer from the current record on."""
        return len(self.data) - self.at

    def read_more(self) -> bool:
        """Reads on; False at the end, where a missing line end is added."""
        if self.ended:
            return False
        chunk = self._stream.read(min(self._step, self._left)) if self._left else b""
        self._left -= len(chunk)
        self.offset += self.at
        rest = self.data[self.at :]
        self._step = max(len(rest), self._chunk)
        if not chunk:
            self.ended = True
            self._stop = self.offset + len(rest)
            if rest and not rest.endswith((b"\n", b"\r")):
                rest += b"\n"
        self.data, self.at = rest + chunk, 0
        return True

    def take(self, end: int) -> Span:
        """The record that ends at `end` of the buffer."""
        start, data = self.offset + self.at, self.data[self.at : end]
        self.at = end
        return Span(start, self._position(), data, None)

    def skip_line(self, line_end: re.Pattern[bytes], torn: bool | None, head: bytes = b"") -> Span:
        """Everything up to the next line end as one broken record, without holding it.

        Args:
            torn: its error is a torn quote, else its length; None: a torn quote if its number of quotes is odd, since the line
                end may then be within a text.
        """
        start, quotes = self.offset + self.at, 0
        while True:
            match = line_end.search(self.data, self.at)
            # A CR at the end of the buffer may be half of a CRLF.
            certain = match and (self.ended or match.end() < len(self.data))
            at = match.end() if certain else match.start() if match else len(self.data)
            quotes += self.data.count(b'"', self.at, at)
            self.at = at
            if certain or not self.read_more():
                break
        stop = self._position()
        torn = quotes % 2 == 1 if torn is None else torn
        error = RowError("parse_error", "quote") if torn else RowError("too_large", f"bytes={stop - start}")
        return Span(start, stop, None, error, head)

    def _position(self) -> int:
        """The offset of the current record in the file, without an added line end."""
        return min(self.offset + self.at, self._stop) if self.ended else self.offset + self.at


def lines(stream: BinaryIO, start: int, stop: int, longest: int) -> Iterator[Span]:
    """Every line that is not blank. One longer than `longest` bytes is broken (`too_large`)."""
    window = _Window(stream, start, stop)
    while window.has_data():
        end = window.data.find(b"\n", window.at) + 1
        if not end and window.size() <= longest and window.read_more():
            continue
        end = end or len(window.data)
        if end - window.at > longest:
            yield window.skip_line(_LF, torn=False)
        elif window.data[window.at : end].isspace():
            window.at = end
        else:
            yield window.take(end)


def csv_records(stream: BinaryIO, start: int, stop: int, dialect: Dialect, longest: int, chunk: int = _CHUNK) -> Iterator[Span]:
    """Every record of a CSV file that is not a blank line; quoted fields may hold delimiters, line ends and doubled quotes.

    A quote within an unquoted field is a character like any other. A quoted field must close within `longest` bytes, before a
    delimiter or a line end. Otherwise the record's first line is broken (`parse_error`) and the next span begins on the next
    line, wherever that is; `tears.resolve_tears` decides which later records to believe.
    """
    marks = grammar(dialect)
    window = _Window(stream, start, stop, chunk)
    while window.has_data():
        match = marks.whole.match(window.data, window.at)
        # A CR at the end of the buffer may be half of a CRLF.
        certain = match and (match.end() < len(window.data) or window.ended or window.data.endswith(b"\n"))
        torn = None if match else marks.torn.match(window.data, window.at)
        # Nothing may depend on how much is in the buffer, or cutting and reading would disagree.
        if certain and match.end() - window.at <= longest:
            if match.start(1) == match.start():
                window.at = match.end()
            else:
                yield window.take(match.end())
        elif torn and torn.end() - window.at <= longest:
            yield window.skip_line(_LINE_END, torn=True, head=torn[0][: torn[0].rfind(b'"') + 1])
        elif window.size() > longest:
            head = window.data[window.at : window.at + longest].rstrip(b'"')
            is_torn = True if _LINE_END.search(head) else None if dialect.quoting else False
            yield window.skip_line(_LINE_END, is_torn, head)
        elif not window.read_more():
            yield window.skip_line(_LINE_END, torn=True, head=window.data[window.at :])


def byte_slices(
    spans: Iterable[Span | Tear], format: str, file: Entry, source: str, start: int, shard_bytes: int
) -> Iterator[Slice]:
    """Cuts a file's records into slices of about `shard_bytes`, each tear into its own; one empty slice without records.

    The damaged rest of a packed file is one broken record.
    """
    position = rows = 0
    begin = end = start
    damaged = False
    try:
        for span in spans:
            is_tear = isinstance(span, Tear)
            if rows and (is_tear or span.stop - begin > shard_bytes):
                yield Slice(format, file, source, rows, end - begin, begin, end, position)
                position, rows, begin = position + rows, 0, span.start
            if is_tear:
                yield Slice(format, file, source, 1, 0, span.start, span.stop, position, torn=span.detail)
                position, begin = position + 1, span.stop
            else:
                rows += 1
            end = span.stop
    except Damaged:
        damaged = True
    if rows or not (position or damaged):
        yield Slice(format, file, source, rows, end - begin, begin, end, position)
    if damaged:
        yield _damaged_slice(format, file, source, end, position + rows)


def cut_file(
    storage: Storage,
    format: str,
    file: Entry,
    source: str,
    shard_bytes: int,
    records: Callable[[BinaryIO], tuple[int, Iterable[Span | Tear]]],
) -> Iterator[Slice]:
    """The slices of one file. `records` returns the offset of the first record and all records; RowError if the head is broken.

    Raises:
        RetryableError: the file could be opened, but not read to its end.
    """
    try:
        stream = open_file(storage, file)
    except OSError as error:
        yield Slice(format, file, source, 1, file.size, broken=unreadable(file.path, error).detail)
        return
    with stream:
        try:
            start, spans = records(stream)
            yield from byte_slices(spans, format, file, source, start, slice_bytes(file, shard_bytes))
        except Damaged:
            yield _damaged_slice(format, file, source, 0, 0)
        except RowError:
            yield Slice(format, file, source, 1, file.size, broken="header")
        except OSError as error:
            raise interrupted(file.path, error) from None


def _damaged_slice(format: str, file: Entry, source: str, end: int, position: int) -> Slice:
    return Slice(format, file, source, 1, 0, end, end, position, broken=f"damaged after byte {end}")
