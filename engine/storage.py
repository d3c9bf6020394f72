"""Files behind one small interface, so that every other room works the same on a local disk and on an object store.

A written file is whole or absent: data goes to a temporary name, is synced, and takes its name in one step. `create` is the
lock that the guarantees rest on: of many callers exactly one is told True.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.errors import ConfigError, InputChanged, RetryableError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_TEMPORARY = ".tmp"


@dataclass(frozen=True)
class Entry:
    """A file as a listing saw it; `version` changes when its content does (local: mtime in ns)."""

    path: str
    size: int
    version: str


class Storage(Protocol):
    """What the engine asks of a place where files are. Paths are full paths, as `list` gives them."""

    def list(self, folder: str) -> Iterator[Entry]:
        """Every file below a folder, sorted by path, hidden and temporary ones left out; nothing if there is no folder."""

    def stat(self, path: str) -> Entry | None:
        """The file, or None if there is none (a folder is none)."""

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        """The file for reading, seekable. With `expect`, InputChanged if it is missing or another one."""

    def read(self, path: str) -> bytes | None:
        """The whole content, or None if there is no such file."""

    def create(self, path: str, data: bytes) -> bool:
        """Makes the file whole and durable if the name is free: True to exactly one caller, False to every other."""

    def writer(self, path: str) -> "Iterator[BinaryIO]":
        """Context manager: a file that takes its name, whole and durable, when the block ends without error."""

    def link(self, source: str, target: str) -> bool:
        """Gives a file a second name if that name is free; True if it now exists by either caller's doing, False if no source."""

    def remove(self, path: str) -> None:
        """Removes a file; one that is not there is no error."""

    def remove_folder(self, folder: str) -> None:
        """Removes a folder and all below it, temporary files too, as far as it can: for leftovers that nothing refers to."""


class LocalStorage:
    """A local or mounted file system."""

    def list(self, folder: str) -> Iterator[Entry]:
        found = []
        for root, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
            folders[:] = [f for f in folders if not f.startswith(".")]
            found += [os.path.join(root, f) for f in files if not f.startswith(".") and not f.endswith(_TEMPORARY)]
        for path in sorted(found):
            entry = self.stat(path)
            if entry is not None:
                yield entry

    def stat(self, path: str) -> Entry | None:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not os.path.isfile(path):
            return None
        return Entry(path, status.st_size, str(status.st_mtime_ns))

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        if expect is not None and self.stat(path) != expect:
            raise InputChanged(f"{path} changed or vanished since the run was planned; restore it, or start a new output folder")
        return open(path, "rb")

    def read(self, path: str) -> bytes | None:
        try:
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, path: str, data: bytes) -> bool:
        temporary = self._write(path, data)
        try:
            return self._name(temporary, path)
        finally:
            self.remove(temporary)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        temporary = _temporary(path)
        try:
            with _plain_errors(path), open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            self.remove(temporary)
            raise
        _sync_folder(path)

    def link(self, source: str, target: str) -> bool:
        with _plain_errors(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            self._name(source, target)
        except FileNotFoundError:
            return os.path.exists(target)
        return True

    def remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def _name(self, source: str, target: str) -> bool:
        with _plain_errors(target):
            try:
                os.link(source, target)
            except FileExistsError:
                return False
            _sync_folder(target)
        return True

    def _write(self, path: str, data: bytes) -> str:
        temporary = _temporary(path)
        try:
            with _plain_errors(path), open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            self.remove(temporary)
            raise
        return temporary


def storage_for(path: str) -> Storage:
    """The storage that a path lives on."""
    if "://" in path:
        raise ConfigError(f"{path.split('://')[0]}:// paths are not supported yet; give a local path")
    return LocalStorage()


def _temporary(path: str) -> str:
    folder = os.path.dirname(path) or "."
    with _plain_errors(folder):
        os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f".{uuid.uuid4().hex}{_TEMPORARY}")


@contextmanager
def _plain_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RetryableError(f"no space left for {path}; free some and run the same command again") from None
        if error.errno in _DENIED or isinstance(error, (NotADirectoryError, FileExistsError)):
            raise ConfigError(f"cannot write to {path}: {os.strerror(error.errno)}") from None
        raise


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(error: OSError) -> None:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return
    raise ConfigError(f"cannot list {error.filename}: {os.strerror(error.errno)}")
