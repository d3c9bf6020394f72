"""Reports as short single observations: `No pneumothorax`, `Small left pleural effusion`, `Lungs are clear`.

Two extractors stand behind one function from a report to a list of statements: the rules here, and a language model whose answer
is a JSON list of strings (`parse_observations`, `engine.text.chest.extractor`).

The rules split sentences at commas and conjunctions where each side says something by itself: it names a finding or has a verb.
So `no pneumothorax or effusion` is two observations, and `heart and lungs are normal` one. Negatives are kept. Dropped are
comparisons, recommendations, signatures and technique (`dropped.csv`), what is said of the past, fragments with the marks of
de-identification, and measurements without a finding.
"""

import csv
import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import groupby, pairwise
from operator import attrgetter

from engine.errors import RowError
from engine.text.assertions import HISTORICAL, NEGATED, RELATIVE, UNCERTAIN, Asserted
from engine.text.chest.labeler import LANGUAGE, lexicon
from engine.text.phrases import Match, Phrases, Reading

_HEADS = frozenset({"finding", "hint", "general"})
_COMMAS, _WITHOUT = frozenset({",", ";", "and", "or", "nor", "but", "however", "although", "while"}), "without"
_VERBS = frozenset({"is", "are", "was", "were", "has", "have", "appear", "appears", "remain", "remains", "shows", "show"})
# A part that begins or ends with one of these says nothing by itself.
_CONTINUES = _VERBS | frozenset(
    (
        *("may", "might", "could", "can", "likely", "probably", "possibly", "which", "that", "representing", "suggesting"),
        *("suggestive", "consistent", "compatible", "measuring", "overlying", "as", "in", "of", "versus", "vs"),
    )
)
_OPEN = frozenset(
    (
        "right",
        "left",
        "upper",
        "lower",
        "middle",
        "mid",
        "bilateral",
        "mild",
        "moderate",
        "small",
        "large",
        "the",
        "a",
        "of",
        "in",
    )
)
_PAST = frozenset({HISTORICAL, RELATIVE})
_MEASURES = frozenset({"measures", "measuring", "measurement", "size"})
_LABEL_AT_MOST = 5
_FIRST = attrgetter("first")
_CAPITAL = re.compile(r"(?<=^no )[A-Z](?=[a-z])")
_NUMBERED = re.compile(r"\d+[.)](?=\s|$)")
# A stop without the blank behind it, and the number of a list's item in the middle of a line.
_RUN_ON, _COUNTED = re.compile(r"(?<=[a-z]{3})\.(?=[A-Za-z]{2})"), re.compile(r"(?<=\S) +\d[.)] +(?=[A-Za-z])")
_XXXX = re.compile(r"X{3,}|_{3,}|\[\*\*")
_SEEN = r"(?:seen|noted|identified|present|demonstrated|visuali[sz]ed|visible|evident|appreciated|detected|observed)"
_NEGATIONS = re.compile(r"\b(?:no|not|none|without|negative|free|clear|absen(?:t|ce)|neither|unlikely)\b", re.IGNORECASE)
# Wording that leaves nothing of the observation out, in this order.
_SHORTER = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"^(?:again|also|otherwise|specifically|overall|and|or|nor|but|with|however)[ ,]+", ""),
        (r"^there (?:is|are|has been|have been|continues to be|remains?)(?: again)?(?: |$)", ""),
        (r"^(?:again )?(?:seen|noted|demonstrated)? ?(?:is|are) (?=(?:an?|the|no|mild|small) )", ""),
        (rf"^(.+?) (?:is|are|was|were) not {_SEEN}$", r"no \1"),
        (rf"(?: (?:is|are|was|were))?(?: again)? {_SEEN}(?: again)?$", ""),
        (r"(?:,? (?:and|but))?(?: (?:is|are|remains?|appears?))?[ ,]+(?:stable|unchanged)$", ""),
        (r"^(?:(?:the|an?|any|new|stable|unchanged|persistent|redemonstrated|again)\b ?)+", ""),
        (r"^(?:negative for|without|absence of|free of|no) +(?:(?:any|definite|convincing|radiographic|visible) +)*", "no "),
        (r"^no (?:evidence|signs?|suggestion|findings?) (?:of|for|to suggest) +(?:an? +|any +)?", "no "),
        (r"^no +(?:an?|any|the) +", "no "),
        # Of something that another sentence names.
        (r"^(?:this|these|those|it|they|that|which|of|not|i|we)\b.*", ""),
    )
]


def observations(text: str) -> list[str]:
    """The observations of a report in its order, each once: short statements without a full stop, with a capital first letter.

    An empty list if it holds none.
    """
    return list(dict.fromkeys(_Report(_RUN_ON.sub(". ", _COUNTED.sub("\n", text))).statements()))


def parse_observations(json_text: str) -> list[str]:
    """The observations in a language model's answer, each once, without blanks around them.

    Raises:
        RowError: it is anything but a JSON list of texts that are not blank.
    """
    try:
        listed = json.loads(json_text)
        if not isinstance(listed, list) or not all(isinstance(each, str) and each.strip() for each in listed):
            raise ValueError("no list of texts")
        # JSON may hold half a character, which no table can.
        "".join(listed).encode()
    except (ValueError, RecursionError):
        raise RowError("parse_error", "observations: not a JSON list of texts") from None
    return list(dict.fromkeys(each.strip() for each in listed))


class _Report:
    """A report with everything that is known of its words. Parts of it are half-open ranges of words."""

    def __init__(self, text: str) -> None:
        self.reading = Reading(text)
        self.words = self.reading.words
        self.asserted = Asserted(self.reading, LANGUAGE)
        self.named = lexicon().find(self.reading)
        self.dropped = _dropped().find(self.reading)

    def statements(self) -> Iterator[str]:
        """The observations in their order."""
        for _, group in groupby(range(len(self.words)), key=self.asserted.sentence.__getitem__):
            numbers = list(group)
            stop = numbers[-1] + 1
            for part in self._parts(self._begin(numbers[0], stop), stop):
                statement = self._statement(*part)
                if statement:
                    yield statement

    def _begin(self, first: int, stop: int) -> int:
        """Where a sentence begins behind its number and the label of its field, such as `1.` or `FINDINGS:`."""
        words = self.words
        if ":" in words[first : min(stop, first + _LABEL_AT_MOST)]:
            first = words.index(":", first) + 1
        while first < stop and not words[first][0].isalpha():
            # A number may count, as in `3 mm nodule` and `1.3 cm nodule`.
            if words[first][0].isdigit() and not _NUMBERED.match(self.reading.text, self.reading.start[first]):
                break
            first += 1
        return first

    def _parts(self, first: int, stop: int) -> list[tuple[int, int]]:
        """The parts of a sentence that say something by themselves."""
        cuts = [at for at in range(first, stop) if self.words[at] in _COMMAS or self.words[at] == _WITHOUT]
        parts: list[tuple[int, int]] = []
        for cut, end in pairwise([first - 1, *cuts, stop]):
            begin = cut if cut >= first and self.words[cut] == _WITHOUT else cut + 1
            if begin >= end:
                continue
            if parts and not (self._speaks(*parts[-1]) and self._speaks(begin, end)):
                parts[-1] = (parts[-1][0], end)
            else:
                parts.append((begin, end))
        return parts

    def _speaks(self, first: int, stop: int) -> bool:
        """Whether a part says something by itself."""
        words = self.words[first:stop]
        if words[0] in _CONTINUES or words[-1] in _OPEN or words[-1] in _VERBS:
            return False
        named = _within(self.named, first, stop)
        heads = [match for match in named if match.value.kind in _HEADS]
        for match in heads:
            said = self.asserted.of(match.first, match.stop)
            # It would lose its doubt: `may represent atelectasis or pneumonia`.
            if said.kind == UNCERTAIN and said.first is not None and not first <= said.first < stop:
                return False
        kinds = {match.value.kind for match in named}
        says = bool(heads) or not _VERBS.isdisjoint(words) or {"structure", "state"} <= kinds
        return says or bool(_within(self.dropped, first, stop))

    def _statement(self, first: int, stop: int) -> str | None:
        """A part as a statement; None if it is none."""
        reading, named = self.reading, _within(self.named, first, stop)
        text = " ".join(reading.text[reading.start[first] : reading.end[stop - 1]].split())
        if _XXXX.search(text) or _within(self.dropped, first, stop) or not (named or self._is_sentence(first, stop)):
            return None
        heads = [self.asserted.of(match.first, match.stop).kind for match in named if match.value.kind in _HEADS]
        if not _PAST.isdisjoint((*heads, self.asserted.of(first, first + 1).kind)):
            return None
        if heads and heads[0] == NEGATED and not _NEGATIONS.search(text):
            text = f"no {text}"
        if text.isupper():
            text = text.lower()
        for pattern, replacement in _SHORTER:
            text = pattern.sub(replacement, text).strip(" ,;:.-")
        if len(text.split()) < (1 if heads else 2):
            return None
        text = _CAPITAL.sub(lambda letter: letter[0].lower(), text)
        return text[0].upper() + text[1:]

    def _is_sentence(self, first: int, stop: int) -> bool:
        """Whether a part without a name of the lexicon may be an observation: not a measurement alone."""
        words = self.words[first:stop]
        return not any(word[0].isdigit() for word in words) and words[0] not in _MEASURES


def _within(matches: list[Match], first: int, stop: int) -> list[Match]:
    near = matches[bisect_left(matches, first, key=_FIRST) : bisect_left(matches, stop, key=_FIRST)]
    return [match for match in near if match.stop <= stop]


@cache
def _dropped() -> Phrases[str]:
    """The phrases of `dropped.csv`, with the reason for which their parts are no observations."""
    with resources.files(__package__).joinpath("dropped.csv").open(encoding="utf-8", newline="") as file:
        return Phrases((row["phrase"], row["why"]) for row in csv.DictReader(file))
