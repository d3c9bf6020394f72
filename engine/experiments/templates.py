"""Rationales that templates make from the terms of a label, and whether a proposal can be used.

An extractive proposal is usable only where its words stand verbatim in the report, as a span like a person's. An abstractive one
is a text of its own.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.experiments.silver import Span, Terms, site_terms
from engine.records import seed_of
from engine.text.units import sentences

MODES = ("extractive", "abstractive")
SITE_WAYS = ("Tumor of the {name}.", "The findings point to the {name} as primary site.", "Primary tumor arising in the {name}.")


@dataclass(frozen=True)
class Proposal:
    """A rationale as a template gives it: its words, and its spans in the report if it has a place there; `flaw` says why it
    cannot be used."""

    text: str
    spans: tuple[Span, ...] = ()
    flaw: str | None = None


@dataclass(frozen=True)
class Templates:
    """Extractive: the first sentence of a report with a term of the label. Abstractive: one of the sentences `ways` with a term.

    A label that `terms` lacks goes by the names of its site where it is a topography category, otherwise by itself.
    """

    mode: str = "extractive"
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ways: tuple[str, ...] = SITE_WAYS

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.mode, self.ways, sorted(self.terms.items()))).encode()).hexdigest()

    def propose(self, record_id: str, text: str, label: str) -> str:
        """A sentence for a report and its label; empty where there is none."""
        terms = self.terms.get(label) or site_terms(label) or (label,)
        if self.mode == "abstractive":
            draw = seed_of(record_id, "template rationale")
            return self.ways[draw % len(self.ways)].format(name=terms[draw // len(self.ways) % len(terms)])
        places = Terms(terms).spans(text)
        if not places:
            return ""
        begin = places[0][0]
        return next((text[a:b] for a, b in zip(*sentences(text), strict=True) if a <= begin < b), "")


def proposal(by: Templates, record_id: str, text: str, label: str) -> Proposal:
    """The proposal for a report; an extractive one is searched for in the report."""
    words = by.propose(record_id, text, label).strip()
    if not words:
        return Proposal("", flaw="empty")
    if by.mode == "abstractive":
        return Proposal(words)
    start = text.find(words)
    if start < 0:
        return Proposal(words, flaw="not_verbatim")
    return Proposal(words, ((start, start + len(words)),))


def coverage(human: tuple[Span, ...], proposed: tuple[Span, ...]) -> float:
    """The share of the characters marked by people that lie in the proposed spans; neither has spans that overlap each other."""
    total = sum(end - start for start, end in human)
    common = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in human for b in proposed)
    return common / total if total else float("nan")
