"""The files of an input, their names in the tables, and the format of each."""

import fnmatch
import glob
import os
import posixpath
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.records import IMAGES
from engine.sources import delta
from engine.sources.base import CSV, FORMATS, IMAGE, JSONL, PARQUET, TEXT, InputConfig
from engine.sources.packed import CODECS
from engine.storage import Entry, Storage, full_path, is_s3, storage_for

ENDINGS = {
    PARQUET: (".parquet", ".pq"),
    CSV: (".csv", ".tsv"),
    JSONL: (".jsonl", ".ndjson"),
    TEXT: (".txt",),
    IMAGE: (".dcm", ".dicom", ".dic", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"),
}
# Such a file may hold any JSON; it is read as JSON lines only if the user says so.
_JSON = (".json", *(".json" + packing for packing in CODECS))
_PACKED = (*CODECS, ".bz2", ".xz", ".lz4", ".zip")


@dataclass(frozen=True)
class Listing:
    """The files of an input, sorted by path, and notes for the user about other files, a line each."""

    files: list[Entry]
    notes: list[str]


def list_files(config: InputConfig, storage: Storage) -> list[Entry]:
    """The files of the input, see `survey`."""
    return survey(config, storage).files


def survey(config: InputConfig, storage: Storage, known: Container[str] = ()) -> Listing:
    """Lists the files of the input without opening them.

    In a folder or a glob, files with unknown endings are left out; with `input.format`, a folder gives the files with that
    format's endings, and a glob or a single file is read in that format whatever its name. Where images are read, a file without
    an ending is one, as those of DICOM often are. Files and folders whose names begin with `_` are left out as internal files of
    other programs, unless the path names them. Each file is read once, however many links lead to it.

    Args:
        known: paths to prefer if a file has several names.
    Raises:
        ConfigError: there is nothing to read, a file is packed in a way that is not read, or tables are mixed with other files.
    """
    path = input_path(config)
    base, pattern, entry = _split(path, storage)
    entries = [entry] if entry else list(_glob(base, pattern, storage) if pattern else storage.list(base))
    wanted = _wanted(config, pattern)
    named = [part for part in pattern.split("/") if part.startswith("_")]
    internal = {e.path for e in entries if _is_internal(source_of(e, base), named)}
    packed = [e.path for e in entries if e.path not in internal and _is_packed(config, e.path.lower(), pattern)]
    bare = config.reads == IMAGES and config.format in (None, IMAGE)
    readable = [e for e in entries if e.path.lower().endswith(wanted) or (bare and _is_bare(e.path))]
    files = [e for e in readable if e.path not in internal]
    if packed:
        raise ConfigError(f"{packed[0]} is packed; unpack it first, or name the other files with a glob", "input.path")
    if not files:
        raise ConfigError(_why_none(config, storage, path, entries, internal), "input.path")
    formats = {format_of(config, entry) for entry in files}
    if formats & {TEXT, IMAGE} and len(formats) > 1:
        others, advice = ("images", " or name the tables alone") if IMAGE in formats else (".txt files", "")
        raise ConfigError(
            f"{config.path} holds tables and {others}; set input.format ({', '.join(sorted(formats))}){advice}", "input.path"
        )
    for file in files:
        # Undecodable bytes of a local file name are surrogates.
        if any("\ud800" <= character <= "\udfff" for character in file.path):
            raise ConfigError(f"the name {os.path.basename(file.path)!a} is not valid text; rename the file", "input.path")
    unique = files if is_s3(base) else _unique(files, base, known)
    skipped = [source_of(e, base) for e in readable if e.path in internal and not _is_log(e)]
    log = [e for e in entries if _is_log(e)]
    if glob.has_magic(pattern) and not entry:
        log = log or list(storage.list(posixpath.join(base, delta.LOG)))
    outdated = delta.outdated(storage, log) if log else set()
    notes = _notes(skipped, len(files) - len(unique), sum(e.path in outdated for e in unique))
    return Listing(sorted(unique, key=lambda entry: entry.path), notes)


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
    return next((name for name in FORMATS[config.reads] if entry.path.lower().endswith(_endings(name))), IMAGE)


def input_path(config: InputConfig) -> str:
    """The full path of the input; `~/` is the home folder."""
    return from_home(config.path)


def from_home(path: str) -> str:
    """The full path of a setting; `~/` is the home folder."""
    return full_path(os.path.expanduser(path) if path.startswith("~/") else path)


def _split(path: str, storage: Storage) -> tuple[str, str, Entry | None]:
    """The folder that sources are relative to, what follows it (a file's name, a glob's pattern or nothing), and the file."""
    if storage.is_folder(path):
        return path, "", None
    entry = storage.stat(path)
    return (*(posixpath.split(path) if entry else _fixed(path, storage)), entry)


def _fixed(path: str, storage: Storage) -> tuple[str, str]:
    """The beginning of a glob that exists literally, brackets and all, and the pattern after it."""
    root = "/".join(path.split("/")[:3]) if is_s3(path) else os.sep
    base = root
    parts = path[len(root) :].strip("/").split("/")
    for i, part in enumerate(parts):
        # On S3 a check costs a request, and a plain name that does not exist shows soon enough.
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
            # A matching folder stands for the files below it.
            if any(_matches(parts[:depth], wanted) for depth in range(1, len(parts) + 1)):
                yield entry
        return
    seen = set()
    for match in glob.iglob(os.path.join(glob.escape(base), pattern)):
        file = storage.stat(match)
        for entry in [file] if file else storage.list(match):
            if entry.path not in seen:
                seen.add(entry.path)
                yield entry


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a glob, in which `**` is any number of folders."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[i:], wanted[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _endings(format: str) -> tuple[str, ...]:
    """The endings of a format's files, also of packed ones."""
    plain = ENDINGS[format]
    return plain + tuple(ending + packing for ending in plain for packing in CODECS) if format in (CSV, JSONL) else plain


def _all_endings(config: InputConfig) -> tuple[str, ...]:
    return tuple(ending for format in FORMATS[config.reads] for ending in _endings(format))


def _is_bare(path: str) -> bool:
    """Whether a name has no ending; what follows the last dot of a DICOM identifier is a number."""
    ending = posixpath.splitext(path)[1].removeprefix(".")
    return not ending or ending.isdecimal()


def _wanted(config: InputConfig, pattern: str) -> tuple[str, ...]:
    """The endings of files to read; any if there is `input.format` and the path names files."""
    if config.format is None:
        return _all_endings(config)
    return ("",) if pattern else _endings(config.format) + (_JSON if config.format == JSONL else ())


def _is_packed(config: InputConfig, path: str, pattern: str) -> bool:
    """Whether a file has to be unpacked before it can be read."""
    plain, packing = posixpath.splitext(path)
    wanted = _all_endings(config) if pattern else _wanted(config, pattern)
    if packing not in _PACKED or not plain.endswith(wanted):
        return False
    unpacked = path.endswith(_all_endings(config)) if config.format is None else config.format in (CSV, JSONL)
    return packing not in CODECS or not unpacked


def _is_internal(source: str, named: Sequence[str]) -> bool:
    """Whether this is an internal file of another program, as in Spark's `_temporary`. A folder `_a=b` is a partition."""
    return any(
        part.startswith("_") and "=" not in part and not any(fnmatch.fnmatchcase(part, name) for name in named)
        for part in source.split("/")
    )


def _is_log(entry: Entry) -> bool:
    return posixpath.basename(posixpath.dirname(entry.path)) == delta.LOG


def _unique(files: Sequence[Entry], base: str, known: Container[str]) -> list[Entry]:
    """Each file once, under one of its names: a name in `known`, else its real path below `base`, else the first."""
    names: dict[tuple, list[Entry]] = {}
    for entry in files:
        try:
            status = os.stat(entry.path)
        except FileNotFoundError:
            continue
        # Some file systems have no or ambiguous file numbers.
        identity = (status.st_dev, status.st_ino or entry.path, entry.size, entry.version)
        names.setdefault(identity, []).append(entry)
    top = os.path.realpath(base)

    def rank(entry: Entry) -> tuple[bool, bool, str]:
        linked = os.path.realpath(entry.path) != os.path.join(top, source_of(entry, base))
        return entry.path not in known, linked, entry.path

    return [entries[0] if len(entries) == 1 else min(entries, key=rank) for entries in names.values()]


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


def _why_none(config: InputConfig, storage: Storage, path: str, entries: Sequence[Entry], internal: Container[str]) -> str:
    """Why there is no file to read, and what to do."""
    formats = [config.format] if config.format else FORMATS[config.reads]
    endings = " ".join(ending for each in formats for ending in ENDINGS[each])
    if entries:
        unread = [e.path.lower() for e in entries if e.path not in internal]
        if not unread:
            return f"all names in {config.path} begin with _, which marks what is not to be read; name one itself"
        advice = "set input.format"
        if all(path.endswith(_JSON) for path in unread):
            advice = "if they hold one object a line, set input.format=jsonl"
        return f"{config.path} has {_files(len(unread))}, none that can be read by its ending ({endings}); {advice}"
    if storage.is_folder(path):
        return f"the folder {config.path} is empty; it should hold files ending in {endings}"
    if glob.has_magic(_fixed(path, storage)[1]):
        return f"nothing matches {config.path}; quote the pattern so that the shell leaves it alone, and check it"
    return f"there is no file or folder {config.path}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
