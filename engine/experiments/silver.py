"""Silver rationales: where the words of a list stand in a text, for sets in which no person marked anything.

A term matches whole words, whatever their case and whatever blanks, line breaks, commas or hyphens stand between them; at one
place the longest term counts. What this finds is no human's mark and is called silver wherever it is shown.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import ConfigError

Span = tuple[int, int]
_WORD = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[\s,\-/'’()]*")
_EVERYWHERE = re.compile(r"lymph nodes?\b|lymphadenectomy$", re.IGNORECASE)
POSITIVE, NEGATIVE = "Positive", "Negative"


class Terms:
    """Terms to look for; those of `but` hide what stands inside them, as `no evidence of malignancy` hides `malignancy`."""

    def __init__(self, terms: Iterable[str], but: Iterable[str] = ()) -> None:
        # A tree of words: where a term ends, the empty word says whether it is wanted.
        self._tree: dict[str, Any] = {}
        for wanted, some in ((True, terms), (False, but)):
            for term in some:
                words = _WORD.findall(term.casefold())
                node = self._tree
                for word in words:
                    node = node.setdefault(word, {})
                if words:
                    node[""] = wanted

    def spans(self, text: str) -> list[Span]:
        """Where the terms stand, half-open characters of `text`, in order and without overlap."""
        words = [(match[0].casefold(), *match.span()) for match in _WORD.finditer(text)]
        found, at = [], 0
        while at < len(words):
            count, wanted = self._longest(words, at, text) if words[at][0] in self._tree else (1, False)
            if wanted:
                found.append((words[at][1], words[at + count - 1][2]))
            at += count
        return found

    def _longest(self, words: Sequence[tuple[str, int, int]], at: int, text: str) -> tuple[int, bool]:
        """How many words the longest term takes that begins here (1 if there is none), and whether it is wanted."""
        node, best = self._tree, (1, False)
        for place in range(at, len(words)):
            word, start, _ = words[place]
            if word not in node or (place > at and not _BETWEEN.fullmatch(text, words[place - 1][2], start)):
                break
            node = node[word]
            if "" in node:
                best = (place - at + 1, node[""])
        return best


def keywords(file: Path) -> Mapping[str, tuple[str, ...]]:
    """The phrases of a screening list, lines of `phrase|kind`, by kind.

    Left out are codes such as `C34.1`, since a text that holds its own code holds the answer and no reason for it; phrases
    without a word of five letters, most of them stages and stains; and lymph nodes, which every report of a resection speaks of.

    Raises:
        ConfigError: there is no such file, or a line of another form.
    """
    if not file.is_file():
        raise ConfigError(f"data.path: silver rationales of pathology reports need the list {file}; put it there")
    found: dict[str, list[str]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        phrase, bar, kind = line.rpartition("|")
        if line.strip() and not bar:
            raise ConfigError(f"data.path: line {number} of {file.name} is not of the form phrase|kind")
        if bar and max(map(len, _WORD.findall(phrase)), default=0) >= 5 and not _EVERYWHERE.match(phrase.strip()):
            found.setdefault(kind.strip(), []).append(phrase)
    return {kind: tuple(phrases) for kind, phrases in found.items()}


@cache
def site_terms(code: str) -> tuple[str, ...]:
    """How reports name a topography category such as `C50`; empty for a code that is none."""
    from engine.registry import is_site, site_name
    from engine.sources.synthetic.vocabulary import sites

    if not is_site(code):
        return ()
    own = next((site.terms for site in sites() if site.code == code), ())
    return tuple(term for term in dict.fromkeys((site_name(code), *own)) if "(" not in term and "not stated" not in term)


# Headings of MeSH that name a place and no finding: what is found there stands behind a slash, as does its side.
_PLACES = frozenset(
    (
        "lung",
        "spine",
        "aorta",
        "aorta, thoracic",
        "diaphragm",
        "mediastinum",
        "heart",
        "shoulder",
        "ribs",
        "humerus",
        "clavicle",
        "sulcus",
        "trachea",
        "neck",
        "abdomen",
        "thorax",
        "hilum",
        "bronchi",
        "pulmonary artery",
        "pulmonary alveoli",
        "lobe",
        "thoracic vertebrae",
        "lumbar vertebrae",
        "cervical vertebrae",
        "costophrenic angle",
        "cardiac shadow",
        "right",
        "left",
        "bilateral",
        "upper lobe",
        "lower lobe",
        "middle lobe",
        "base",
        "apex",
        "posterior",
        "anterior",
    )
)
_VAGUE = frozenset(["disease", "device", "fat", "loss", "failure", "body", "instrument", "image"])


def heading_terms(headings: Iterable[str]) -> tuple[str, ...]:
    """What MeSH headings with qualifiers (`Catheters, Indwelling/right`) call a finding: the head word, as one and as several.

    Of a heading that is a place (`Aorta/tortuous`) it is the first qualifier that is none; a head word that says little alone
    (`Airspace Disease`) keeps what stands before it.
    """
    found = []
    for heading in headings:
        finding = next((part for part in heading.casefold().split("/") if part.strip() not in _PLACES), "")
        words = _WORD.findall(finding.split(",")[0])
        for last in _numbers(words[-1]) if words else ():
            found.append(" ".join([*words[:-1], last]) if _VAGUE & set(_numbers(words[-1])) else last)
    return tuple(dict.fromkeys(found))


def _numbers(word: str) -> list[str]:
    """A noun in the singular and the plural, whichever it came in."""
    if word.endswith("ies"):
        one = f"{word[:-3]}y"
    else:
        one = word[:-1] if word.endswith("s") and not word.endswith(("ss", "is", "us")) else word
    return list(dict.fromkeys([word, one, f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"]))
