"""Annotated documents, into which every format of annotated text is read.

Spans are half-open offsets in code points of `text`. A mention in several pieces has a span for each, with one `group_id`; it is
None for a mention in one piece. `broken` says why a document cannot be used, in our own words and numbers, never the document's.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

SPLITS = ("train", "valid", "test")
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "dev", "devel", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Span:
    """One contiguous piece of a mention."""

    start: int
    end: int
    type: str
    group_id: str | None = None


@dataclass(frozen=True)
class Document:
    """One annotated text, and in `more` the requested further columns that it has. `broken` says why it cannot be used; text and
    spans then mean nothing."""

    record_id: str
    text: str
    spans: tuple[Span, ...] = ()
    dataset: str | None = None
    split: str | None = None
    lang: str | None = None
    broken: str | None = None
    more: Mapping[str, str | None] = field(default_factory=dict)

    def checked(self) -> "Document":
        """The document with its spans sorted, each once; broken if one of them does not fit the text."""
        if self.broken:
            return self
        wrong = sum(not (0 <= span.start < span.end <= len(self.text)) for span in self.spans)
        if wrong:
            return replace(self, broken=f"{wrong} of {len(self.spans)} spans are outside the text")
        if any(not span.type for span in self.spans):
            return replace(self, broken="a span has no type")
        unseen = sum(not _is_visible(self.text[span.start : span.end]) for span in self.spans)
        if unseen:
            return replace(self, broken=f"{unseen} of {len(self.spans)} spans hold no visible character")
        if not self.text.strip():
            return replace(self, broken="no text")
        ordered = sorted(set(self.spans), key=lambda span: (span.start, span.end, span.type, span.group_id or ""))
        return replace(self, spans=tuple(ordered))


@dataclass(frozen=True)
class Reason:
    """Why `count` documents cannot be used: `kind` with N for every number, and `detail` and `record_id` of the first."""

    kind: str
    count: int
    detail: str
    record_id: str


@dataclass(frozen=True)
class Broken:
    """How many of `texts` documents cannot be used and why, the commonest reason first."""

    texts: int
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def of(cls, documents: Sequence[Document]) -> "Broken":
        kinds: dict[str, list[tuple[str, str]]] = {}
        for document in documents:
            if document.broken:
                detail = " ".join(document.broken.split())
                kinds.setdefault(re.sub(r"\b\d+\b", "N", detail), []).append((detail, document.record_id))
        reasons = [Reason(kind, len(members), *members[0]) for kind, members in kinds.items()]
        return cls(len(documents), tuple(sorted(reasons, key=lambda reason: -reason.count)))

    @property
    def count(self) -> int:
        """How many cannot be used."""
        return sum(reason.count for reason in self.reasons)

    def lines(self, most: int = 5) -> list[str]:
        """A line for each of the `most` commonest reasons, and one for the others."""
        details = [f"{each.detail} ({each.count:,}, the first is {each.record_id!r})" for each in self.reasons[:most]]
        if rest := self.reasons[most:]:
            details.append(f"{len(rest):,} further reasons ({sum(each.count for each in rest):,})")
        return [f"{self.count:,} of {self.texts:,} texts cannot be used: {detail}" for detail in details]


def split_called(name: str | None) -> str | None:
    """train, valid or test by their usual names; None for other names."""
    return _SPLIT_NAMES.get((name or "").lower())


def lost_mentions(documents: Sequence[Document], types: Collection[str] | None = None) -> tuple[int, int]:
    """Counts mentions in several pieces, which contiguous spans cannot express, and all mentions; optionally of `types` only."""
    lost = mentions = 0
    for document in documents:
        groups = [span.group_id for span in document.spans if types is None or span.type in types]
        pieces = Counter(group for group in groups if group is not None)
        mentions += groups.count(None) + len(pieces)
        lost += sum(count > 1 for count in pieces.values())
    return lost, mentions


def marked_types(documents: Iterable[Document], types: Collection[str] | None = None) -> dict[str | None, frozenset[str]]:
    """The types that are marked in each dataset of the usable documents, optionally of `types` only. A type that nobody marked
    in a dataset counts as no error of a model there."""
    marked: dict[str | None, set[str]] = {}
    for document in documents:
        if not document.broken:
            names = {span.type for span in document.spans}
            marked.setdefault(document.dataset, set()).update(names if types is None else names.intersection(types))
    return {dataset: frozenset(names) for dataset, names in marked.items()}


def _is_visible(text: str) -> bool:
    return any(not (char.isspace() or unicodedata.category(char) in ("Cc", "Cf")) for char in text)
