"""What the engine asks of a place where files are, and how a path says which place it is."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.errors import ConfigError
from engine.keys import key

TEMPORARY = ".tmp"
S3 = "s3://"


@dataclass(frozen=True)
class Entry:
    """A file as a listing saw it; `version` changes when its content does (local: mtime in ns, S3: the ETag)."""

    path: str
    size: int
    version: str


@dataclass(frozen=True)
class S3Config:
    """How the S3 service is reached and how patiently it is asked. Credentials are never among it: they come from the usual AWS
    chain of each process.

    `conditional`: whether the store refuses a conditional PUT on a taken name, as `S3Storage.probe` finds out. `proven`: the
    service and the buckets have answered this run before, so that what fails now may work later.

    Raises:
        ConfigError: the endpoint is no plain URL.
    """

    endpoint: str | None = key(
        None,
        "URL of the service behind s3:// paths; null takes AWS_ENDPOINT_URL, or AWS itself. Credentials come from AWS's chain.",
    )
    region: str | None = key(None, "Region of the buckets; null takes AWS_REGION, AWS_DEFAULT_REGION or the AWS profile's.")
    retry_seconds: float = key(60.0, "How long a failing request is tried again before the job ends with exit code 3.", low=0.0)
    timeout_seconds: float = key(20.0, "How long a request may be silent before it counts as failed.", low=1.0)
    conditional: bool = True
    proven: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError("storage.endpoint: give a URL that begins with http:// or https://")
        if self.endpoint is not None and "@" in self.endpoint:
            raise ConfigError("storage.endpoint: leave user and password out; credentials come from the AWS settings")

    def settled(self) -> "S3Config":
        """With what the environment adds, so that workers on other machines are told the same."""
        from dataclasses import replace

        endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return replace(self, endpoint=endpoint or None, region=region or None)


class Storage(Protocol):
    """Paths are full paths, as `list` gives them."""

    def list(self, folder: str) -> Iterator[Entry]:
        """Every file below a folder, sorted by path, hidden and temporary ones left out; nothing if there is no folder."""

    def stat(self, path: str) -> Entry | None:
        """The file, or None if there is none (a folder is none)."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder; on S3 one with something in it."""

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        """The file for reading, seekable; without `expect`, FileNotFoundError if there is none.

        With `expect`, InputChanged if it is missing or another one: here, or on S3 at any read.
        """

    def read(self, path: str) -> bytes | None:
        """The whole content, or None if there is no such file."""

    def create(self, path: str, data: bytes) -> bool:
        """Makes the file whole and durable if the name is free: True to exactly one caller, False to every other."""

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file that takes its name, whole and durable, when the block ends without error."""

    def link(self, source: str, target: str) -> bool:
        """Gives a file a second name if that name is free; True if it now exists by either caller's doing, False if no source.

        On S3 it is a copy, and two callers who link the same source may both make it.
        """

    def remove(self, path: str) -> None:
        """Removes a file; one that is not there is no error."""

    def remove_all(self, paths: Iterable[str]) -> None:
        """Removes files in their order, in few requests."""

    def remove_folder(self, folder: str) -> None:
        """Removes a folder and all below it, temporary files too, as far as it can: for leftovers that nothing refers to."""

    def scratch(self, folder: str) -> AbstractContextManager[str]:
        """A local folder for the length of a block: `folder` itself where that is local."""

    def probe(self, folder: str) -> bool:
        """Whether `create` keeps its promise to several drivers in this folder.

        Raises:
            ConfigError: the folder cannot be reached or written.
        """


def is_s3(path: str) -> bool:
    return path.startswith(S3)


def full_path(path: str) -> str:
    """The path with nothing left to the process's folder: absolute, or `s3://bucket/key` without a slash at its end.

    Raises:
        ConfigError: it is on a place that is not supported, or names no bucket.
    """
    if is_s3(path):
        if path.removeprefix(S3).startswith("/") or path == S3:
            raise ConfigError(f"{path} names no bucket; write s3://bucket/folder")
        return path.rstrip("/")
    if "://" in path:
        raise ConfigError(f"{path.split('://')[0]}:// paths are not supported; give a local path or s3://bucket/folder")
    return os.path.abspath(path)


def cache_folder(kind: str) -> Path:
    """This machine's folder for things of a kind that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "marginalia", kind)


def inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, links followed where they can be."""
    if is_s3(path) != is_s3(folder):
        return False
    one, other = (full_path(each) if is_s3(each) else os.path.realpath(each) for each in (path, folder))
    return one == other or one.startswith(other.rstrip("/") + "/")
