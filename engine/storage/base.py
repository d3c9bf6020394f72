"""The interface of a storage, and which storage a path means."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.errors import ConfigError
from engine.keys import key

TEMPORARY = ".tmp"
S3 = "s3://"
CHANGED = "changed or vanished since the run was planned; restore it, or start a new output folder"


@dataclass(frozen=True)
class Entry:
    """A file as a listing saw it; `version` changes when its content does (local: mtime in ns, S3: the ETag)."""

    path: str
    size: int
    version: str


@dataclass(frozen=True)
class S3Config:
    """How to reach the S3 service and how long to retry. Credentials are never part of it: each process takes them from AWS's
    usual chain.

    `conditional`: whether the store refuses a conditional PUT on a taken name, see `S3Storage.probe`. `proven`: the service and
    the buckets have answered this run before, so that what fails now may work later.

    Raises:
        ConfigError: the endpoint is no plain URL.
    """

    endpoint: str | None = key(
        None,
        "URL of the service behind s3:// paths; null takes AWS_ENDPOINT_URL, or AWS itself. Credentials come from AWS's chain.",
    )
    region: str | None = key(None, "Region of the buckets; null takes AWS_REGION, AWS_DEFAULT_REGION or the AWS profile's.")
    retry_seconds: float = key(
        60.0, "Seconds for which a failing request is tried again before the job ends with exit code 3.", low=0.0
    )
    timeout_seconds: float = key(20.0, "Seconds without any answer after which a request counts as failed.", low=1.0)
    conditional: bool = True
    proven: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError("storage.endpoint: give a URL that begins with http:// or https://")
        if self.endpoint is not None and "@" in self.endpoint:
            raise ConfigError("storage.endpoint: leave user and password out; credentials come from the AWS settings")

    def with_environment(self) -> "S3Config":
        """With the environment's endpoint and region, so that workers on other machines use the same."""
        endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return replace(self, endpoint=endpoint or None, region=region or None)


class Storage(Protocol):
    """Paths are full paths, as `list` gives them."""

    def list(self, folder: str) -> Iterator[Entry]:
        """Every file below a folder, sorted by path, hidden and temporary ones left out; nothing if there is no folder."""

    def stat(self, path: str) -> Entry | None:
        """The file, or None if there is none; a folder is no file."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder; on S3 one with something in it."""

    def open(self, path: str, expect: Entry | None = None) -> BinaryIO:
        """The file for reading, seekable; FileNotFoundError if there is none.

        With `expect`, InputChanged if it is missing or different: here, or on S3 at any read.
        """

    def read(self, path: str) -> bytes | None:
        """The whole content, or None if there is no such file."""

    def create(self, path: str, data: bytes) -> bool:
        """Makes the file whole and durable if the name is free: True to exactly one caller, False to every other."""

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file that takes its name, whole and durable, when the block ends without error."""

    def link(self, source: str, target: str) -> bool:
        """Gives a file a second name if that name is free; True if the name now exists, whoever made it, False without a source.

        On S3 it is a copy, and two callers who link the same source may both make it.
        """

    def remove(self, path: str) -> None:
        """Removes a file; a missing one is no error."""

    def remove_all(self, paths: Iterable[str]) -> None:
        """Removes files in their order, in few requests."""

    def remove_folder(self, folder: str) -> None:
        """Removes a folder and everything below it, temporary files too, as far as possible: for leftovers."""

    def scratch(self, folder: str) -> AbstractContextManager[str]:
        """A local folder for the duration of a block: `folder` itself if that is local."""

    def probe(self, folder: str) -> bool:
        """Whether `create` can be relied on with several drivers in this folder.

        Raises:
            ConfigError: the folder cannot be reached or written.
        """


def is_s3(path: str) -> bool:
    return path.startswith(S3)


def full_path(path: str) -> str:
    """The absolute path, or `s3://bucket/key` without a slash at its end.

    Raises:
        ConfigError: the place is not supported, or no bucket is named.
    """
    if is_s3(path):
        if path.removeprefix(S3).startswith("/") or path == S3:
            raise ConfigError(f"{path} names no bucket; write s3://bucket/folder")
        return path.rstrip("/")
    if "://" in path:
        raise ConfigError(f"{path.split('://')[0]}:// paths are not supported; give a local path or s3://bucket/folder")
    return os.path.abspath(path)


def cache_folder(kind: str) -> Path:
    """This machine's folder for a kind of file that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "marginalia", kind)


def inside(path: str, folder: str) -> bool:
    """Whether a path is the folder or lies in it; local links are followed."""
    if is_s3(path) != is_s3(folder):
        return False
    path, folder = (full_path(each) if is_s3(each) else os.path.realpath(each) for each in (path, folder))
    return path == folder or path.startswith(folder.rstrip("/") + "/")
