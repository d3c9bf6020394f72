"""Files behind one small interface, so that every other room works the same on a local disk and on an object store.

A written file is whole or absent, and `create` is the lock that the guarantees rest on: of many callers exactly one gets True.
Locally data goes to a temporary name, is synced, and takes its name in one step; on S3 one request does all of it.
"""

import os
from dataclasses import replace
from functools import lru_cache

from engine.storage.base import Entry, S3Config, Storage, cache_folder, full_path, inside, is_s3
from engine.storage.local import LocalStorage
from engine.storage.whole import whole_file, whole_folder

__all__ = [
    "Entry",
    "LocalStorage",
    "S3Config",
    "Storage",
    "cache_folder",
    "full_path",
    "inside",
    "is_s3",
    "probe",
    "s3_config",
    "storage_for",
    "use_s3",
    "whole_file",
    "whole_folder",
]

_s3 = S3Config()


def use_s3(config: S3Config) -> None:
    """Sets how this process reaches S3. A job calls this at its start, a worker when it gets its task."""
    global _s3
    _s3 = config.with_environment()


def s3_config() -> S3Config:
    """How this process reaches S3."""
    return _s3


def storage_for(path: str) -> Storage:
    """The storage that a path lives on.

    Raises:
        ConfigError: the place is not supported.
    """
    full_path(path)
    return _s3_storage(os.getpid(), _s3) if is_s3(path) else LocalStorage()


def probe(folder: str) -> bool:
    """Whether `create` can be relied on in a folder; this process goes by the answer from now on.

    Raises:
        ConfigError: the folder cannot be reached or written.
    """
    reliable = storage_for(folder).probe(folder)
    use_s3(replace(_s3, conditional=reliable))
    return reliable


@lru_cache
def _s3_storage(process: int, config: S3Config) -> Storage:
    """One per process: a connection does not survive a fork. Importing s3fs takes a second."""
    from engine.storage.s3 import S3Storage

    return S3Storage(config)
