"""The texts that training reads, made from annotated corpora and from reports that nobody annotated.

Corpora of single sentences teach nothing about a start and an end that lie far apart, so neighbouring sentences are joined.
Corpora disagree about tumours (diseases, parts of the body, a type of their own); one type takes them all. Reports get silver
marks from the terms of a list. Some of the training texts are read with errors as scans have them, and made-up ones are added
(see `things`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np

from engine.models.entities import corpus
from engine.models.entities.corpus import Corpus, check_marked
from engine.models.prompt_mrc.config import DataConfig
from engine.models.prompt_mrc.terms import is_tumour, mark
from engine.models.prompt_mrc.things import kinds, made_up
from engine.records import in_share, seed_of
from engine.sources.labelled import Document, Labelled, Reader
from engine.sources.labelled.documents import split_called
from engine.sources.labelled.splits import TEST, TRAIN, VALID

SILVER = "silver"
"""The dataset of reports that terms marked."""

_WORD, _LINE = re.compile(r"\S+"), re.compile(r"\n")
# How scans misread letters; a blank may appear within a word, and specks look like full stops.
_MISREAD = (
    *(("rn", "m"), ("m", "rn"), ("l", "1"), ("l", "i"), ("i", "l"), ("o", "0"), ("e", "c"), ("c", "e"), ("a", "o"), ("t", "l")),
    *(("n", "ri"), ("u", "ii"), ("h", "b"), ("s", "5"), ("g", "q"), ("f", "r"), ("v", "y"), ("cl", "d"), ("", " "), ("", ".")),
)
# At most this share of a text's words is misread.
_WORST = 0.2
_CASES = (str.upper, str.lower, str.title)


def load_corpus(config: DataConfig) -> Corpus:
    """The texts of a training, see `engine.models.entities.corpus.load_corpus`."""
    further = (*config.further, *(kinds() if config.things else ()))
    return corpus.load_corpus(config, partial(_prepared, config), further)


def _prepared(config: DataConfig, documents: list[Document]) -> list[Document]:
    """Sound documents as training reads them."""
    if config.tumours is not None:
        documents = [with_tumours(each, config.tumours) for each in documents]
    if config.joined:
        learned = [each for each in documents if each.split != TEST]
        documents = [*joined(learned, config.joined), *(each for each in documents if each.split == TEST)]
    if config.reports is not None:
        documents = [*documents, *marked_reports(config.reports, config.joined, config.reports_share)]
    documents = [
        with_noise(each) if each.split == TRAIN and in_share(each.record_id, config.noise, "noise") else each
        for each in documents
    ]
    documents += made_up(config.things)
    check_marked("data.further", config.further, documents)
    return documents


def with_tumours(document: Document, kind: str) -> Document:
    """A document whose mentions of tumours have the type `kind`."""
    spans = [replace(span, type=kind) if is_tumour(document.text[span.start : span.end]) else span for span in document.spans]
    return replace(document, spans=tuple(dict.fromkeys(spans)))


def joined(documents: Iterable[Document], words: int) -> Iterator[Document]:
    """Texts of at least `words` words, made of neighbouring texts of one dataset and split; a longer text stays as it is."""
    for _, group in groupby(documents, key=lambda each: (each.dataset, each.split, each.broken)):
        waiting: list[Document] = []
        count = 0
        for document in group:
            waiting.append(document)
            count += len(_WORD.findall(document.text))
            if count >= words or document.broken:
                yield _join(waiting)
                waiting, count = [], 0
        if waiting:
            yield _join(waiting)


def _join(documents: Sequence[Document]) -> Document:
    if len(documents) == 1:
        return documents[0]
    spans, at = [], 0
    for number, each in enumerate(documents):
        spans += [
            replace(span, start=span.start + at, end=span.end + at, group_id=span.group_id and f"{number}/{span.group_id}")
            for span in each.spans
        ]
        at += len(each.text) + 1
    text = " ".join(each.text for each in documents)
    return replace(documents[0], record_id=f"{documents[0].record_id}+{len(documents) - 1}", text=text, spans=tuple(spans))


def marked_reports(path: str, words: int, share: float) -> Iterator[Document]:
    """Reports of train and valid with the marks of terms.

    Args:
        path: a table with the columns `text` and `split`. words: of a piece of a report; 0 for whole reports. share: of the
            pieces, chosen by their places in the table.
    """
    table = Labelled(path, text="text", split="split")
    for rows in Reader(table).tables():
        for row in rows.to_pylist():
            split = split_called(row["split"])
            if not row["failure"] and row["text"] and split in (TRAIN, VALID):
                report = Document(f"{SILVER}/{row['record_id']}", row["text"], tuple(mark(row["text"])), SILVER, split)
                pieces = (each for each in _pieces(report, words) if in_share(each.record_id, share, SILVER))
                yield from (each for each in (piece.checked() for piece in pieces) if not each.broken)


def _pieces(report: Document, words: int) -> Iterator[Document]:
    """Pieces of at least `words` words that end with a line and cut no span."""
    if not words:
        yield report
        return
    text, start, count, line = report.text, 0, 0, 0
    for stop in [*(match.end() for match in _LINE.finditer(text)), len(text)]:
        count += len(_WORD.findall(text, line, stop))
        line = stop
        if stop == len(text) or (count >= words and not any(span.start < stop < span.end for span in report.spans)):
            inside = [span for span in report.spans if start <= span.start and span.end <= stop]
            spans = tuple(replace(span, start=span.start - start, end=span.end - start) for span in inside)
            yield replace(report, record_id=f"{report.record_id}@{start}", text=text[start:stop], spans=spans)
            start, count = stop, 0


def with_noise(document: Document) -> Document:
    """A document with misread letters and another case, drawn from its id; its spans cover the same words as before."""
    rng = np.random.default_rng(seed_of(document.record_id, "noise"))
    rate, text = _WORST * rng.random(), document.text
    if rng.random() < 0.4:
        recased = _CASES[int(rng.integers(len(_CASES)))](text)
        text = recased if len(recased) == len(text) else text
    pieces, at, moved = [], 0, np.zeros(len(text) + 1, np.int64)
    for word in _WORD.finditer(text):
        if rng.random() < rate and len(word[0]) > 3:
            begin, end, misread = _misread(word[0], rng)
            pieces += [text[at : word.start() + begin], misread]
            at = word.start() + end
            moved[at:] += len(misread) - (end - begin)
    text = "".join([*pieces, text[at:]])
    spans = [
        replace(span, start=int(span.start + moved[span.start]), end=int(span.end + moved[span.end])) for span in document.spans
    ]
    return replace(document, text=text, spans=tuple(spans))


def _misread(word: str, rng: np.random.Generator) -> tuple[int, int, str]:
    """A piece of a word, not at its ends, as half-open characters, and what stands in its place."""
    letters, misread = _MISREAD[int(rng.integers(len(_MISREAD)))]
    places = [match.start() for match in re.finditer(re.escape(letters), word, re.IGNORECASE)]
    inside = [at for at in places if at > 0 and at + len(letters) < len(word)]
    if not inside:
        # A letter that the scan lost.
        at = int(rng.integers(1, len(word) - 1))
        return at, at + 1, ""
    at = int(rng.choice(inside))
    return at, at + len(letters), misread
