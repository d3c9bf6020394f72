"""Which files an input is, what they are called in the tables, and in what format each one is."""

import fnmatch
import glob
import os
import posixpath
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.sources import delta
from engine.sources.base import CSV, JSONL, PARQUET, TEXT, InputConfig
from engine.sources.packed import CODECS
from engine.storage import Entry, Storage, full_path, is_s3, storage_for

ENDINGS = {
    PARQUET: (".parquet", ".pq"),
    CSV: (".csv", ".tsv"),
    JSONL: (".jsonl", ".ndjson"),
    TEXT: (".txt",),
}
# Any file of JSON may be called so; of lines of it, only if the user says so.
_JSON = (".json", *(".json" + packing for packing in CODECS))
_PACKED = (*CODECS, ".bz2", ".xz", ".lz4", ".zip")


@dataclass(frozen=True)
class Listing:
    """The files of an input, sorted by path, and what a user should know of other files: one line each."""

    files: list[Entry]
    notes: list[str]


def list_files(config: InputConfig, storage: Storage) -> list[Entry]:
    """The files of the input, as `survey` finds them."""
    return survey(config, storage).files


def survey(config: InputConfig, storage: Storage, known: Container[str] = ()) -> Listing:
    """Looks for the files of the input. They are listed, not opened.

    In a folder or a glob, files with unknown endings are left out; with `input.format`, a folder gives the files with that
    format's endings, and a glob or a single file is taken to be of that format whatever its name. Files and folders whose
    names begin with `_` are left out as what other programs keep for themselves, unless the path itself names them so. Each
    file is read once, whatever links lead to it.

    Args:
        known: paths that a file keeps, where it has further names.
    Raises:
        ConfigError: there is nothing to read, a file is packed in a way that is not read, or texts and tables are mixed.
    """
    path = input_path(config)
    base, pattern, entry = _split(path, storage)
    found = [entry] if entry else list(_glob(base, pattern, storage) if pattern else storage.list(base))
    wanted = _wanted(config, pattern)
    named = [part for part in pattern.split("/") if part.startswith("_")]
    aside = {e.path for e in found if _is_aside(source_of(e, base), named)}
    packed = [e.path for e in found if e.path not in aside and _is_packed(config, e.path.lower(), pattern)]
    readable = [e for e in found if e.path.lower().endswith(wanted)]
    files = [e for e in readable if e.path not in aside]
    if packed:
        raise ConfigError(f"{packed[0]} is packed; unpack it first, or name the other files with a glob", "input.path")
    if not files:
        raise ConfigError(_nothing(config, storage, path, found, aside), "input.path")
    formats = {format_of(config, entry) for entry in files}
    if TEXT in formats and len(formats) > 1:
        raise ConfigError(
            f"{config.path} holds tables and .txt files; set input.format ({', '.join(sorted(formats))})", "input.path"
        )
    unnamed = next((e for e in files if not _is_unicode(e.path)), None)
    if unnamed:
        raise ConfigError(f"the name {os.path.basename(unnamed.path)!a} is not valid text; rename the file", "input.path")
    once = files if is_s3(base) else _once(files, base, known)
    skipped = [source_of(e, base) for e in readable if e.path in aside and not _is_log(e)]
    log = [e for e in found if _is_log(e)]
    if glob.has_magic(pattern) and not entry:
        log = log or list(storage.list(posixpath.join(base, delta.LOG)))
    outdated = delta.outdated(storage, log) if log else set()
    notes = _notes(skipped, len(files) - len(once), sum(e.path in outdated for e in once))
    return Listing(sorted(once, key=lambda entry: entry.path), notes)


def input_base(config: InputConfig) -> str:
    """The folder that sources are relative to: the input folder, the fixed beginning of a glob, or a single file's folder."""
    path = input_path(config)
    return _split(path, storage_for(path))[0]


def source_of(entry: Entry, base: str) -> str:
    """The file's name in the tables, relative to `base`, with forward slashes."""
    return entry.path.removeprefix(base).lstrip("/")


def format_of(config: InputConfig, entry: Entry) -> str:
    """The format of a listed file."""
    if config.format:
        return config.format
    return next(name for name in ENDINGS if entry.path.lower().endswith(_endings(name)))


def input_path(config: InputConfig) -> str:
    """The input's path with nothing left to the process's folder; `~/` is the home folder."""
    path = config.path
    if path.startswith("~/"):
        path = os.path.join(os.path.expanduser("~"), path[2:])
    return full_path(path)


def _split(path: str, storage: Storage) -> tuple[str, str, Entry | None]:
    """The folder that sources are relative to, what follows it (a file's name, a glob's pattern or nothing), and the file."""
    if storage.is_folder(path):
        return path, "", None
    entry = storage.stat(path)
    return (*(posixpath.split(path) if entry else _fixed(path, storage)), entry)


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


def _glob(base: str, pattern: str, storage: Storage) -> Iterator[Entry]:
    if not glob.has_magic(pattern):
        return
    wanted = pattern.split("/")
    if is_s3(base) or "**" in wanted:
        for entry in storage.list(base):
            parts = source_of(entry, base).split("/")
            # A folder that matches gives the files below it.
            if any(_matches(parts[:depth], wanted) for depth in range(1, len(parts) + 1)):
                yield entry
        return
    seen = set()
    for match in glob.iglob(os.path.join(glob.escape(base), pattern)):
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


def _endings(format: str) -> tuple[str, ...]:
    """The endings of a format's files, packed ones too."""
    plain = ENDINGS[format]
    return plain + tuple(ending + packing for ending in plain for packing in CODECS) if format in (CSV, JSONL) else plain


def _all_endings() -> tuple[str, ...]:
    return tuple(ending for format in ENDINGS for ending in _endings(format))


def _wanted(config: InputConfig, pattern: str) -> tuple[str, ...]:
    """The endings of what is read: with `input.format` any, where the path names files."""
    if config.format is None:
        return _all_endings()
    return ("",) if pattern else _endings(config.format) + (_JSON if config.format == JSONL else ())


def _is_packed(config: InputConfig, path: str, pattern: str) -> bool:
    """Whether a file would be read if it were unpacked, and is not read packed."""
    plain, packing = posixpath.splitext(path)
    wanted = _all_endings() if pattern else _wanted(config, pattern)
    if packing not in _PACKED or not plain.endswith(wanted):
        return False
    unpacked = path.endswith(_all_endings()) if config.format is None else config.format in (CSV, JSONL)
    return packing not in CODECS or not unpacked


def _is_aside(source: str, named: Sequence[str]) -> bool:
    """Whether another program keeps this file for itself, as Spark's `_temporary` is. A folder `_a=b` is a partition."""
    return any(
        part.startswith("_") and "=" not in part and not any(fnmatch.fnmatchcase(part, each) for each in named)
        for part in source.split("/")
    )


def _is_log(entry: Entry) -> bool:
    return posixpath.basename(posixpath.dirname(entry.path)) == delta.LOG


def _once(files: Sequence[Entry], base: str, known: Container[str]) -> list[Entry]:
    """Every file by one name: one that is known, else its real path below `base`, else the first."""
    names: dict[tuple, list[Entry]] = {}
    for entry in files:
        try:
            status = os.stat(entry.path)
        except FileNotFoundError:
            continue
        # Some file systems number no files, or not well.
        same = (status.st_dev, status.st_ino or entry.path, entry.size, entry.version)
        names.setdefault(same, []).append(entry)
    top = os.path.realpath(base)

    def rank(entry: Entry) -> tuple[bool, bool, str]:
        linked = os.path.realpath(entry.path) != os.path.join(top, source_of(entry, base))
        return entry.path not in known, linked, entry.path

    return [alike[0] if len(alike) == 1 else min(alike, key=rank) for alike in names.values()]


def _notes(skipped: Sequence[str], doubled: int, outdated: int) -> list[str]:
    notes = []
    if skipped:
        notes.append(
            f"{_files(len(skipped))} skipped, of a name or in a folder that begins with _ (such as {min(skipped)}); "
            "to read them, name them in input.path"
        )
    if doubled:
        notes.append(f"{_files(doubled)} skipped as another name (a link) of one that is read")
    if outdated:
        notes.append(
            f"{_files(outdated)} read although the Delta table has deleted them or rows in them; "
            "to leave those rows out, write the table's present version to another folder"
        )
    return notes


def _nothing(config: InputConfig, storage: Storage, path: str, found: Sequence[Entry], aside: Container[str]) -> str:
    """Why no file is left, and what to do."""
    endings = " ".join(ending for each in ([config.format] if config.format else ENDINGS) for ending in ENDINGS[each])
    if found:
        hidden = [e.path for e in found if e.path in aside]
        if len(hidden) == len(found):
            return f"all names in {config.path} begin with _, which marks what is not to be read; name one itself"
        unread = [e for e in found if e.path not in aside]
        advice = "set input.format"
        if all(e.path.lower().endswith(_JSON) for e in unread):
            advice = "if they hold one object a line, set input.format=jsonl"
        return f"{config.path} has {_files(len(unread))}, none that can be read by its ending ({endings}); {advice}"
    if storage.is_folder(path):
        return f"the folder {config.path} is empty; it should hold files ending in {endings}"
    if glob.has_magic(_fixed(path, storage)[1]):
        return f"nothing matches {config.path}; quote the pattern so that the shell leaves it alone, and check it"
    return f"there is no file or folder {config.path}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _is_unicode(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
