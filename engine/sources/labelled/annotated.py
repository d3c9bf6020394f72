"""Annotated text (gold mentions of entities) in the formats that it comes in, as documents.

`read_documents` takes a file, a folder or a glob and goes by the files' endings: `.parquet` (tokens and tags, or text and spans),
`.tsv`, `.iob2`, `.iob`, `.bio`, `.conll` (IOB2), `.ann` with its `.txt` (BRAT standoff), `.xml` (GENIA). Text and spans may stand
in `.csv` and JSON lines too, which are read where the path ends so.

What was not marked in a dataset is not held against a model there, so a dataset must be a corpus and never one document: it is
what a column says, else the nearest folder whose name is not that of a split. A file's own name counts only where the file can be
a corpus by itself: no BRAT standoff, and no second file of its kind and split beside it. Tables without a split in their path
stand side by side as corpora of their own.

A BRAT text is called by its file's name; where several texts have one name, as those of train/1.txt and test/1.txt, each of these
by its path in the folder that is read, without the ending. A file that repeats another's text counts once.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from engine.errors import ConfigError
from engine.sources.base import JSONL, PARQUET, TEXT, InputConfig
from engine.sources.files import ENDINGS, input_base, input_path, source_of
from engine.sources.labelled import brat, genia, iob2, rows
from engine.sources.labelled.documents import Document, split_called
from engine.sources.labelled.genia import Left
from engine.sources.labelled.table import Labelled, files_at
from engine.storage import Entry, Storage, storage_for

_PARQUET, TABLES = ENDINGS[PARQUET], (*ENDINGS[PARQUET], ".csv", *ENDINGS[JSONL])
_IOB2, _ANN, _TXT, _XML = (".tsv", ".iob2", ".iob", ".bio", ".conll"), ".ann", ".txt", ".xml"
_READ = (*_PARQUET, *_IOB2, _ANN, _TXT, _XML)
# Folders in which CADEC parts its texts from its annotations.
_HALVES = ("original", "text")


def read_documents(config: Labelled, left: Left) -> list[Document]:
    """All documents below a path, each checked.

    The split is that of a column, or the folder or file that is called train, dev, valid or test; else null.

    Args:
        config: of its settings `id`, `source`, `id_scope`, `group`, `more` and the dialect count, and for tables alone.
        left: gets the mentions that become no span.
    Raises:
        ConfigError: there is nothing to read, a file is not what its ending says, none of its documents can be used, or two
            documents have one id.
    """
    path, storage = config.path, storage_for(config.path)
    found: list[Document] = []
    files = annotated_files(path)
    names = _standoff(files, storage, path)
    files = [file for file in files if file.path in names or not _is_standoff(file.path)]
    parted = _in_many_files(files)
    for file in files:
        read = _read(file, storage, _group(file.path) in parted, names, left, config)
        documents = [document.checked() for document in read]
        if len(documents) > 1 and all(document.broken for document in documents):
            name, why = posixpath.basename(file.path), documents[0].broken
            raise ConfigError(f"no document of {name} can be used; the first: {why}", "data.path")
        found += documents
    twice = [record_id for record_id, count in Counter(each.record_id for each in found).items() if count > 1]
    if twice:
        told = f"{len(twice)} ids stand at more than one document, such as {twice[0]!r}; give files whose ids differ"
        raise ConfigError(told, "data.path")
    if not found or all(document.broken for document in found):
        raise ConfigError(f"{path} has {len(found)} documents, none that can be used", "data.path")
    return found


def annotated_files(path: str) -> list[Entry]:
    """The files below a path that `read_documents` reads.

    Raises:
        ConfigError: there are none.
    """
    storage, full = storage_for(path), input_path(InputConfig(path, None))
    listed = storage.list(full) if storage.is_folder(full) else files_at(path, TEXT)
    # In a folder other tables beside the texts are something else, such as a list of the files.
    endings = (*_READ, *TABLES) if path.lower().endswith(TABLES) else _READ
    files = [entry for entry in listed if entry.path.lower().endswith(endings)]
    if not files:
        raise ConfigError(f"{path} has no file that can be read by its ending ({' '.join(_READ)})", "data.path")
    return files


def _standoff(files: Sequence[Entry], storage: Storage, path: str) -> dict[str, str]:
    """Ids of BRAT's documents by the path of the annotations, or of a text that has none.

    Raises:
        ConfigError: a text has several files of annotations, or one of several of one name has no text.
    """
    alike: dict[str, dict[str, Entry]] = {}
    for file in files:
        if _is_standoff(file.path):
            alike.setdefault(_stem(file.path), {})[file.path] = file
    found: dict[str, str] = {}
    clashing: list[Entry] = []
    for stem, paths in alike.items():
        marked = [each for each in paths if each.lower().endswith(_ANN)]
        theirs = {place for each in marked for place in _places(each)}
        alone = [each for each in paths if each not in marked and each not in theirs]
        if len(marked) + len(alone) > 1:
            # Folders may hold texts of their own, or layers of annotations of one text; that only the texts can tell.
            texts = [storage.read(_beside(storage, each)) or b"" for each in marked]
            told = [text for text in texts if text.strip()]
            if len(set(told)) < len(told):
                raise ConfigError(
                    f"the text {stem}{_TXT} has .ann files in several folders; name the one folder whose annotations count",
                    "data.path",
                )
            alone = [each for each in alone if storage.read(each) not in texts]
        kept = [*marked, *alone]
        if len(kept) == 1:
            found[kept[0]] = stem
        else:
            clashing += [paths[each] for each in kept]
    base = input_base(InputConfig(path, None)) if clashing else ""
    return found | {each.path: posixpath.splitext(source_of(each, base))[0] for each in clashing}


def _read(
    file: Entry, storage: Storage, parted: bool, names: Mapping[str, str], left: Left, config: Labelled
) -> Iterator[Document]:
    """The documents of a file; `parted` tells that it is one of several that are a dataset together, `names` has BRAT's ids."""
    name, ending = posixpath.basename(file.path), posixpath.splitext(file.path.lower())[1]
    stem, split = _stem(file.path), _split(file.path)
    dataset = _folder(file.path)[1] if parted or split_called(stem) else stem
    more = {"dataset": dataset or stem, "split": split}
    # Made ids must differ between files: those of every dataset's train.tsv would else all begin alike.
    made = "/".join(dict.fromkeys(part for part in (more["dataset"], None if split_called(stem) else split, stem) if part))
    if ending in TABLES:
        yield from rows.read(file, config, made, **more)
    elif ending in _IOB2:
        yield from iob2.read(_text(storage, file.path), made, **more)
    elif ending == _XML:
        with storage.open(file.path, file) as stream:
            yield from genia.read(stream.read(), name, left, made=made, **more)
    elif ending == _TXT:
        yield brat.document(names[file.path], "", None, **more)
    else:
        text = _beside(storage, file.path)
        yield brat.document(names[file.path], _text(storage, text), _text(storage, file.path), **more)


def _beside(storage: Storage, path: str) -> str:
    """The text of an annotation file."""
    for place in _places(path):
        if storage.stat(place):
            return place
    name = posixpath.basename(path)
    raise ConfigError(f"there is no {_stem(path)}{_TXT} beside {name}, nor in a folder text next to it", "data.path")


def _places(path: str) -> list[str]:
    """Where the text of an annotation file may be: in its folder, or in one called `text` next to it, as CADEC has it."""
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
    """By the file's name, or the nearest folder of such a name."""
    return next((split for part in (_stem(path), *reversed(path.split("/")[:-1])) if (split := split_called(part))), None)


def _in_many_files(files: Sequence[Entry]) -> set[tuple[str, str]]:
    """The groups of files (see `_group`) that are one dataset each, rather than a dataset a file."""
    together = Counter((*_group(file.path), posixpath.dirname(file.path), _split(file.path)) for file in files)
    return {
        (folder, kind)
        for (folder, kind, _, split), count in together.items()
        if kind == _ANN or (count > 1 and (split or kind not in TABLES))
    }


def _group(path: str) -> tuple[str, str]:
    """The folder that may be a file's dataset, and the file's kind."""
    ending = posixpath.splitext(path.lower())[1]
    kinds = {**dict.fromkeys(TABLES, TABLES[0]), **dict.fromkeys(_IOB2, _IOB2[0]), _TXT: _ANN}
    return _folder(path)[0], kinds.get(ending, ending)


def _folder(path: str) -> tuple[str, str]:
    """The nearest folder whose name is not that of a split, and that name; empty where there is none."""
    halves = _HALVES if _is_standoff(path) else ()
    folder = posixpath.dirname(path)
    while (name := posixpath.basename(folder)) and (split_called(name) or name.lower() in halves):
        folder = posixpath.dirname(folder)
    return folder, name
