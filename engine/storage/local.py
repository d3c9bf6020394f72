"""A local or mounted file system: data goes to a temporary name, is synced, and takes its name in one step."""

import errno
import heapq
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.errors import ConfigError, InputChanged
from engine.storage.base import CHANGED, TEMPORARY, Entry
from engine.storage.whole import make_folder, plain_errors, sync, temporary_path, whole_file

# ELOOP: a link that leads to itself.
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
# How file systems report that they have no hard links; FUSE and network shares differ.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
# Why one link fails although the file system has them.
_REFUSALS = {
    errno.EXDEV: "another file system or mount lies within the output folder",
    errno.EMLINK: "its file system allows no more links to the file",
}


class LocalStorage:
    """A local or mounted file system."""

    def list(self, folder: str) -> Iterator[Entry]:
        for path in sorted(_walk(folder)):
            entry = self.stat(path)
            if entry is not None:
                yield entry

    def stat(self, path: str) -> Entry | None:
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        if not stat.S_ISREG(status.st_mode):
            return None
        return Entry(path, status.st_size, str(status.st_mtime_ns))

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        if expect is not None and self.stat(path) != expect:
            raise InputChanged(f"{path} {CHANGED}")
        return open(path, "rb")

    def read(self, path: str) -> bytes | None:
        try:
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, path: str, data: bytes) -> bool:
        temporary = temporary_path(path)
        try:
            with plain_errors(path), open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return self._link(temporary, path)
        finally:
            self.remove(temporary)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        with whole_file(path) as temporary, open(temporary, "xb") as file:
            yield file

    def link(self, source: str, target: str) -> bool:
        make_folder(os.path.dirname(target))
        try:
            self._link(source, target)
        except FileNotFoundError:
            return os.path.exists(target)
        return True

    def remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def remove_all(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.remove(path)

    @contextmanager
    def scratch(self, folder: str) -> Iterator[str]:
        make_folder(folder)
        try:
            yield folder
        finally:
            self.remove_folder(folder)

    def probe(self, folder: str) -> bool:
        return True

    def _link(self, source: str, target: str) -> bool:
        with plain_errors(target):
            try:
                os.link(source, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _REFUSALS:
                    raise ConfigError(f"cannot make {target}: {_REFUSALS[error.errno]}; name another output folder") from None
                if error.errno not in _NO_LINKS:
                    raise
                if error.errno == errno.EPERM and not _is_ours(source):
                    raise ConfigError(
                        f"cannot make {target}: another user has written {source}, and Linux links only files that we may write; "
                        "start the command as that user, or get the right to read and write the files in the output folder"
                    ) from None
                raise ConfigError(
                    f"{os.path.dirname(target)} lies on a file system without hard links ({os.strerror(error.errno)}), by "
                    "which a file is whole or absent; name an output folder on a local disk, on another share, or on s3://"
                ) from None
            sync(os.path.dirname(target))
        return True


def _is_ours(path: str) -> bool:
    """Whether the kernel would let us link the file, also with `fs.protected_hardlinks`."""
    return os.stat(path).st_uid == os.geteuid() or os.access(path, os.R_OK | os.W_OK)


def _walk(top: str) -> Iterator[str]:
    """The files below a folder, hidden and temporary ones left out.

    A folder with links to it is walked once: under its own name if that is below `top`, else under the first link. Names that
    begin with `_` come last, since an input leaves them out.
    """
    walked: set[str] = set()
    waiting = [(0, top)]
    while waiting:
        rank, folder = heapq.heappop(waiting)
        real = os.path.realpath(folder)
        if real in walked:
            continue
        walked.add(real)
        try:
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            if error.errno in _ABSENT:
                continue
            raise ConfigError(f"cannot list {folder}: {os.strerror(error.errno)}") from None
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                heapq.heappush(waiting, (max(rank, 2 if entry.name.startswith("_") else entry.is_symlink()), entry.path))
            elif not entry.name.endswith(TEMPORARY):
                yield entry.path
