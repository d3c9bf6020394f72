"""Compressed files (gzip and Zstandard), decompressed as they are read."""

import io
import posixpath
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa

from engine.errors import ConfigError
from engine.storage import Entry, Storage

CODECS = {".gz": "gzip", ".zst": "zstd"}

_STEP = 1 << 16
# Steps within which decompressed garbage shows as such.
_READ_ON = 256
# About how many bytes of text a packed byte holds; the true length shows only at the end of the file.
_EXPANSION = 4
# Reading a slice unpacks everything before it, so k slices unpack a file about k/2 times. A slice is read whole, so its size is
# limited.
_USUAL_SLICES = 64
_MOST_BYTES = 128 << 20


class Damaged(OSError):
    """A packed file ends too early, or the rest cannot be unpacked."""


def plain_name(path: str) -> str:
    """The path without the ending of a packed file."""
    return posixpath.splitext(path)[0] if _codec(path) else path


def text_bytes(file: Entry) -> int:
    """About how many bytes of text a file has."""
    return file.size * _EXPANSION if _codec(file.path) else file.size


def end_of(file: Entry) -> int:
    """An upper bound of where the file's text ends."""
    return sys.maxsize if _codec(file.path) else file.size


def slice_bytes(file: Entry, shard_bytes: int) -> int:
    """How large a slice of a file should be, at least `shard_bytes`."""
    return max(shard_bytes, min(_MOST_BYTES, text_bytes(file) // _USUAL_SLICES)) if _codec(file.path) else shard_bytes


def open_file(storage: Storage, file: Entry) -> BinaryIO:
    """A listed file for reading, unpacked if its name has the ending of a packed file.

    Raises:
        InputChanged: as `Storage.open`.
        Damaged: from a read, after everything that could be unpacked.
    """
    stream, codec = storage.open(file.path, file), _codec(file.path)
    return _Unpacked(stream, codec) if codec else stream


@contextmanager
def damage_first(stream: BinaryIO) -> Iterator[None]:
    """Replaces a ConfigError about a file's content by the damage that reading on reveals, if there is some.

    Raises:
        Damaged: instead of a ConfigError.
    """
    try:
        yield
    except ConfigError:
        for _ in range(_READ_ON):
            stream.read(_STEP)
        raise


def _codec(path: str) -> str | None:
    return CODECS.get(posixpath.splitext(path)[1].lower())


class _Unclosed:
    """A stream that survives the library that reads and closes it."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read

    def close(self) -> None: ...


class _Unpacked(io.RawIOBase):
    """A packed file as a stream; seeking back starts again, seeking forward reads."""

    def __init__(self, packed: BinaryIO, codec: str) -> None:
        self._packed, self._codec = packed, codec
        self._begin()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset < self._at:
            self._begin()
        while self._at < offset and self.read(min(_STEP, offset - self._at)):
            pass
        return self._at

    def read(self, size: int) -> bytes:
        """Fewer bytes than `size` only at the end or before damage."""
        pieces = []
        while size and (piece := self._piece(min(size, _STEP), last=bool(pieces))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._packed.close()
        super().close()

    def _begin(self) -> None:
        self._packed.seek(0)
        self._stream = pa.CompressedInputStream(pa.PythonFile(_Unclosed(self._packed), mode="r"), self._codec)
        self._at = 0
        self._damaged = False

    def _piece(self, size: int, last: bool) -> bytes:
        if not self._damaged:
            try:
                piece = self._stream.read(size)
            except OSError as error:
                if error.errno is not None:
                    raise
                piece = self._rescue(size)
            self._at += len(piece)
            if piece or not self._damaged:
                return piece
        if last:
            return b""
        raise Damaged("the packed data are damaged")

    def _rescue(self, size: int) -> bytes:
        """The bytes before the damage, read one by one: a larger read that fails would lose them."""
        at = self._at
        self._begin()
        self.seek(at)
        pieces = []
        try:
            while len(pieces) < size and (piece := self._stream.read(1)):
                pieces.append(piece)
        except OSError as error:
            if error.errno is not None:
                raise
            self._damaged = True
        return b"".join(pieces)
