"""Annotated texts to learn from: the usable documents and the types marked in them, and both as numbers for a learner."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.evaluation.spans import Mention
from engine.models.columns import list_values, lists
from engine.models.examples import COMMON
from engine.models.prompt_mrc.config import DataConfig, Decoding, MrcConfig
from engine.models.prompt_mrc.instances import MAX_WORDS, Span, align_spans, without_overlaps
from engine.models.prompt_mrc.options import Options
from engine.models.prompt_mrc.texts import joined, marked_reports, with_noise, with_tumours
from engine.models.prompt_mrc.things import kinds, made_up
from engine.sources.labelled import Broken, Document, Labelled, Omitted, marked_types, read_documents
from engine.sources.labelled.splits import TEST, TRAIN, VALID, in_share, with_splits
from engine.text.tokens import TokenizedText, tokenize

_INTS = pa.large_list(pa.int32())
_SPAN = pa.struct([(name, pa.int32()) for name in ("first", "last", "type")])
SCHEMA = pa.schema(
    [
        *COMMON,
        pa.field("ids", _INTS),
        pa.field("word_of_token", _INTS),
        pa.field("spans", pa.list_(_SPAN)),
        pa.field("annotated", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Corpus:
    """Usable documents with their splits, the types to learn, and the types that are `marked` in each dataset; the `broken`
    documents, how many mentions are `coordinated`, which become no span, and `further` types to be asked for in training."""

    documents: list[Document]
    types: tuple[str, ...]
    marked: Mapping[str | None, frozenset[str]]
    broken: Broken
    coordinated: int = 0
    further: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Documents by dataset and split, and mentions of the types by split."""
        texts = Counter(f"{each.dataset} {each.split}" for each in self.documents)
        mentions = Counter(f"mentions {each.split}" for each in self.documents for span in each.spans if span.type in self.types)
        return dict(sorted(texts.items())) | dict(sorted(mentions.items())) | {"broken": self.broken.count}

    def nested(self) -> bool:
        """Whether marked mentions overlap in the training set."""
        for document in self.documents:
            end = 0
            for span in document.spans if document.split == TRAIN else ():
                if span.type in self.types:
                    if span.start < end:
                        return True
                    end = span.end
        return False

    def digest(self) -> str:
        """Identifies the corpus: its usable texts with everything that is marked in them."""
        digest = hashlib.sha256()
        for each in self.documents:
            content = (each.record_id, each.dataset, each.split, each.text, each.spans)
            digest.update(repr(content).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def load_corpus(config: DataConfig) -> Corpus:
    """The documents of one corpus or several; datasets in which none of the types is marked are left out.

    Raises:
        ConfigError: more than half of the documents cannot be used, a split is empty, or a type is never marked in the training
            set.
    """
    omitted = Omitted()
    documents = read_documents(Labelled(config.path), omitted)
    broken = Broken.of(documents)
    if 2 * broken.count > broken.texts:
        raise ConfigError(
            f"data.path: {broken.lines()[0]}; figures on the rest would say little of the corpus, so mend them or take them out"
        )
    documents = with_splits(documents, config.cut_share)
    sound = _prepared([each for each in documents if not each.broken], config)
    further = (*config.further, *(kinds() if config.things else ()))
    train = [each for each in sound if each.split == TRAIN]
    learned = {span.type for each in train for span in each.spans}
    for key, names in (("types", config.types), ("further", config.further)):
        unknown = [name for name in names if name not in learned]
        if unknown and train:
            raise ConfigError(f"data.{key}: no text of train has a '{unknown[0]}'; it has {', '.join(sorted(learned))}")
    types = tuple(config.types) or tuple(sorted(learned - set(further)))
    marked = marked_types(sound, {*types, *further})
    usable = [each for each in sound if marked[each.dataset] and _is_sampled(each, config)]
    empty = [split for split in (TRAIN, VALID, TEST) if not any(each.split == split for each in (usable if types else sound))]
    if empty or not types:
        of_split = Broken.of([each for each in documents if each.split in empty])
        reason = (of_split if of_split.count else broken).lines()[:1]
        raise ConfigError("; ".join([f"data.path: there are no usable texts of {', '.join(empty) or 'any type'}", *reason]))
    coordinated = omitted.count({each.record_id for each in usable}, types)
    return Corpus(usable, types, marked, broken, coordinated, further)


def _prepared(documents: list[Document], config: DataConfig) -> list[Document]:
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
    return [*documents, *made_up(config.things)]


def _is_sampled(document: Document, config: DataConfig) -> bool:
    share = config.share if document.split == TRAIN else config.eval_share
    return share >= 1 or in_share(document.record_id, share, "share")


def members_of(corpus: Corpus, split: str) -> list[int]:
    """The numbers of a split's documents."""
    return [number for number, each in enumerate(corpus.documents) if each.split == split]


def marked_mentions(corpus: Corpus, members: Sequence[int], types: Sequence[str]) -> dict[str, list[Mention]]:
    """The marked mentions of some documents by record id, in characters as they were marked."""
    documents = [corpus.documents[member] for member in members]
    return {
        each.record_id: [(span.start, span.end, span.type) for span in each.spans if span.type in types] for each in documents
    }


@dataclass(frozen=True)
class Examples:
    """Texts as tokens with their spans in words, and flags [texts] of the training and the validation set.

    `annotated` has, for each text, the numbers of the types that were marked in its corpus.
    """

    record_id: list[str]
    tokens: list[TokenizedText]
    spans: list[list[Span]]
    train: np.ndarray
    valid: np.ndarray
    annotated: list[frozenset[int]]

    def overlapping(self, decoding: Decoding, types: int) -> int:
        """How many spans of the first `types` types in the training set overlap longer ones such that `decoding` can never return
        both."""
        if decoding.nested:
            return 0
        spans = [[span for span in self.spans[member] if span.type < types] for member in np.flatnonzero(self.train)]
        return sum(len(each) - len(without_overlaps(each, decoding.flat_across_types)) for each in spans)

    def longest(self, types: int) -> int:
        """Words that 999 of 1,000 spans of the first `types` types in the training set do not exceed, at most `MAX_WORDS`. Longer
        ones are mostly mistakes of an annotator, or of a tool."""
        spans = [span for member in np.flatnonzero(self.train) for span in self.spans[member] if span.type < types]
        words = [span.last - span.first + 1 for span in spans]
        return min(MAX_WORDS, int(np.quantile(words, 0.999, method="higher"))) if words else MAX_WORDS

    def to_table(self) -> pa.Table:
        """The examples of the training and the validation set as a table of `SCHEMA`."""
        members = np.flatnonzero(self.train | self.valid).tolist()
        columns = {
            "record_id": [self.record_id[member] for member in members],
            "split": [TRAIN if self.train[member] else VALID for member in members],
            "sample": [False] * len(members),
            "ids": lists([self.tokens[member].ids for member in members]),
            "word_of_token": lists([self.tokens[member].word_of_token for member in members]),
            "spans": [[vars(span) for span in self.spans[member]] for member in members],
            "annotated": [sorted(self.annotated[member]) for member in members],
        }
        return pa.table(columns, schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Examples":
        """The inverse of `to_table`, without the words' offsets, which a learner does not need."""
        nothing, split = np.empty(0, np.int32), np.array(table["split"].to_pylist())
        tokens = zip(list_values(table["ids"]), list_values(table["word_of_token"]), strict=True)
        return cls(
            table["record_id"].to_pylist(),
            [TokenizedText(ids, words, nothing, nothing, nothing, 0) for ids, words in tokens],
            [[Span(**span) for span in spans] for spans in table["spans"].to_pylist()],
            split == TRAIN,
            split == VALID,
            [frozenset(numbers) for numbers in table["annotated"].to_pylist()],
        )


def encode_corpus(corpus: Corpus, config: MrcConfig) -> tuple[Examples, Counter[str]]:
    """All documents in their order, and the counts of `align_spans` over all of them.

    Raises:
        ConfigError: a span does not fit its text.
    """
    documents, spans, counts, names = corpus.documents, [], Counter(), (*config.types, *corpus.further)
    tokenizer = load_tokenizer(encoder_folder(config.encoder))
    tokens = tokenize(tokenizer, [document.text for document in documents], Options.max_tokens)
    for document, text in zip(documents, tokens, strict=True):
        marked, name = map(vars, document.spans), f"record {document.record_id}"
        aligned, its_counts = align_spans(text, len(document.text), marked, names, name)
        spans.append(aligned)
        counts.update(its_counts)
    split = np.array([document.split or "" for document in documents])
    readable = np.array([len(text.ids) > 0 for text in tokens], dtype=bool)
    numbers = {name: number for number, name in enumerate(names)}
    annotated = [
        frozenset(numbers[name] for name in corpus.marked[document.dataset] if name in numbers) for document in documents
    ]
    ids = [document.record_id for document in documents]
    return Examples(ids, tokens, spans, (split == TRAIN) & readable, (split == VALID) & readable, annotated), counts
