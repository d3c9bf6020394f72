"""Annotated documents: what every format of annotated text becomes.

Spans are half-open offsets in code points of the text exactly as it is held. A mention that lies in several pieces is as many
spans with one `group_id`, which is None for a mention in one piece. A document that cannot be used says why in `broken`; the
reason holds counts, numbers and our own words, never the document's.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

SPLITS = ("train", "valid", "test")
_SPLIT_NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "dev": "valid", "devel": "valid"}
_SPLIT_NAMES |= {"development": "valid", "test": "test", "testing": "test"}


@dataclass(frozen=True)
class Span:
    """One contiguous piece of a mention."""

    start: int
    end: int
    type: str
    group_id: str | None = None


@dataclass(frozen=True)
class Document:
    """One annotated text; `broken` says why it cannot be used, and then text and spans are nobody's business. `more` are further
    columns of it that were asked for and are there."""

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
            return replace(self, broken=f"{wrong} of {len(self.spans)} spans do not lie in the text")
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
    """Why `count` documents cannot be used, with N for numbers, by which alone reasons may differ; `detail` is what the first of
    them says, whose id is `record_id`."""

    kind: str
    count: int
    detail: str
    record_id: str


@dataclass(frozen=True)
class Broken:
    """Which of `texts` documents cannot be used and why, the commonest reason first."""

    texts: int
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def of(cls, documents: Sequence[Document]) -> "Broken":
        """What cannot be used of some documents."""
        kinds: dict[str, list[tuple[str, str]]] = {}
        for document in documents:
            if document.broken:
                detail = " ".join(document.broken.split())
                kinds.setdefault(re.sub(r"\b\d+\b", "N", detail), []).append((detail, document.record_id))
        reasons = [Reason(kind, len(each), *each[0]) for kind, each in kinds.items()]
        return cls(len(documents), tuple(sorted(reasons, key=lambda each: -each.count)))

    @property
    def count(self) -> int:
        """How many cannot be used."""
        return sum(each.count for each in self.reasons)

    def lines(self, most: int = 5) -> list[str]:
        """A line for each of the commonest reasons, and one for those beyond `most`."""
        told = [f"{each.detail} ({each.count:,}, the first is {each.record_id!r})" for each in self.reasons[:most]]
        if rest := self.reasons[most:]:
            told.append(f"{len(rest):,} further reasons ({sum(each.count for each in rest):,})")
        return [f"{self.count:,} of {self.texts:,} texts cannot be used: {each}" for each in told]


def split_called(name: str | None) -> str | None:
    """train, valid or test, by whichever usual name; None where the name is no such one."""
    return _SPLIT_NAMES.get((name or "").lower())


def lost_mentions(documents: Sequence[Document], types: Collection[str] | None = None) -> tuple[int, int]:
    """Mentions that a reader of contiguous spans cannot give back, since they lie in several pieces, and all mentions; those of
    `types` alone where they are given."""
    lost = mentions = 0
    for document in documents:
        groups: dict[str, int] = {}
        for span in document.spans:
            if types is not None and span.type not in types:
                continue
            if span.group_id is None:
                mentions += 1
            else:
                groups[span.group_id] = groups.get(span.group_id, 0) + 1
        mentions += len(groups)
        lost += sum(pieces > 1 for pieces in groups.values())
    return lost, mentions


def marked_types(documents: Iterable[Document], types: Collection[str] | None = None) -> dict[str | None, frozenset[str]]:
    """By dataset of the usable documents the types that are marked in it, of `types` where they are given: what was not marked
    there is not held against a model."""
    found: dict[str | None, set[str]] = {}
    for document in documents:
        if not document.broken:
            kinds = {span.type for span in document.spans}
            found.setdefault(document.dataset, set()).update(kinds if types is None else kinds.intersection(types))
    return {name: frozenset(kinds) for name, kinds in found.items()}


def _is_visible(text: str) -> bool:
    return any(not (char.isspace() or unicodedata.category(char) in ("Cc", "Cf")) for char in text)
