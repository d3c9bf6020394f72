"""Writes a local file or folder whole or not at all: under a hidden name beside it, synced, renamed at the end."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ConfigError, RetryableError
from engine.storage.base import TEMPORARY

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def whole_file(file: str | Path) -> Iterator[Path]:
    """A path to write to; its file replaces `file` when the block ends without error.

    Raises:
        ConfigError: the folder cannot be written. RetryableError: no space left.
    """
    temporary = temporary_path(str(file))
    try:
        with plain_errors(str(file)):
            yield Path(temporary)
            sync(temporary)
            os.replace(temporary, file)
            sync(os.path.dirname(file))
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the name `folder` when the block ends without error, unless another process was faster.

    Raises:
        ConfigError: the folder cannot be written. RetryableError: no space left.
    """
    temporary = Path(temporary_path(str(folder)))
    try:
        with plain_errors(str(folder)):
            temporary.mkdir()
            yield temporary
            for path in temporary.rglob("*"):
                sync(path)
            try:
                os.rename(temporary, folder)
            except OSError:
                if not os.path.isdir(folder):
                    raise
            sync(os.path.dirname(folder))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: str) -> str:
    """A hidden, unique name beside a path; makes the folder."""
    folder = os.path.dirname(path) or "."
    make_folder(folder)
    return os.path.join(folder, f".{uuid.uuid4().hex}{TEMPORARY}")


def make_folder(folder: str) -> None:
    try:
        with plain_errors(folder):
            os.makedirs(folder, exist_ok=True)
    except FileNotFoundError:
        # Kernel file systems such as /proc report this for new names.
        raise ConfigError(f"cannot make the folder {folder}; name another one") from None


@contextmanager
def plain_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RetryableError(f"no space left for {path}; free some and run the same command again") from None
        if error.errno in _DENIED or isinstance(error, (NotADirectoryError, FileExistsError)):
            raise ConfigError(f"cannot write to {path}: {os.strerror(error.errno)}") from None
        raise


def sync(path: str | Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
