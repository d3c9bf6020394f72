"""Annotated texts to learn from: the usable documents and the types marked in them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.evaluation.spans import Mention
from engine.models.entities.settings import EntityData
from engine.records import in_share
from engine.sources.labelled import Broken, Document, Labelled, Omitted, marked_types, read_documents
from engine.sources.labelled.splits import TEST, TRAIN, VALID, with_splits


@dataclass(frozen=True)
class Corpus:
    """Usable documents with their splits, the types to learn, and the types that are `marked` in each dataset; the `broken`
    documents, how many mentions are `coordinated`, which become no span, and `further` types whose marks are kept."""

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


def load_corpus(
    config: EntityData, prepare: Callable[[list[Document]], list[Document]] = list, further: Sequence[str] = ()
) -> Corpus:
    """The documents of one corpus or several; datasets in which none of the types is marked are left out.

    Args:
        prepare: makes of sound documents with their splits what training reads. further: types that are not learned, but whose
            marks are kept.
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
    documents = with_splits(documents, config.cut_share, config.test_share)
    sound = prepare([each for each in documents if not each.broken])
    check_marked("data.types", config.types, sound)
    types = tuple(config.types) or tuple(sorted(_marked_in_train(sound) - set(further)))
    marked = marked_types(sound, {*types, *further})
    usable = [each for each in sound if marked[each.dataset] and _is_sampled(each, config)]
    empty = [split for split in (TRAIN, VALID, TEST) if not any(each.split == split for each in (usable if types else sound))]
    if empty or not types:
        of_split = Broken.of([each for each in documents if each.split in empty])
        reason = (of_split if of_split.count else broken).lines()[:1]
        raise ConfigError("; ".join([f"data.path: there are no usable texts of {', '.join(empty) or 'any type'}", *reason]))
    coordinated = omitted.count({each.record_id for each in usable}, types)
    return Corpus(usable, types, marked, broken, coordinated, tuple(further))


def check_marked(key: str, names: Sequence[str], documents: Sequence[Document]) -> None:
    """ConfigError about a key that names types of which one is never marked in the training set."""
    marked = _marked_in_train(documents)
    unknown = [name for name in names if name not in marked]
    if unknown and any(each.split == TRAIN for each in documents):
        raise ConfigError(f"{key}: no text of train has a '{unknown[0]}'; it has {', '.join(sorted(marked))}")


def _marked_in_train(documents: Sequence[Document]) -> set[str]:
    return {span.type for each in documents if each.split == TRAIN for span in each.spans}


def _is_sampled(document: Document, config: EntityData) -> bool:
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
