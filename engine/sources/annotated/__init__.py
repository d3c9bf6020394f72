"""Annotated text (gold mentions of entities) in the formats that it comes in, as one table of documents.

`read_documents` takes a file, a folder or a glob and goes by the files' endings: `.parquet` (tokens and tags, or text and spans),
`.tsv`, `.iob2`, `.iob`, `.bio`, `.conll` (IOB2), `.ann` with its `.txt` (BRAT standoff), `.xml` (GENIA).
"""

import posixpath
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from engine.errors import ConfigError
from engine.sources.annotated import brat, genia, iob2, tables
from engine.sources.annotated.documents import DOCUMENTS, Document, Span, from_table, lost_mentions, split_called, to_table
from engine.sources.base import TEXT, InputConfig
from engine.sources.files import input_path, list_files
from engine.storage import Entry, Storage, storage_for

__all__ = ["DOCUMENTS", "Document", "Span", "from_table", "lost_mentions", "read_documents", "to_table"]

_PARQUET, _IOB2, _ANN, _TXT, _XML = (".parquet", ".pq"), (".tsv", ".iob2", ".iob", ".bio", ".conll"), ".ann", ".txt", ".xml"
_READ = (*_PARQUET, *_IOB2, _ANN, _TXT, _XML)


def read_documents(path: str) -> pa.Table:
    """All documents below a path, as `DOCUMENTS`, broken ones flagged in `failure`.

    The split is that of a column, or the folder or file that is called train, dev, valid or test; else null.

    Raises:
        ConfigError: there is nothing to read, a file is not what its ending says, none of its documents can be used, or two
            documents have one id.
    """
    storage = storage_for(path)
    found: list[Document] = []
    for file in _files(path, storage):
        documents = [document.checked() for document in _read(file, storage)]
        if len(documents) > 1 and all(document.broken for document in documents):
            name, why = posixpath.basename(file.path), documents[0].broken
            raise ConfigError(f"data.path: no document of {name} can be used; the first: {why}")
        found += documents
    table = to_table(found)
    twice = sum(count > 1 for count in Counter(table["record_id"].to_pylist()).values())
    if twice:
        raise ConfigError(f"data.path: {twice} ids stand at more than one document; give files whose ids differ")
    if not found or all(document.broken for document in found):
        raise ConfigError(f"data.path: {path} has {len(found)} documents, none that can be used")
    return table


def _files(path: str, storage: Storage) -> list[Entry]:
    full = input_path(InputConfig(path, None))
    try:
        folder = storage.is_folder(full)
        listed = list(storage.list(full)) if folder else list_files(InputConfig(path, None, format=TEXT), storage)
    except ConfigError as error:
        raise ConfigError(str(error).replace("input.path", "data.path").removesuffix("; set input.format")) from None
    files = [entry for entry in listed if entry.path.lower().endswith(_READ)]
    if not files:
        raise ConfigError(f"data.path: {path} has no file that can be read by its ending ({' '.join(_READ)})")
    annotations = Counter(_stem(entry.path) for entry in files if entry.path.lower().endswith(_ANN))
    twice = next((stem for stem, count in annotations.items() if count > 1), None)
    if twice:
        raise ConfigError("data.path: a text has .ann files in several folders; name the one folder whose annotations count")
    return [entry for entry in files if not entry.path.lower().endswith(_TXT) or _stem(entry.path) not in annotations]


def _read(file: Entry, storage: Storage) -> Iterator[Document]:
    name, ending = posixpath.basename(file.path), posixpath.splitext(file.path.lower())[1]
    stem, more = _stem(file.path), {"dataset": _dataset(file.path), "split": _split(file.path)}
    if ending in _PARQUET:
        with storage.open(file.path, file) as stream:
            yield from tables.read(stream, name, stem)
    elif ending in _IOB2:
        yield from iob2.read(_text(storage, file.path), stem, **more)
    elif ending == _XML:
        with storage.open(file.path, file) as stream:
            yield from genia.read(stream.read(), name, **more)
    elif ending == _TXT:
        yield brat.document(stem, "", None, **more)
    else:
        text = _beside(storage, file.path)
        yield brat.document(stem, _text(storage, text), _text(storage, file.path), **more)


def _beside(storage: Storage, path: str) -> str:
    """The text of an annotation file: in its folder, or in one called `text` next to it, as CADEC has it."""
    folder, name = posixpath.dirname(path), f"{_stem(path)}{_TXT}"
    for place in (folder, posixpath.join(posixpath.dirname(folder), "text")):
        if storage.stat(posixpath.join(place, name)):
            return posixpath.join(place, name)
    raise ConfigError(f"data.path: there is no {name} beside {posixpath.basename(path)}, nor in a folder text next to it")


def _text(storage: Storage, path: str) -> str:
    try:
        return (storage.read(path) or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"data.path: {posixpath.basename(path)} is not UTF-8; convert it first") from None


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _split(path: str) -> str | None:
    """By the file's name, or the nearest folder of such a name."""
    return next((split for part in (_stem(path), *reversed(path.split("/")[:-1])) if (split := split_called(part))), None)


def _dataset(path: str) -> str:
    """The nearest name that is not that of a split."""
    names = [part for part in (_stem(path), *reversed(path.split("/")[:-1])) if part and not split_called(part)]
    return names[0] if names else _stem(path)
