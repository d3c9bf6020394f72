"""Signs in the wording of a report: whether it is language, states a reportable tumour, and can be coded by it.

Each sign is a reason for a person to look. Phrases and patterns are plain English, chosen for few false alarms; a text in another
language has no diagnosis here.
"""

import re
from dataclasses import dataclass

from engine.registry.primaries import metastatic_specimen, multiple_primaries_suspected
from engine.registry.reportability import Phrase, screened
from engine.text.assertions import Asserted
from engine.text.phrases import Reading
from engine.text.readable import is_english, unreadable

UNREADABLE, NO_DIAGNOSIS, NO_TUMOUR = "unreadable_text", "no_diagnosis_text", "no_reportable_tumour"
SEVERAL, METASTATIC, MISSING = "multiple_primaries_suspected", "metastatic_specimen", "section_missing"
SIGNS = (UNREADABLE, NO_DIAGNOSIS, NO_TUMOUR, SEVERAL, METASTATIC, MISSING)

_PART = re.compile(
    r"\b(gross|macroscopic|microscopic|clinical|specimens?|procedure|history)(?: (?:description|examination|history|information"
    r"|data|diagnosis|submitted|type))?\s*:"
)
# OCR often spoils a letter of a heading, so its beginning counts.
_ANSWER = re.compile(
    r"diagn|\bdx\b|impression|conclusion|interpretation|synoptic|histolog\w+ type|tumou?r (?:type|site)|primary site"
)


@dataclass(frozen=True)
class Wording:
    """The `signs` of a text, out of `SIGNS`, and its phrases of the reportability lists."""

    signs: tuple[str, ...]
    phrases: tuple[Phrase, ...]


def wording(text: str) -> Wording:
    """The wording of a text. An unreadable text has no other sign; a missing reportable tumour has one sign of two."""
    reading = Reading(text)
    if unreadable(reading):
        return Wording((UNREADABLE,), ())
    asserted = Asserted(reading)
    screening = screened(reading, asserted)
    diagnosis = screening.diagnosis and is_english(reading)
    present = {
        NO_DIAGNOSIS: not diagnosis,
        NO_TUMOUR: diagnosis and not screening.reportable,
        SEVERAL: multiple_primaries_suspected(reading, asserted, screening.stated),
        METASTATIC: metastatic_specimen(reading, asserted),
        MISSING: section_missing(reading.low),
    }
    return Wording(tuple(sign for sign in SIGNS if present.get(sign)), screening.phrases)


def section_missing(text: str) -> bool:
    """Whether a lower-case text has headings of at least two parts of a report, but none of its conclusion."""
    return not _ANSWER.search(text) and len({match[1].rstrip("s") for match in _PART.finditer(text)}) >= 2
