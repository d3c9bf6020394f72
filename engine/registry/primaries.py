"""Recognizes reports of several primaries, and of a metastasis instead of a primary.

Cautious patterns in plain English: words count unless they are negated (`engine.text.assertions`). Several primaries are
suspected if a report says so, or if it names a tumour in each of two specimens from separate regions of the body (`organs.csv`)
and no spread. Bladder and prostate are one region, so a second tumour in a cystoprostatectomy is missed.
"""

import csv
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache
from importlib import resources

from engine.text.assertions import NEGATED, RELATIVE, Asserted
from engine.text.phrases import Phrases, Reading

_GAP = r"[^.:;]{0,60}?"
_DISTANT = r"(?:liver|brain|bone|vertebral body|femur|humerus|lung|pleura|pleural fluid|skin)"
_BIOPSY = r"(?:biopsy|biopsies|aspiration|aspirate|core|fna)"
_METASTASIS = re.compile(
    # "metastatic adenocarcinoma, consistent with colonic primary"
    rf"metasta(?:tic|sis)\b{_GAP}\b(?:consistent|compatible) with\b{_GAP}\b(?:primary|origin)\b"
    # "consistent with metastasis from the known melanoma"
    r"|(?:consistent|compatible) with (?:an? )?metastasis (?:from|of)\b"
    # "liver, core biopsy: metastatic carcinoma"
    rf"|{_DISTANT}\b[^.:;\n]{{0,40}}\b{_BIOPSY}\b\W{{1,12}}metastatic\b"
)
_UNKNOWN = re.compile(
    r"(?:unknown|undetermined|occult) primary\b|primary (?:site )?(?:is |remains )?(?:unknown|undetermined)\b|of unknown origin\b"
)
_SEVERAL = re.compile(
    # "two separate primary tumours", but not "separate from the primary", nor the key of a staging table
    r"(?<!presence of )(?<!\()\b(?:two|three|multiple|separate|second|double|distinct)(?:\s+(?!from|of|to|the)\w+){0,2}"
    r"\s+primar(?:y|ies)\b"
    # "synchronous carcinomas", but not the box "dual/synchronous primary" of a form
    r"|(?<!/)\b(?:syn|meta)chronous(?:\s+\w+){0,3}?\s+(?:primaries|tumou?rs?|carcinomas?|neoplasms?|malignancies)\b"
    r"|\bcollision tumou?r"
)
# The title of a specimen: `A. Left breast, excision:`, or its own line above a list.
_TITLE = re.compile(
    r"(?:^|\n|[.;]\s)[ \t]*(?:(?:part|specimen)\s+)?(?:[A-Z\d]{1,2}[.):]\s*)?(?P<title>[A-Za-z][^:\n.;]{2,90}?)(?::|\n\s*[-–*•])",
    re.IGNORECASE,
)
_SPREAD = re.compile(
    r"metasta|involv|invad|exten[ds]|implant|recurren|origin|primary|consistent with spread|direct", re.IGNORECASE
)
# Words of a specimen's diagnosis to search, and words around a tumour's name that may say its kind.
_NEAR, _AROUND = 25, 6
_NODE = "node"
# Kinds of tumours that grow from organ to organ: two specimens of one kind are one tumour.
_KINDS = re.compile(
    r"serous|m[uü]llerian|papillary|mucinous|endometrioid|clear|squamous|urothelial|transitional|renal|carcinosarcoma|melanoma"
    r"|lymphoma|(leiomyo)?sarcoma|mesothelioma|neuroendocrine|cholangiocarcinoma"
)


def metastatic_specimen(reading: Reading, asserted: Asserted) -> bool:
    """Whether a text calls a specimen a metastasis, of a known or unknown tumour."""
    return _said(_UNKNOWN, reading, asserted) or ("metasta" in reading.low and _said(_METASTASIS, reading, asserted))


def multiple_primaries_suspected(reading: Reading, asserted: Asserted, stated: Sequence[int]) -> bool:
    """Whether a text mentions more than one primary tumour, or names one in each of two separate specimens.

    Args:
        stated: rising numbers of the words at which it states a tumour.
    """
    return _said(_SEVERAL, reading, asserted) or _apart(reading, stated)


def _said(pattern: re.Pattern[str], reading: Reading, asserted: Asserted) -> bool:
    """Whether a pattern matches the lower-case text and is not negated there."""
    low = reading.low
    if len(low) != len(reading.text):
        return pattern.search(low) is not None
    for match in pattern.finditer(low):
        word = max(0, bisect_right(reading.start, match.start()) - 1)
        if asserted.of(word, word + 1).kind not in (NEGATED, RELATIVE):
            return True
    return False


def _apart(reading: Reading, stated: Sequence[int]) -> bool:
    """Whether two specimens from separate regions each have a tumour."""
    titles = list(_TITLE.finditer(reading.text))
    seen: set[tuple[frozenset[str], frozenset[str]]] = set()
    for title, following in zip(titles, [*titles[1:], None], strict=False):
        regions = _regions(title["title"])
        if not regions or _NODE in regions:
            continue
        begin = bisect_left(reading.start, title.end())
        stop = min(begin + _NEAR, len(reading) if following is None else bisect_left(reading.start, following.start()))
        at = bisect_left(stated, begin)
        if at == len(stated) or stated[at] >= stop or _SPREAD.search(reading.text, title.start("title"), reading.end[stop - 1]):
            continue
        around = reading.words[max(0, stated[at] - _AROUND) : stated[at] + _AROUND]
        kinds = frozenset(word for word in around if _KINDS.fullmatch(word))
        if any(regions.isdisjoint(other) and kinds.isdisjoint(other_kinds) for other, other_kinds in seen):
            return True
        seen.add((regions, kinds))
    return False


def _regions(title: str) -> frozenset[str]:
    return frozenset(match.value for match in _organs().find(Reading(title)))


@cache
def _organs() -> Phrases[str]:
    with resources.files(__package__).joinpath("organs.csv").open(encoding="utf-8", newline="") as file:
        return Phrases([(row["phrase"], row["region"]) for row in csv.DictReader(file)])
