"""Which documents are for training, validation and test, where a corpus does not say so itself."""

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import ConfigError
from engine.records import seed_of
from engine.sources.labelled.documents import Document

TRAIN, VALID, TEST = "train", "valid", "test"


def with_splits(documents: Sequence[Document], held: float = 0.1) -> list[Document]:
    """Every document with its split, dataset by dataset, broken ones left as they are.

    A dataset without any split is cut into train, valid and test. Without a test split, valid becomes test; without a valid one,
    `held` of train is cut off for it. What is cut goes by a hash of the record's id alone, so it does not move when others come.

    Raises:
        ConfigError: some documents of a dataset have a split and some have none.
    """
    found: dict[str | None, set[str | None]] = {}
    for document in documents:
        if not document.broken:
            found.setdefault(document.dataset, set()).add(document.split)
    for name, splits in found.items():
        if None in splits and len(splits) > 1:
            raise ConfigError(
                f"some documents of {name} have a split and some have none; give all of them one, or none",
                "data.path",
            )
    return [document if document.broken else replace(document, split=_split(document, found, held)) for document in documents]


def drawn(record_id: str, share: float, *purpose: object) -> bool:
    """Whether a record is among a share of all; what a smaller share has is also in a larger one."""
    return seed_of(record_id, *purpose) / 2**63 < share


def cut(name: str, held: float = 0.1) -> str:
    """The split of what has none, by a hash of its name: a share `held` is test, as much of the rest valid."""
    if drawn(name, held, "test split"):
        return TEST
    return VALID if drawn(name, held, "valid split") else TRAIN


def _split(document: Document, found: dict[str | None, set[str | None]], held: float) -> str | None:
    splits, split = found[document.dataset], document.split
    if splits == {None}:
        return cut(document.record_id, held)
    if TEST not in splits and split == VALID and TRAIN in splits:
        return TEST
    if split == TRAIN and not {VALID, TEST} <= splits:
        return VALID if drawn(document.record_id, held, "valid split") else TRAIN
    return split
