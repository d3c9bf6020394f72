"""Whether a text states a tumour that a cancer registry must record, and which words say so.

The phrases are the public list of IMS's reportability screener for SEER (`reportability_keywords.txt`, licence beside it) and our
own additions and exceptions (`reportability.csv`). At each place the longest phrase counts, so that `negative for malignancy`
covers `malignancy`. Phrases of the list that state no tumour (markers, operations, codes, grades) do not count. The name of a
tumour counts if it is affirmed (`engine.text.assertions`). Reportable are malignant and in-situ tumours and those of the brain;
basal-cell carcinomas, dysplasias and borderline tumours are not.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import combinations

from engine.text.assertions import AFFIRMED, NEGATED, UNCERTAIN, Asserted
from engine.text.phrases import Match, Phrases, Reading

STATEMENT, NEGATIVE, BENIGN, ADMINISTRATIVE, OTHER = "statement", "negative", "benign", "administrative", "other"
# Phrases in a row at most; the first of each wording and assertion.
SHOWN = 12

_CODE = re.compile(r"[CDNRZ]\d[\dA-Z](?:\.\w+)?")
# Open fields and boxes, and ticked ones: a text with many open ones, few words for each, and no ticked one is a blank form.
_FIELDS = re.compile(r":[ \t]*(?:_{2,}|\[[ \t]*\])|[a-z]_{2,}|\[[ \t]*\]|\([ \t]*\)|[☐□]", re.IGNORECASE)
_TICKED = r"(?:[\[(][ \t]*[xX✓✔][ \t]*[\])]|[☒☑■])"
_TICK = re.compile(_TICKED)
_MANY, _WORDS = 5, 15
# Letters that a name needs to be recognized with one letter wrong, and with two; of the longest name; and its pieces at most.
_NAME, _LONG, _LONGEST, _PIECES = 9, 13, 24, 3
# Ambiguous words that registries count as a diagnosis: SEER Program Coding and Staging Manual, "Ambiguous Terminology".
_COUNTED = re.compile(
    r"(most )?(consistent|compatible|comparable) with|in keeping with|(highly )?suspicious (for|of)|(is )?suspect(ed)?"
    r"|probabl[ey]|(most )?likely|presum(ed|ptive)|(is )?favou?r(s|ed|ing)?|in favou?r of|typical (of|for)|apparent(ly)?"
    r"|appears to be"
)
# A box before or after a phrase, and an empty field. On a line that ends with a box, boxes follow their phrases.
_EMPTY, _FEW = r"(?:<input[^<>]*>|\[[ \t]*\]|\([ \t]*\)|[☐□○]|_{2,})", r"[ \t]*(?:[\w'-]+[ ,/]*){0,3}$"
_BOX, _TICKED_BOX = re.compile(_EMPTY + _FEW), re.compile(_TICKED + _FEW)
_BOX_ENDS, _TICK_BEHIND = re.compile(rf"(?:{_EMPTY}|{_TICKED})[ \t\r]*$"), re.compile(rf"[ \t]*{_TICKED}")
_LINE = 200
# The inside of a tag, such as the name of a field, is no text.
_TAG = re.compile(r"<[A-Za-z][^<>]*$")
_OPEN = re.compile(r"(?:\(s\)|[?])?[ \t]*(?:[:?][ \t]*(?:$|\n|_|\[[ \t]*\]|\([ \t]*\)|\.{3})|_{2,}|\[[ \t]*\]|[☐□])")


@dataclass(frozen=True)
class Phrase:
    """A phrase of the lists in a text: half-open offsets, the list's wording, its kind, and its assertion (one of
    `engine.text.assertions.KINDS`; `uncertain` for an open box or field)."""

    start: int
    end: int
    phrase: str
    kind: str
    assertion: str


@dataclass(frozen=True)
class Screening:
    """The phrases of the lists in a text.

    `phrases` are at most `SHOWN`, preferring statements, in the order of the text. `stated` are the numbers of the words at which
    a tumour is stated; `reportable`: there is one and the text is neither a test nor a blank form. `diagnosis`: it names some
    finding.
    """

    phrases: tuple[Phrase, ...]
    stated: tuple[int, ...]
    reportable: bool
    diagnosis: bool


def screened(reading: Reading, asserted: Asserted) -> Screening:
    """Searches a text for the phrases of the lists."""
    matches = phrases().find(reading)
    seen = list(_statements(reading, asserted, matches))
    if not any(word is not None for _, word in seen):
        seen += _statements(reading, asserted, _misspelt(reading, matches))
    stated = tuple(word for _, word in seen if word is not None)
    kinds = {phrase.kind for phrase, _ in seen}
    # A historical or uncertain tumour is no diagnosis.
    named = bool(stated) or any(phrase.kind != STATEMENT or phrase.assertion == NEGATED for phrase, _ in seen)
    shown: dict[tuple[str, str], Phrase] = {}
    for phrase, _ in seen:
        shown.setdefault((phrase.phrase, phrase.assertion), phrase)
    order = sorted(shown.values(), key=lambda phrase: (phrase.kind != STATEMENT, phrase.assertion != AFFIRMED, phrase.start))
    return Screening(
        phrases=tuple(sorted(order[:SHOWN], key=lambda phrase: phrase.start)),
        stated=stated,
        reportable=bool(stated) and ADMINISTRATIVE not in kinds and not _is_blank(reading.text),
        diagnosis=named and kinds != {ADMINISTRATIVE},
    )


def _statements(reading: Reading, asserted: Asserted, matches: Iterable[Match[str]]) -> Iterator[tuple[Phrase, int | None]]:
    """Each phrase, with its first word if it counts as the statement of a tumour."""
    for match in matches:
        if match.value == OTHER:
            continue
        said, is_open = asserted.of(match.first, match.stop), match.value == STATEMENT and _is_open(reading, match)
        counts = said.kind == AFFIRMED or (said.kind == UNCERTAIN and _COUNTED.fullmatch(said.cue or "") is not None)
        phrase = Phrase(*reading.places(match.first, match.stop), match.phrase, match.value, UNCERTAIN if is_open else said.kind)
        yield phrase, match.first if match.value == STATEMENT and counts and not is_open else None


def _is_open(reading: Reading, match: Match) -> bool:
    """Whether a phrase belongs to an unticked box or is the name of an empty field."""
    text, begin, end = reading.text, reading.start[match.first], reading.end[match.stop - 1]
    before, behind = text[max(0, begin - 60) : begin].rpartition("\n")[2], text[end : end + _LINE].partition("\n")[0]
    if (_TICK_BEHIND.match(behind) if _BOX_ENDS.search(behind) else _TICKED_BOX.search(before)) is not None:
        return False
    return _BOX.search(before) is not None or _TAG.search(before) is not None or _OPEN.match(text, end) is not None


def _is_blank(text: str) -> bool:
    fields = len(_FIELDS.findall(text))
    return fields >= _MANY and fields * _WORDS >= len(text.split()) and _TICK.search(text) is None


def _misspelt(reading: Reading, matches: Sequence[Match[str]]) -> Iterator[Match[str]]:
    """Names of tumours with one or two letters wrong, missing, moved or added, or in pieces, as in scans; outside `matches`, the
    correctly spelt phrases."""
    words, at = list(reading.words), 0
    for match in matches:
        words[match.first : match.stop] = [""] * (match.stop - match.first)
    while at < len(words):
        # No name begins with a mark.
        last = min(at + _PIECES, len(words)) if words[at].isalnum() else at
        for stop in range(at + 1, last + 1):
            if not words[stop - 1]:
                break
            if name := _name(words[at:stop]):
                # `of adenocarc inoma`: without its first piece it is still the same name, so it begins later.
                while _name(words[at + 1 : stop]) == name:
                    at += 1
                yield Match(at, stop, name, STATEMENT)
                at = stop - 1
                break
        at += 1


def _name(pieces: Sequence[str]) -> str | None:
    """The name of a tumour that these pieces of a text mean, or None."""
    letters = "".join(piece for piece in pieces if piece.isalnum())
    return _meant(letters) if _NAME <= len(letters) <= _LONGEST else None


@lru_cache(1 << 16)
def _meant(letters: str) -> str | None:
    return next((name for form in _forms(letters) if (name := _names().get(form))), None)


@cache
def _names() -> dict[str, str]:
    """Forms of the long names of tumours, each with the shortest name that has it."""
    names = [phrase.strip("*") for phrase, kind in _kinds().items() if kind == STATEMENT]
    forms: dict[str, str] = {}
    for name in sorted((name for name in names if name.isalpha() and len(name) >= _NAME), key=len):
        forms |= {form: name for form in _forms(name) if form not in forms}
    return forms


def _forms(word: str) -> Iterator[str]:
    """A word, and the word without each of its letters, a long one without each two; letters that scans confuse are one."""
    word = word.replace("rn", "m").replace("0", "o").replace("1", "l")
    for count in range(3 if len(word) >= _LONG else 2):
        yield from ("".join(letters) for letters in combinations(word, len(word) - count))


@cache
def phrases() -> Phrases[str]:
    """The lists, each phrase with its kind."""
    return Phrases(_kinds().items())


@cache
def _kinds() -> dict[str, str]:
    """Phrase in lower case -> kind; our own list takes precedence."""
    room, kinds = resources.files(__package__), {"Positive": STATEMENT, "Negative": NEGATIVE}
    public: dict[str, str] = {}
    with room.joinpath("reportability_keywords.txt").open(encoding="utf-8") as file:
        for line in file:
            phrase, _, kind = line.strip().rpartition("|")
            # Codes are no words, and `history` or `screening` alone is the cue of an assertion.
            if kind in kinds and not _CODE.fullmatch(phrase) and (kind == "Positive" or " " in phrase.strip()):
                public[phrase.lower()] = kinds[kind]
    with room.joinpath("reportability.csv").open(encoding="utf-8", newline="") as file:
        own = {row["phrase"].lower(): row["kind"] for row in csv.DictReader(file)}
    return {phrase: kind for phrase, kind in public.items() if phrase not in own} | own
