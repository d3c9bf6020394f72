"""Which files an input is, what they are called in the tables, and in what format each one is."""

import fnmatch
import glob
import os
import posixpath
from collections.abc import Iterator, Sequence

from engine.errors import ConfigError
from engine.sources.base import CSV, JSONL, PARQUET, TEXT, InputConfig
from engine.storage import Entry, Storage, full_path, is_s3, storage_for

ENDINGS = {
    PARQUET: (".parquet", ".pq"),
    CSV: (".csv", ".tsv"),
    JSONL: (".jsonl", ".ndjson"),
    TEXT: (".txt",),
}
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip")


def list_files(config: InputConfig, storage: Storage) -> list[Entry]:
    """The files of the input, sorted by path. They are listed, not opened.

    In a folder or a glob, files with unknown endings are left out; with `input.format`, a folder gives the files with that
    format's endings, and a glob or a single file is taken to be of that format whatever its name.

    Raises:
        ConfigError: there is nothing to read, a file is packed, or texts and tables are mixed.
    """
    path = input_path(config)
    if storage.is_folder(path):
        wanted = ENDINGS[config.format] if config.format else _all_endings()
        found = list(storage.list(path))
    else:
        entry = storage.stat(path)
        wanted = ("",) if config.format else _all_endings()
        found = [entry] if entry else list(_glob(path, storage))
    packed = [e.path for e in found if e.path.lower().endswith(_PACKED) and _unpacked(e.path).endswith(_all_endings())]
    files = [e for e in found if e.path.lower().endswith(wanted)]
    if packed:
        raise ConfigError(f"input.path: {packed[0]} is packed; unpack it first, or name the other files with a glob")
    if not files:
        raise ConfigError(_nothing(config, storage, path, found, wanted))
    formats = {format_of(config, entry) for entry in files}
    if TEXT in formats and len(formats) > 1:
        raise ConfigError(
            f"input.path: {config.path} holds tables and .txt files; set input.format ({', '.join(sorted(formats))})"
        )
    unnamed = next((e for e in files if not _is_unicode(e.path)), None)
    if unnamed:
        raise ConfigError(f"input.path: the name {os.path.basename(unnamed.path)!a} is not valid text; rename the file")
    return sorted(files, key=lambda entry: entry.path)


def input_base(config: InputConfig) -> str:
    """The folder that sources are relative to: the input folder, the fixed beginning of a glob, or a single file's folder."""
    path = input_path(config)
    storage = storage_for(path)
    if storage.is_folder(path):
        return path
    return posixpath.dirname(path) if storage.stat(path) else _fixed(path, storage)[0]


def source_of(entry: Entry, base: str) -> str:
    """The file's name in the tables, relative to `base`, with forward slashes."""
    if is_s3(base):
        return entry.path.removeprefix(base).lstrip("/")
    return os.path.relpath(entry.path, base).replace(os.sep, "/")


def format_of(config: InputConfig, entry: Entry) -> str:
    """The format of a listed file."""
    if config.format:
        return config.format
    return next(name for name, endings in ENDINGS.items() if entry.path.lower().endswith(endings))


def input_path(config: InputConfig) -> str:
    """The input's path with nothing left to the process's folder; `~/` is the home folder."""
    path = config.path
    if path.startswith("~/"):
        path = os.path.join(os.path.expanduser("~"), path[2:])
    return full_path(path)


def _fixed(path: str, storage: Storage) -> tuple[str, str]:
    """A glob's beginning that exists as it stands, brackets and all, and the pattern that follows it."""
    root = "/".join(path.split("/")[:3]) if is_s3(path) else os.sep
    base = root
    parts = path[len(root) :].strip("/").split("/")
    for i, part in enumerate(parts):
        # On S3 a question costs a request, and a plain name that is not there shows soon enough.
        if not (is_s3(path) and not glob.has_magic(part)) and not storage.is_folder(posixpath.join(base, part)):
            return base, "/".join(parts[i:])
        base = posixpath.join(base, part)
    return base, ""


def _glob(path: str, storage: Storage) -> Iterator[Entry]:
    base, pattern = _fixed(path, storage)
    if not glob.has_magic(pattern):
        return
    if is_s3(path):
        wanted = pattern.split("/")
        for entry in storage.list(base):
            parts = source_of(entry, base).split("/")
            # A folder that matches gives the files below it.
            if any(_matches(parts[:depth], wanted) for depth in range(1, len(parts) + 1)):
                yield entry
        return
    seen = set()
    for match in glob.iglob(os.path.join(glob.escape(base), pattern), recursive=True):
        entry = storage.stat(match)
        for each in [entry] if entry else storage.list(match):
            if each.path not in seen:
                seen.add(each.path)
                yield each


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a key's parts are what a glob's parts mean: only `**` crosses slashes, it is any number of folders."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[i:], wanted[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _all_endings() -> tuple[str, ...]:
    return tuple(ending for endings in ENDINGS.values() for ending in endings)


def _unpacked(path: str) -> str:
    return os.path.splitext(path.lower())[0]


def _nothing(config: InputConfig, storage: Storage, path: str, found: Sequence[Entry], wanted: Sequence[str]) -> str:
    """Why no file is left, and what to do."""
    endings = " ".join(wanted)
    if found:
        files = "1 file" if len(found) == 1 else f"{len(found)} files"
        return f"input.path: {config.path} has {files}, none that can be read by its ending ({endings}); set input.format"
    if storage.is_folder(path):
        return f"input.path: the folder {config.path} is empty; it should hold files ending in {endings}"
    if glob.has_magic(_fixed(path, storage)[1]):
        return f"input.path: nothing matches {config.path}; quote the pattern so that the shell leaves it alone, and check it"
    return f"input.path: there is no file or folder {config.path}"


def _is_unicode(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
