"""Annotated text (gold mentions of entities) in its usual formats, as documents.

`read_documents` takes a file, a folder or a glob and goes by the files' endings: `.parquet` (tokens and tags, or text and spans),
`.tsv`, `.iob2`, `.iob`, `.bio`, `.conll` (IOB2), `.ann` with its `.txt` (BRAT standoff), `.xml` (GENIA). Text and spans may also
be in `.csv` and JSON lines, which are read if the path ends in these.

A type that is not marked in a dataset does not count against a model there, so a dataset must be a corpus and never one document:
it is the value of a column, else the nearest folder whose name is no split's. A file's own name counts only if the file can be a
corpus by itself: it is no BRAT standoff, and no other file of its kind and split is beside it. Tables without a split in their
path are corpora of their own.

The id of a BRAT text is its file's name; if several texts have one name, such as train/1.txt and test/1.txt, it is the path in
the folder that is read, without the ending. A file that repeats another's text counts once.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from engine.errors import ConfigError
from engine.sources.base import JSONL, PARQUET, TEXT, InputConfig
from engine.sources.files import ENDINGS, input_base, input_path, source_of
from engine.sources.labelled import brat, genia, iob2, rows
from engine.sources.labelled.documents import Document, split_called
from engine.sources.labelled.genia import Omitted
from engine.sources.labelled.table import Labelled, files_at
from engine.storage import Entry, Storage, storage_for

_PARQUET, TABLES = ENDINGS[PARQUET], (*ENDINGS[PARQUET], ".csv", *ENDINGS[JSONL])
_IOB2, _ANN, _TXT, _XML = (".tsv", ".iob2", ".iob", ".bio", ".conll"), ".ann", ".txt", ".xml"
_READABLE = (*_PARQUET, *_IOB2, _ANN, _TXT, _XML)
# Folders in which CADEC separates texts and annotations.
_HALVES = ("original", "text")


def read_documents(config: Labelled, omitted: Omitted) -> list[Document]:
    """All documents below a path, each checked.

    The split is that of a column, or of the folder or file called train, dev, valid or test; else null.

    Args:
        config: its `id`, `source`, `id_scope`, `group`, `more` and dialect matter, and only for tables.
        omitted: collects mentions without a span.
    Raises:
        ConfigError: there is nothing to read, a file is not what its ending says, none of its documents can be used, or two
            documents have one id.
    """
    path, storage = config.path, storage_for(config.path)
    documents: list[Document] = []
    files = annotated_files(path)
    ids = _standoff_ids(files, storage, path)
    files = [file for file in files if file.path in ids or not _is_standoff(file.path)]
    shared = _shared_datasets(files)
    for file in files:
        read = _read(file, storage, _group(file.path) in shared, ids, omitted, config)
        checked = [document.checked() for document in read]
        if len(checked) > 1 and all(document.broken for document in checked):
            name, reason = posixpath.basename(file.path), checked[0].broken
            raise ConfigError(f"no document of {name} can be used; the first: {reason}", "data.path")
        documents += checked
    repeated = [name for name, count in Counter(document.record_id for document in documents).items() if count > 1]
    if repeated:
        problem = f"{len(repeated)} ids belong to more than one document, such as {repeated[0]!r}"
        raise ConfigError(f"{problem}; give files whose ids differ", "data.path")
    if all(document.broken for document in documents):
        raise ConfigError(f"{path} has {len(documents)} documents, none that can be used", "data.path")
    return documents


def annotated_files(path: str) -> list[Entry]:
    """The files below a path that `read_documents` reads.

    Raises:
        ConfigError: there are none.
    """
    storage, full = storage_for(path), input_path(InputConfig(path, None))
    listed = storage.list(full) if storage.is_folder(full) else files_at(path, TEXT)
    # Other tables in a folder are something else, such as a list of its files.
    endings = (*_READABLE, *TABLES) if path.lower().endswith(TABLES) else _READABLE
    files = [entry for entry in listed if entry.path.lower().endswith(endings)]
    if not files:
        raise ConfigError(f"{path} has no file that can be read by its ending ({' '.join(_READABLE)})", "data.path")
    return files


def _standoff_ids(files: Sequence[Entry], storage: Storage, path: str) -> dict[str, str]:
    """Ids of BRAT documents by the path of the annotations, or of a text without any.

    Raises:
        ConfigError: a text has several files of annotations, or one of several of one name has no text.
    """
    by_name: dict[str, dict[str, Entry]] = {}
    for file in files:
        if _is_standoff(file.path):
            by_name.setdefault(_stem(file.path), {})[file.path] = file
    ids: dict[str, str] = {}
    ambiguous: list[Entry] = []
    for name, members in by_name.items():
        annotations = [each for each in members if each.lower().endswith(_ANN)]
        their_texts = {place for each in annotations for place in _text_places(each)}
        lone = [each for each in members if each not in annotations and each not in their_texts]
        if len(annotations) + len(lone) > 1:
            # These may be different texts, or layers of annotations of one text; only the texts tell.
            texts = [storage.read(_text_path(storage, each)) or b"" for each in annotations]
            filled = [text for text in texts if text.strip()]
            if len(set(filled)) < len(filled):
                raise ConfigError(
                    f"the text {name}{_TXT} has .ann files in several folders; name the one folder whose annotations count",
                    "data.path",
                )
            lone = [each for each in lone if storage.read(each) not in texts]
        paths = [*annotations, *lone]
        if len(paths) == 1:
            ids[paths[0]] = name
        else:
            ambiguous += [members[each] for each in paths]
    base = input_base(InputConfig(path, None)) if ambiguous else ""
    return ids | {each.path: posixpath.splitext(source_of(each, base))[0] for each in ambiguous}


def _read(
    file: Entry, storage: Storage, shared: bool, ids: Mapping[str, str], omitted: Omitted, config: Labelled
) -> Iterator[Document]:
    """The documents of a file; `shared`: its dataset has several files."""
    name, ending = posixpath.basename(file.path), posixpath.splitext(file.path.lower())[1]
    stem, split = _stem(file.path), _split(file.path)
    dataset = (_folder(file.path)[1] if shared or split_called(stem) else stem) or stem
    facts = {"dataset": dataset, "split": split}
    # Generated ids must differ between files, such as the train.tsv of several datasets.
    parts = (dataset, None if split_called(stem) else split, stem)
    prefix = "/".join(dict.fromkeys(part for part in parts if part))
    if ending in TABLES:
        yield from rows.read(file, config, prefix, **facts)
    elif ending in _IOB2:
        yield from iob2.read(_text(storage, file.path), prefix, **facts)
    elif ending == _XML:
        with storage.open(file.path, file) as stream:
            yield from genia.read(stream.read(), name, omitted, prefix=prefix, **facts)
    elif ending == _TXT:
        yield brat.document(ids[file.path], "", None, **facts)
    else:
        text = _text(storage, _text_path(storage, file.path))
        yield brat.document(ids[file.path], text, _text(storage, file.path), **facts)


def _text_path(storage: Storage, path: str) -> str:
    """The text of an annotation file."""
    for place in _text_places(path):
        if storage.stat(place):
            return place
    name = posixpath.basename(path)
    raise ConfigError(f"there is no {_stem(path)}{_TXT} beside {name}, nor in a folder text next to it", "data.path")


def _text_places(path: str) -> list[str]:
    """Where the text of an annotation file may be: in its folder, or in a folder `text` next to it, as in CADEC."""
    folder, name = posixpath.dirname(path), f"{_stem(path)}{_TXT}"
    return [posixpath.join(place, name) for place in (folder, posixpath.join(posixpath.dirname(folder), "text"))]


def _is_standoff(path: str) -> bool:
    return path.lower().endswith((_ANN, _TXT))


def _text(storage: Storage, path: str) -> str:
    try:
        return (storage.read(path) or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{posixpath.basename(path)} is not UTF-8; convert it first", "data.path") from None


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _split(path: str) -> str | None:
    """The split that the file or the nearest such folder is named after."""
    return next((split for part in (_stem(path), *reversed(path.split("/")[:-1])) if (split := split_called(part))), None)


def _shared_datasets(files: Sequence[Entry]) -> set[tuple[str, str]]:
    """The groups of files (see `_group`) that are one dataset together."""
    counts = Counter((*_group(file.path), posixpath.dirname(file.path), _split(file.path)) for file in files)
    return {
        (folder, kind)
        for (folder, kind, _, split), count in counts.items()
        if kind == _ANN or (count > 1 and (split or kind not in TABLES))
    }


def _group(path: str) -> tuple[str, str]:
    """The folder that may be a file's dataset, and the file's kind."""
    ending = posixpath.splitext(path.lower())[1]
    kinds = {**dict.fromkeys(TABLES, TABLES[0]), **dict.fromkeys(_IOB2, _IOB2[0]), _TXT: _ANN}
    return _folder(path)[0], kinds.get(ending, ending)


def _folder(path: str) -> tuple[str, str]:
    """The nearest folder whose name is no split's, and that name; empty without one."""
    halves = _HALVES if _is_standoff(path) else ()
    folder = posixpath.dirname(path)
    while (name := posixpath.basename(folder)) and (split_called(name) or name.lower() in halves):
        folder = posixpath.dirname(folder)
    return folder, name
