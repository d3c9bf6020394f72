"""Splits documents into train, valid and test if a corpus does not do so itself."""

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import ConfigError
from engine.records import in_share
from engine.sources.labelled.documents import Document

TRAIN, VALID, TEST = "train", "valid", "test"


def with_splits(documents: Sequence[Document], share: float = 0.1, tested: float = 0.0) -> list[Document]:
    """Every document with its split, dataset by dataset; broken ones are unchanged.

    A dataset without any split is cut into train, valid and test. Without a test split, the share `tested` of train becomes it,
    or if that is 0, valid does; without a valid split, `share` of train becomes it. A hash of the record's id alone decides, so
    that further records move none.

    Raises:
        ConfigError: some documents of a dataset have a split and some have none.
    """
    splits: dict[str | None, set[str | None]] = {}
    for document in documents:
        if not document.broken:
            splits.setdefault(document.dataset, set()).add(document.split)
    for name, members in splits.items():
        if None in members and len(members) > 1:
            raise ConfigError(
                f"some documents of {name} have a split and some have none; give all of them one, or none", "data.path"
            )
    return [
        document if document.broken else replace(document, split=_split(document, splits[document.dataset], share, tested))
        for document in documents
    ]


def cut(name: str, share: float = 0.1) -> str:
    """A split by a hash of the name: `share` is test, and the same share of the rest valid."""
    if in_share(name, share, "test split"):
        return TEST
    return VALID if in_share(name, share, "valid split") else TRAIN


def _split(document: Document, splits: set[str | None], share: float, tested: float) -> str | None:
    split = document.split
    if splits == {None}:
        return cut(document.record_id, share)
    if TEST not in splits and TRAIN in splits:
        if tested and split == TRAIN and in_share(document.record_id, tested, "test split"):
            return TEST
        if not tested and split == VALID:
            return TEST
    if split == TRAIN and not (VALID in splits and (tested or TEST in splits)):
        return VALID if in_share(document.record_id, share, "valid split") else TRAIN
    return split
