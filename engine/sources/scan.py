"""Where records begin and end in the bytes of CSV and JSONL files, found in one pass without holding the file.

Cutting and reading find the same records: a slice begins and ends at a record, and whether a record is whole or broken is
decided by its own bytes alone. Which of them a torn quote makes doubtful is decided once, while cutting (`tears`).
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
_NEWLINE = 10


class Span(NamedTuple):
    """One record in a file: bytes `start` to `stop` with its line end; `data` is None where `error` says what is wrong.

    `head` is what a record with a torn quote holds up to the place where that shows: a quote, or the end of what was read.
    """

    start: int
    stop: int
    data: bytes | None
    error: RowError | None
    head: bytes = b""


class Tear(NamedTuple):
    """A part of a file in which nobody can tell where records begin: one failed row."""

    start: int
    stop: int
    detail: str


class _Window:
    """The part of a file between two offsets, seen through a buffer that begins at the record in hand."""

    def __init__(self, stream: BinaryIO, start: int, stop: int, chunk: int = _CHUNK) -> None:
        stream.seek(start)
        self._stream = stream
        self._left = stop - start
        self._step = self._chunk = chunk
        self.offset = start
        self.data = b""
        self.at = 0
        self.ended = False

    def left(self) -> bool:
        """Whether anything is left to look at."""
        return self.held() > 0 or (self.more() and self.held() > 0)

    def more(self) -> bool:
        """Reads on; False if there is nothing more. At the end a missing line end is put in its place."""
        if self.ended:
            return False
        chunk = self._stream.read(min(self._step, self._left)) if self._left else b""
        self._left -= len(chunk)
        self.offset += self.at
        rest = self.data[self.at :]
        self._step = max(len(rest), self._chunk)
        if not chunk:
            self.ended = True
            self.stop = self.offset + len(rest)
            if rest and not rest.endswith((b"\n", b"\r")):
                rest += b"\n"
        self.data, self.at = rest + chunk, 0
        return True

    def held(self) -> int:
        """Bytes of the record in hand that are in the buffer."""
        return len(self.data) - self.at

    def take(self, end: int, error: RowError | None = None) -> Span:
        """The record that ends at `end` of the buffer."""
        start, stop = self.offset + self.at, self.offset + end
        data = None if error else self.data[self.at : end]
        self.at = end
        return Span(start, min(stop, self.stop) if self.ended else stop, data, error)

    def skip_line(self, line_end: re.Pattern[bytes], error: Callable[[int, int], RowError], head: bytes = b"") -> Span:
        """Everything up to the next line end as one broken record, without holding it; `error` gets its bytes and quotes."""
        start = self.offset + self.at
        quotes = 0
        while True:
            found = line_end.search(self.data, self.at)
            settled = found and (self.ended or found.end() < len(self.data))
            at = found.end() if settled else found.start() if found else len(self.data)
            quotes += self.data.count(b'"', self.at, at)
            self.at = at
            if settled or not self.more():
                break
        stop = self.offset + self.at
        stop = min(stop, self.stop) if self.ended else stop
        return Span(start, stop, None, error(stop - start, quotes), head)


def lines(stream: BinaryIO, start: int, stop: int, longest: int) -> Iterator[Span]:
    """Every line that is not blank. One longer than `longest` bytes is broken (`too_large`)."""
    window = _Window(stream, start, stop)
    while window.left():
        end = window.data.find(b"\n", window.at) + 1
        if not end and window.held() <= longest and window.more():
            continue
        end = end or len(window.data)
        if end - window.at > longest:
            yield window.skip_line(_LF, _too_large)
        elif window.data[window.at : end].isspace():
            window.at = end
        else:
            yield window.take(end)


def csv_records(stream: BinaryIO, start: int, stop: int, dialect: Dialect, longest: int, chunk: int = _CHUNK) -> Iterator[Span]:
    """Every record of a CSV file that is not a blank line; quoted fields may hold delimiters, line ends and doubled quotes.

    A quote that stands within an unquoted field is a character like any other. A quoted field must close, within `longest`
    bytes, and be followed by a delimiter or a line end: else the record's first line is broken (`parse_error`) and the next
    span begins on the next line, wherever that is: `tears.settled` decides what may be believed after it.
    """
    marks = grammar(dialect)
    window = _Window(stream, start, stop, chunk)

    def long_line(size: int, quotes: int) -> RowError:
        # After an odd number of quotes the line end may stand within a text.
        return _bad_quote(size, quotes) if dialect.quoting and quotes % 2 else _too_large(size, quotes)

    while window.left():
        found = marks.whole.match(window.data, window.at)
        # A CR that ends the buffer may be half of a CRLF.
        settled = found and (found.end() < len(window.data) or window.ended or window.data[found.end() - 1] == _NEWLINE)
        stray = None if found else marks.torn.match(window.data, window.at)
        # What follows may not depend on how much happens to be in the buffer, or cutting and reading would disagree.
        if settled and found.end() - window.at <= longest:
            if found.start(1) == found.start():
                window.at = found.end()
            else:
                yield window.take(found.end())
        elif stray and stray.end() - window.at <= longest:
            yield window.skip_line(_ANY, _bad_quote, stray[0][: stray[0].rfind(b'"') + 1])
        elif window.held() > longest:
            head = window.data[window.at : window.at + longest].rstrip(b'"')
            yield window.skip_line(_ANY, _bad_quote if _ANY.search(head) else long_line, head)
        elif not window.more():
            yield window.skip_line(_ANY, _bad_quote, window.data[window.at :])


def byte_slices(
    spans: Iterable[Span | Tear], format: str, file: Entry, source: str, start: int, shard_bytes: int
) -> Iterator[Slice]:
    """Cuts a file's records into slices of about `shard_bytes`, a tear alone; one empty slice if there are no records.

    Where a packed file is damaged, the rest of it is one broken record.
    """
    position = rows = 0
    begin = end = start
    damaged = False
    try:
        for span in spans:
            torn = isinstance(span, Tear)
            if rows and (torn or span.stop - begin > shard_bytes):
                yield Slice(format, file, source, rows, end - begin, begin, end, position)
                position, rows, begin = position + rows, 0, span.start
            if torn:
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
        yield _damaged(format, file, source, end, position + rows)


def cut_file(
    storage: Storage,
    format: str,
    file: Entry,
    source: str,
    shard_bytes: int,
    records: Callable[[BinaryIO], tuple[int, Iterable[Span | Tear]]],
) -> Iterator[Slice]:
    """The slices of one file. `records` finds the offset of the first record and all records, or RowError in the file's head.

    Raises:
        RetryableError: the file could be opened, and then not be read to its end.
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
            yield _damaged(format, file, source, 0, 0)
        except RowError:
            yield Slice(format, file, source, 1, file.size, broken="header")
        except OSError as error:
            raise interrupted(file.path, error) from None


def _damaged(format: str, file: Entry, source: str, end: int, position: int) -> Slice:
    return Slice(format, file, source, 1, 0, end, end, position, broken=f"damaged after byte {end}")


_LF = re.compile(rb"\n")
_ANY = re.compile(rb"\r\n|\n|\r")


def _too_large(size: int, quotes: int) -> RowError:
    return RowError("too_large", f"bytes={size}")


def _bad_quote(size: int, quotes: int) -> RowError:
    return RowError("parse_error", "quote")
