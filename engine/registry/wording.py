"""What the wording of a pathology report says about itself: that it is hard to code by its words alone.

Plain English phrases, tried without case. They are chosen for few false alarms, not for finding every case: on 5,734 public
reports of resected primary tumours they speak up in fewer than one of fifty. Other languages say nothing here.
"""

import re
from collections.abc import Callable

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
_PART = re.compile(
    r"\b(gross|macroscopic|microscopic|clinical|specimens?|procedure|history)(?: (?:description|examination|history|information"
    r"|data|diagnosis|submitted|type))?\s*:"
)
# OCR often spoils a letter of the heading, so that its beginnings count.
_ANSWER = re.compile(
    r"diagn|\bdx\b|impression|conclusion|interpretation|synoptic|histolog\w+ type|tumou?r (?:type|site)|primary site"
)


def metastatic_specimen(text: str) -> bool:
    """Whether a lower-case text calls a specimen the metastasis of a tumour that is named or unknown."""
    return ("metasta" in text and _METASTASIS.search(text) is not None) or _UNKNOWN.search(text) is not None


def multiple_primaries_suspected(text: str) -> bool:
    """Whether a lower-case text speaks of more than one primary tumour."""
    return _SEVERAL.search(text) is not None


def section_missing(text: str) -> bool:
    """Whether a lower-case text has headings of at least two parts of a report, and no word that heads its conclusion."""
    if _ANSWER.search(text):
        return False
    return len({match[1].rstrip("s") for match in _PART.finditer(text)}) >= 2


SIGNS: dict[str, Callable[[str], bool]] = {
    "multiple_primaries_suspected": multiple_primaries_suspected,
    "metastatic_specimen": metastatic_specimen,
    "section_missing": section_missing,
}


def signs(text: str) -> list[str]:
    """The names in `SIGNS` of what a text says about itself, each one a reason for a person to look."""
    low = text.lower()
    return [name for name, says in SIGNS.items() if says(low)]
