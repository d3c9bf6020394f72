"""Images: each file is a record, or each study of a manifest, which is a table with the paths of images.

A manifest is read when the run is planned. Its rows are grouped to studies there, and its images are looked up, so that reading
can tell whether an image has changed since. No image is opened before a system prepares it, unless its DICOM values are kept.
"""

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from types import ModuleType
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError, RowError
from engine.images.decode import check_tag_names, tags
from engine.records import TEXT
from engine.sources.base import IMAGE, PARQUET, InputConfig, Slice, Study, unreadable
from engine.sources.column_types import from_plain, is_list, plain
from engine.sources.files import from_home
from engine.sources.rows import Rows, given
from engine.storage import Entry, Storage, full_path, is_s3, storage_for

# Bytes of a manifest that are read at once.
_PIECE_BYTES = 8 << 20

Listing = Callable[[str], Mapping[str, Entry]]


def image_bytes(file: Mapping[str, Any]) -> bytes:
    """The bytes of an image, a value of `engine.records.IMAGE_FILE`; its file is opened if a table does not hold them.

    Raises:
        InputChanged: the file is not as it was planned.
        RowError: it cannot be read.
        RetryableError: it cannot be read for a reason that may pass.
    """
    if file["data"] is not None:
        return file["data"]
    entry = Entry(file["path"], file["size"], file["version"])
    try:
        with storage_for(entry.path).open(entry.path, entry) as stream:
            return stream.read()
    except OSError as error:
        raise unreadable(entry.path, error) from None


def image_of(given: str | PathLike[str] | bytes | None, name: str) -> dict[str, Any] | None:
    """An image as `engine.records.IMAGE_FILE`, of its path, or of its bytes with a name for them; None if there is none."""
    if given is None or isinstance(given, bytes):
        return {"source": name, "path": None, "size": len(given), "version": None, "data": given} if given else None
    entry = _stat(from_home(str(given)))
    return entry and _image(posixpath.basename(entry.path), entry.path, entry.size, entry.version)


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], from_folders: Sequence[str] = ()
) -> list[pa.Field]:
    """The values of DICOM headers that are kept, as text; other images have none.

    Raises:
        ConfigError: DICOM has no such keyword, or a setting is for tables only.
    """
    for name in ("id", "study"):
        if getattr(config, name) is not None:
            raise ConfigError(f"input.{name}: image files have no columns, each is a study named by its file; leave it out")
    try:
        check_tag_names(config.keep)
    except ConfigError as error:
        raise ConfigError(error.message, "input.keep") from None
    return [pa.field(name, pa.string()) for name in config.keep]


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The file as one slice; it is not opened."""
    yield Slice(IMAGE, file, source, 1, file.size)


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds a file, whose name is the record's id, or a study of a manifest."""
    if piece.study is not None:
        return _read_study(config, piece, piece.study, rows, keep)
    image = _image(piece.source, piece.file.path, piece.file.size, piece.file.version)
    try:
        values = _tags(config, image, [each.name for each in keep])
    except RowError as error:
        rows.fail(piece.source, 0, error, record_id=piece.source)
    else:
        rows.add(piece.source, 0, None, [image], values, record_id=piece.source)


def images_of(cell: pa.Scalar, name: str) -> list[dict[str, Any] | None]:
    """The images whose bytes are in a cell, see `column_types.holds_images`; None for one without bytes.

    An image without a name of its own gets this one, in a list with its number, from 0.
    """
    if not cell.is_valid:
        return []
    return [_stored(each, f"{name}:{i}") for i, each in enumerate(cell.values)] if is_list(cell.type) else [_stored(cell, name)]


def listing(root: str) -> dict[str, Entry]:
    """Every file below a folder, by its path."""
    return {entry.path: entry for entry in storage_for(root).list(root)}


def studies(
    config: InputConfig, storage: Storage, file: Entry, source: str, table: ModuleType, format: str, listed: Listing
) -> Iterator[Slice]:
    """The studies of a manifest, each a slice, in the order of their first rows; unreadable parts of the manifest come last.

    A row without a study is a study of its own. A study fails if a row of it cannot be read, has no image, or names a file that
    is not there.

    Args:
        table: the module of the manifest's `format`.
        listed: `listing`, which may remember its answers.
    Raises:
        ConfigError: `input.root` is no folder, or a kept column has values that a plan cannot hold.
    """
    root = _root(config, file.path)
    if config.root is not None and not storage_for(root).is_folder(root):
        raise ConfigError(f"there is no folder {config.root}; name the one that the paths of {source} begin in", "input.root")
    groups: dict[Any, _Group] = {}
    broken = []
    inner = replace(config, keep=tuple(dict.fromkeys([*([config.study] if config.study is not None else []), *config.keep])))
    fields = _fields(inner, storage, file, source, table, format)
    for piece in table.cut(inner, storage, file, source, _PIECE_BYTES):
        if piece.broken is not None:
            broken.append(piece)
            continue
        rows = Rows(replace(inner, reads=TEXT, text=config.image, max_bytes=None), fields)
        table.read(inner, storage, piece, rows, fields)
        for row, kept in _values(rows.table(), fields):
            study = None if config.study is None else _given(config, source, kept[config.study])
            group = groups.setdefault((row["position"],) if study is None else study, _Group(row, kept, study))
            group.add(row)
    for group in groups.values():
        yield group.slice(config, file, source, root, listed)
    yield from broken


@dataclass
class _Group:
    """The rows of a study: the first one, its kept values and study id, and the paths in all of them."""

    row: Mapping[str, Any]
    kept: Mapping[str, Any]
    study: str | None
    names: list[str] = field(default_factory=list)
    failure: tuple[str, str] | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        failure = row["failure"]
        if failure is None:
            self.names.append(row["text"])
        elif self.failure is None:
            kind = "missing_image" if failure["kind"] == "missing_text" else failure["kind"]
            self.failure = (kind, failure["detail"])

    def slice(self, config: InputConfig, file: Entry, source: str, root: str, listed: Listing) -> Slice:
        entries = [(name, _entry(root, name, listed)) for name in self.names]
        missing = sum(entry is None for _, entry in entries)
        failure = self.failure or (("unreadable_file", f"missing={missing} of {len(entries)}") if missing else None)
        record_id = self.row["record_id"] if config.id is not None or self.study is None else self.study
        images = () if failure else tuple((name, entry.size, entry.version) for name, entry in entries)
        study = Study(record_id, images, tuple(self.kept[name] for name in config.keep), failure)
        return Slice(IMAGE, file, source, 1, sum(size for _, size, _ in images), position=self.row["position"], study=study)


def image_path(root: str, name: str) -> str:
    """The full path of an image that a manifest names.

    Raises:
        ConfigError: no storage has such a path.
    """
    if is_s3(name):
        return full_path(name)
    # A local path is made normal by `full_path`.
    return full_path(posixpath.join(root, posixpath.normpath(name) if is_s3(root) else name))


def _root(config: InputConfig, manifest: str) -> str:
    return posixpath.dirname(manifest) if config.root is None else from_home(config.root)


def _entry(root: str, name: str, listed: Listing) -> Entry | None:
    """An image of a manifest; None if there is no such file."""
    try:
        path = image_path(root, name)
    except ConfigError:
        return None
    if path.startswith(root.rstrip("/") + "/"):
        return listed(root).get(path)
    return _stat(path)


def _stat(path: str) -> Entry | None:
    """A file; None if there is none."""
    if "\0" in path:
        return None
    try:
        return storage_for(path).stat(path)
    except OSError as error:
        # Such as a name that is too long for any file.
        unreadable(path, error)
        return None


def _fields(config: InputConfig, storage: Storage, file: Entry, source: str, table: ModuleType, format: str) -> list[pa.Field]:
    """The kept columns in the file's own types; none if its types cannot be read."""
    if format != PARQUET:
        return [pa.field(name, pa.string()) for name in config.keep]
    return [each for _, _, types in table.kept_types(config, storage, [(file, source)]) for each in types]


def _values(table: pa.Table, fields: Sequence[pa.Field]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row of a manifest, and its kept values as JSON can hold them."""
    kept = table["keep"].combine_chunks()
    columns = [plain(each, kept.field(i)) for i, each in enumerate(fields)]
    for i, row in enumerate(table.drop_columns(["keep"]).to_pylist()):
        yield row, {each.name: column[i] for each, column in zip(fields, columns, strict=True)}


def _given(config: InputConfig, source: str, value: Any) -> str | None:
    """The id of a study; None if a row has none."""
    with suppress(RowError):
        return given(config, source, value)
    return None


def _read_study(config: InputConfig, piece: Slice, study: Study, rows: Rows, keep: Sequence[pa.Field]) -> None:
    root = _root(config, piece.file.path)
    images = [_image(name, image_path(root, name), size, version) for name, size, version in study.images]
    rows.put(study.record_id, piece.source, piece.position, images, study.failure and RowError(*study.failure))
    rows.keep_arrays([from_plain(value, each) for value, each in zip(study.keep, keep, strict=True)])


def _image(source: str, path: str, size: int, version: str) -> dict[str, Any]:
    return {"source": source, "path": path, "size": size, "version": version, "data": None}


def _stored(cell: pa.Scalar, name: str) -> dict[str, Any] | None:
    """An image as `IMAGE_FILE`, of bytes or of `{bytes, path}`; None if it has no bytes."""
    if pa.types.is_struct(cell.type):
        if not cell.is_valid:
            return None
        if "path" in cell.type.names:
            with suppress(UnicodeDecodeError):
                name = cell["path"].as_py() or name
        cell = cell["bytes"]
    data = cell.as_py()
    return {"source": name, "path": None, "size": len(data), "version": None, "data": data} if data else None


def _tags(config: InputConfig, image: Mapping[str, Any], names: Sequence[str]) -> Sequence[str | None]:
    """The kept values of a header; RowError if the file is too large or unreadable."""
    if not names or image["size"] > config.max_bytes:
        return [None] * len(names)
    values = tags(image_bytes(image), names)
    return [values[name] for name in names]
