"""Annotated texts to learn entities from: which are usable, and which types are marked in which of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.evaluation.spans import Mention
from engine.models.prompt_mrc.config import DataConfig
from engine.sources.labelled import Broken, Document, Labelled, Omitted, marked_types, read_documents
from engine.sources.labelled.splits import TEST, TRAIN, VALID, in_share, with_splits


@dataclass(frozen=True)
class Corpus:
    """Usable documents with their splits, the types to learn, and by dataset the types that are marked there; which documents are
    `broken`, and how many mentions are `coordinated`, which become no span."""

    documents: list[Document]
    types: tuple[str, ...]
    marked: Mapping[str | None, frozenset[str]]
    broken: Broken
    coordinated: int = 0

    def counts(self) -> dict[str, int]:
        """Documents by dataset and split, and mentions of the types by split."""
        texts = Counter(f"{each.dataset} {each.split}" for each in self.documents)
        mentions = Counter(f"mentions {each.split}" for each in self.documents for span in each.spans if span.type in self.types)
        return dict(sorted(texts.items())) | dict(sorted(mentions.items())) | {"broken": self.broken.count}

    def nested(self) -> bool:
        """Whether marked mentions of one type overlap in train."""
        for document in self.documents:
            ends: dict[str, int] = {}
            for span in document.spans if document.split == TRAIN else ():
                if span.type in self.types and span.start < ends.get(span.type, 0):
                    return True
                ends[span.type] = max(span.end, ends.get(span.type, 0))
        return False


def load_corpus(config: DataConfig, needed: Sequence[str] = (TRAIN, VALID, TEST)) -> Corpus:
    """The documents of a corpus or of several; what belongs to none of the types' datasets is left out.

    Raises:
        ConfigError: more than half of the documents cannot be used, a split is empty, or a type is never marked in train.
    """
    omitted = Omitted()
    given = read_documents(Labelled(config.path), omitted)
    broken = Broken.of(given)
    if 2 * broken.count > broken.texts:
        raise ConfigError(
            f"data.path: {broken.lines()[0]}; figures on the rest would say little of the corpus, so mend them or take them out"
        )
    everything = with_splits(given, config.cut_share)
    sound = [each for each in everything if not each.broken]
    asked = [each for each in sound if each.split == TRAIN or TRAIN not in needed]
    learned = {span.type for each in asked for span in each.spans}
    unknown = [name for name in config.types if name not in learned]
    if unknown and asked:
        raise ConfigError(f"data.types: no text of train has a '{unknown[0]}'; it has {', '.join(sorted(learned))}")
    types = tuple(config.types) or tuple(sorted(learned))
    marked = marked_types(sound, types)
    kept = [each for each in sound if marked[each.dataset] and _within(each, config)]
    empty = [split for split in needed if not any(each.split == split for each in (kept if types else sound))]
    if empty or not types:
        theirs = Broken.of([each for each in everything if each.split in empty])
        why = (theirs if theirs.count else broken).lines()[:1]
        raise ConfigError("; ".join([f"data.path: there are no usable texts of {', '.join(empty) or 'any type'}", *why]))
    return Corpus(kept, types, marked, broken, omitted.count({each.record_id for each in kept}, types))


def corpus_digest(corpus: Corpus) -> str:
    """What tells a corpus from another: its usable texts with all that is marked in them."""
    found = hashlib.sha256()
    for each in corpus.documents:
        found.update(repr((each.record_id, each.dataset, each.split, each.text, each.spans)).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _within(document: Document, config: DataConfig) -> bool:
    share = config.share if document.split == TRAIN else config.eval_share
    return share >= 1 or in_share(document.record_id, share, "share")


def members_of(corpus: Corpus, split: str) -> list[int]:
    """The numbers of a split's documents."""
    return [number for number, each in enumerate(corpus.documents) if each.split == split]


def marked_mentions(corpus: Corpus, members: Sequence[int], types: Sequence[str]) -> dict[str, list[Mention]]:
    """Gold of some documents by record id, in characters as it was marked."""
    documents = [corpus.documents[member] for member in members]
    return {
        each.record_id: [(span.start, span.end, span.type) for span in each.spans if span.type in types] for each in documents
    }
