"""Silver rationales: where the words of a list stand in a text, for sets in which nobody marked anything.

A term matches whole words, whatever their case and whatever blanks, line breaks, commas or hyphens stand between them; of several
terms at one place the longest counts.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import ConfigError

_WORD = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[\s,\-/'’()]*")
_EVERYWHERE = re.compile(r"lymph nodes?\b|lymphadenectomy$", re.IGNORECASE)


class Terms:
    """Terms to look for; those of `but` hide what stands inside them, as `no evidence of malignancy` hides `malignancy`."""

    def __init__(self, terms: Iterable[str], but: Iterable[str] = ()) -> None:
        # A tree of words: at the end of a term the empty word says whether the term is wanted.
        self._tree: dict[str, Any] = {}
        for wanted, phrases in ((True, terms), (False, but)):
            for phrase in phrases:
                words = _WORD.findall(phrase.casefold())
                node = self._tree
                for word in words:
                    node = node.setdefault(word, {})
                if words:
                    node[""] = wanted

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the terms stand, half-open characters of `text`, in order and without overlap."""
        words = [(match[0].casefold(), *match.span()) for match in _WORD.finditer(text)]
        spans, at = [], 0
        while at < len(words):
            count, wanted = self._longest(words, at, text) if words[at][0] in self._tree else (1, False)
            if wanted:
                spans.append((words[at][1], words[at + count - 1][2]))
            at += count
        return spans

    def _longest(self, words: Sequence[tuple[str, int, int]], at: int, text: str) -> tuple[int, bool]:
        """The number of words of the longest term that begins here (1 if there is none), and whether it is wanted."""
        node, best = self._tree, (1, False)
        for place in range(at, len(words)):
            word, start, _ = words[place]
            if word not in node or (place > at and not _BETWEEN.fullmatch(text, words[place - 1][2], start)):
                break
            node = node[word]
            if "" in node:
                best = (place - at + 1, node[""])
        return best


def screening_list(file: Path) -> tuple[list[str], list[str]]:
    """The positive and the negative phrases of a screening list, lines of `phrase|Positive` or `phrase|Negative`.

    Left out are codes such as `C34.1`, since a text that holds its own code holds the answer and no reason for it; phrases
    without a word of five letters, most of them stages and stains; and lymph nodes, which every report of a resection mentions.

    Raises:
        ConfigError: there is no such file, or a line of another form.
    """
    if not file.is_file():
        raise ConfigError(f"data.path: silver rationales of pathology reports need the list {file}; put it there")
    phrases: dict[str, list[str]] = {"Positive": [], "Negative": []}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        phrase, bar, kind = line.rpartition("|")
        if line.strip() and not bar:
            raise ConfigError(f"data.path: line {number} of {file.name} is not of the form phrase|kind")
        if bar and max(map(len, _WORD.findall(phrase)), default=0) >= 5 and not _EVERYWHERE.match(phrase.strip()):
            phrases.setdefault(kind.strip(), []).append(phrase)
    return phrases["Positive"], phrases["Negative"]


@cache
def site_terms(code: str) -> tuple[str, ...]:
    """The names that reports use for a topography category such as `C50`; none for a code that is no such category."""
    from engine.registry import is_site, site_name
    from engine.sources.synthetic.vocabulary import sites

    if not is_site(code):
        return ()
    terms = next((site.terms for site in sites() if site.code == code), ())
    return tuple(term for term in dict.fromkeys((site_name(code), *terms)) if "(" not in term and "not stated" not in term)


# Headings of MeSH that name a place and no finding: the finding stands behind a slash, as does the side.
_PLACES = frozenset(
    re.split(
        "; ",
        "lung; spine; aorta; aorta, thoracic; diaphragm; mediastinum; heart; shoulder; ribs; humerus; clavicle; sulcus; trachea; "
        "neck; abdomen; thorax; hilum; bronchi; pulmonary artery; pulmonary alveoli; lobe; thoracic vertebrae; lumbar vertebrae; "
        "cervical vertebrae; costophrenic angle; cardiac shadow; right; left; bilateral; upper lobe; lower lobe; middle lobe; "
        "base; apex; posterior; anterior",
    )
)
_VAGUE = frozenset(["disease", "device", "fat", "loss", "failure", "body", "instrument", "image"])


def heading_terms(headings: Iterable[str]) -> tuple[str, ...]:
    """The finding that each MeSH heading with qualifiers (`Catheters, Indwelling/right`) names: its head word, in both numbers.

    Of a heading that is a place (`Aorta/tortuous`) it is the first qualifier that is none. A head word that says little alone
    (`Airspace Disease`) keeps the words before it.
    """
    terms = []
    for heading in headings:
        finding = next((part for part in heading.casefold().split("/") if part.strip() not in _PLACES), "")
        words = _WORD.findall(finding.split(",")[0])
        for last in _numbers(words[-1]) if words else ():
            terms.append(" ".join([*words[:-1], last]) if _VAGUE & set(_numbers(words[-1])) else last)
    return tuple(dict.fromkeys(terms))


def _numbers(word: str) -> list[str]:
    """A noun in the singular and the plural, from either."""
    if word.endswith("ies"):
        one = f"{word[:-3]}y"
    else:
        one = word[:-1] if word.endswith("s") and not word.endswith(("ss", "is", "us")) else word
    return list(dict.fromkeys([word, one, f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"]))
