"""Whether a text is language, and which, rather than scanned bar codes or an encoded document."""

import re

from engine.text.phrases import Reading
from engine.text.units import CJK

# The least share of visible characters in words. The median of 5,734 public scans of reports is 0.8.
LEAST = 0.3
# Small words of English, and of other languages unless they are also English, abbreviations or noise of a scan.
_ENGLISH = re.compile(
    r"the|of|and|is|are|was|were|with|for|no|not|to|in|on|at|by|from|this|that|there|which|has|have|been|be|as|or"
)
_OTHERS = re.compile(
    r"der|die|und|mit|ohne|keine?|keinen|nicht|sind|einer?|des|dem|den|von|zum|zur|bei|auf|für|kann|wird"
    r"|les|une|est|sont|sans|pas|avec|dans|pour|sur|aux|absence|chez|dei|delle|della|del|gli|con|senza|una|nel|non|sono"
    r"|los|las|sin|por|para|que|dos|das|sem|com|não|uma|het|een|van|geen|niet|zonder|met|bez|nie|jest|oraz|brak"
    r"|voor|negatief|uitgesloten|esclude|pregresso"
)
_LONGEST, _CONSONANTS = 24, re.compile(r"[bcdfghjklmnpqrstvwxz]{6}")
_BARS, _ENCODED = re.compile(r"[il]{4,}"), re.compile(r"[a-z][A-Z]+[a-z]+[A-Z]")
_CHARACTER = re.compile(f"[{CJK}]")
_LATIN, _VOWEL, _REPEAT = re.compile(r"[a-z]+"), re.compile(r"[aeiouy]"), re.compile(r"(.)\1\1")


def word_share(reading: Reading) -> float:
    """The share, 0 to 1, of a text's visible characters in words; 0 without visible characters.

    A word has letters only. A Latin one has 2 to 24, with a vowel, no letter three times in a row, no six consonants in a row,
    not only `i` and `l` (the bars of a code), and no capitals in two places inside.
    """
    text, places = reading.text, zip(reading.words, reading.start, reading.end, strict=True)
    visible = len(re.sub(r"\s+", "", text))
    inside = sum(stop - start for word, start, stop in places if _is_word(word) and not _ENCODED.search(text, start, stop))
    return inside / visible if visible else 0.0


def unreadable(reading: Reading) -> bool:
    """Whether too little of a text is words."""
    return word_share(reading) < LEAST


def _is_word(word: str) -> bool:
    letters = word.replace("'", "")
    if not letters.isalpha():
        return False
    if not _LATIN.fullmatch(letters):
        return True
    return (
        2 <= len(letters) <= _LONGEST
        and bool(_VOWEL.search(letters))
        and not _REPEAT.search(letters)
        and not _CONSONANTS.search(letters)
        and not _BARS.fullmatch(letters)
    )


def is_english(reading: Reading) -> bool:
    """Whether English small words are at least as many as small words, accented words and CJK characters of other languages.

    A text without any of them, such as a list, counts as English.
    """
    words = reading.words
    foreign = sum(bool(_OTHERS.fullmatch(word)) or (not word.isascii() and _is_foreign(word)) for word in words)
    return not foreign or foreign <= sum(_ENGLISH.fullmatch(word) is not None for word in words)


def in_language(reading: Reading, language: str) -> bool:
    """Whether a text is in a language, as far as rules tell: English by `is_english`; Chinese if at least half of its letters are
    CJK characters, or it has none. Texts of any other language count as in it."""
    if language == "en":
        return is_english(reading)
    if language == "zh":
        return 2 * len(_CHARACTER.findall(reading.text)) >= sum(map(str.isalpha, reading.text))
    return True


def _is_foreign(word: str) -> bool:
    return (len(word) > 3 and word.isalpha()) or _CHARACTER.match(word) is not None
