"""States each finding of a chest radiograph's report: 1 (stated as present), 0 (as absent), -1 (as uncertain), or not mentioned.

Names of findings (`pleural effusion`) get their state from what the sentence says of them (`engine.text.assertions`, lexicon
`en-chest`); structures (`heart`) from the state that the sentence gives them (`enlarged`, `within normal limits`). The lists are
`lexicon.csv` and, for what a structure's state says of findings, `structures.csv`. As in CheXpert (Irvin et al., AAAI 2019) a
positive mention in a report wins over an uncertain one, and that over a negative one. Two findings also follow from others:

* Lung Opacity: a stated or uncertain Lung Lesion, Edema, Consolidation, Pneumonia or Atelectasis is one.
* No Finding: 1 if no other finding but Support Devices is stated or uncertain, else 0.

What a text says of the past (`history of pneumonia`, an `Indication:`) or of a relative is no mention.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

from engine.text.assertions import AFFIRMED, NEGATED, UNCERTAIN, Asserted
from engine.text.chest import FINDINGS
from engine.text.phrases import Match, Phrases, Reading

POSITIVE, NEGATIVE, UNSURE = 1, 0, -1
OPACITY, NO_FINDING, DEVICES = "Lung Opacity", "No Finding", "Support Devices"
OPACITIES = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
STATED, FROM_OPACITIES, FROM_ALL = "stated", "opacity_of_its_kinds", "no_other_finding"

LANGUAGE = "en-chest"
_STATES = {AFFIRMED: POSITIVE, NEGATED: NEGATIVE, UNCERTAIN: UNSURE}
_FINDING, _HINT, _GENERAL, _STRUCTURE, _STATE = "finding", "hint", "general", "structure", "state"
_NORMAL = "normal"
# A structure before one of these words and another behind it are not named together.
_VERBS = frozenset(
    (
        *("is", "are", "was", "were", "has", "have", "appear", "appears", "remain", "remains"),
        "demonstrate",
        "demonstrates",
        "shows",
    )
)
# Words between a state and the structure behind it: `enlarged cardiac silhouette`, `normal size of the heart`.
_NEAR = 3
# Words between structures that have their state in common: `heart size and the mediastinal contours`.
_APART = 4


@dataclass(frozen=True)
class Mention:
    """The state of a finding (1, 0 or -1), the spans that give it (half-open characters of the text, in order), and the rule by
    which it has it: stated, or following from other findings, whose spans these are."""

    state: int
    spans: tuple[tuple[int, int], ...]
    rule: str = STATED


class Entry(NamedTuple):
    """What a phrase of the lexicon is, and its findings, its structure or its state."""

    kind: str
    names: tuple[str, ...]


class _Saying(NamedTuple):
    finding: str
    state: int
    first: int
    stop: int


def label(text: str) -> dict[str, Mention]:
    """The findings that a report mentions, in the order of `FINDINGS`; a finding missing here is not mentioned.

    A text that mentions nothing has No Finding, unless it has no words.
    """
    reading = Reading(text)
    if not len(reading):
        return {}
    best: dict[str, int] = {}
    spans: dict[str, list[tuple[int, int]]] = {}
    for saying in _sayings(reading, Asserted(reading, LANGUAGE)):
        if stronger(saying.state, best.get(saying.finding)):
            best[saying.finding], spans[saying.finding] = saying.state, []
        if saying.state == best[saying.finding]:
            spans[saying.finding].append(reading.places(saying.first, saying.stop))
    mentions = {finding: Mention(state, tuple(sorted(set(spans[finding])))) for finding, state in best.items()}
    for finding, (state, rule, sources) in implied(best).items():
        places = {span for name in sources for span in mentions[name].spans}
        mentions[finding] = Mention(state, tuple(sorted(places)), rule)
    return {finding: mentions[finding] for finding in FINDINGS if finding in mentions}


def implied(states: Mapping[str, int]) -> dict[str, tuple[int, str, list[str]]]:
    """What follows for Lung Opacity and No Finding from the states of all findings: state, rule, and the findings that decide.

    Lung Opacity is missing where its kinds say nothing stronger than it says itself.
    """
    following = {}
    opacity = states.get(OPACITY)
    for state in (POSITIVE, UNSURE):
        kinds = [name for name in OPACITIES if states.get(name) == state]
        if kinds and stronger(state, opacity):
            following[OPACITY] = (state, FROM_OPACITIES, kinds)
            break
    others = [name for name in FINDINGS if name not in (NO_FINDING, DEVICES) and states.get(name) in (POSITIVE, UNSURE)]
    following[NO_FINDING] = (NEGATIVE if others else POSITIVE, FROM_ALL, others)
    return following


def stronger(state: int, other: int | None) -> bool:
    """Whether a state wins over another one: positive over uncertain over negative over none."""
    order = (None, NEGATIVE, UNSURE, POSITIVE)
    return order.index(state) > order.index(other)


def _sayings(reading: Reading, asserted: Asserted) -> Iterable[_Saying]:
    """Every mention of a finding, by its name or by the state of a structure."""
    sentences: dict[int, list[Match[Entry]]] = {}
    for match in lexicon().find(reading):
        kind, names = match.value
        if kind in (_STRUCTURE, _STATE):
            sentences.setdefault(asserted.sentence[match.first], []).append(match)
            continue
        if kind not in (_FINDING, _HINT, _GENERAL):
            continue
        state = _STATES.get(asserted.of(match.first, match.stop).kind)
        if kind == _GENERAL:
            if state == NEGATIVE:
                yield from (_Saying(name, NEGATIVE, match.first, match.stop) for name in normal(names[0]))
        elif state is not None:
            state = UNSURE if kind == _HINT and state == POSITIVE else state
            yield from (_Saying(name, state, match.first, match.stop) for name in names)
    for matches in sentences.values():
        yield from _of_structures(matches, reading, asserted)


def _of_structures(matches: Iterable[Match[Entry]], reading: Reading, asserted: Asserted) -> Iterable[_Saying]:
    """What the structures and states of one sentence say.

    A state is that of the structures before it that have none yet, as in `heart and mediastinum are normal`; where none of these
    has such a state, of those close behind it, as in `normal heart size and mediastinal contours`.
    """
    waiting: list[Match[Entry]] = []
    ahead: Match[Entry] | None = None
    edge = 0
    for match in matches:
        if match.value.kind == _STRUCTURE:
            if ahead is not None and match.first - edge <= _NEAR:
                yield from _said(match, ahead, asserted)
                edge = match.stop
                continue
            ahead = None
            between = reading.words[waiting[-1].stop : match.first] if waiting else []
            if len(between) > _APART or not _VERBS.isdisjoint(between):
                waiting = []
            waiting.append(match)
            continue
        sayings = [saying for structure in waiting for saying in _said(structure, match, asserted)]
        yield from sayings
        if sayings:
            waiting, ahead = [], None
        else:
            ahead, edge = match, match.stop


def _said(structure: Match[Entry], state: Match[Entry], asserted: Asserted) -> Iterable[_Saying]:
    """What a structure's state says of findings; nothing for states that it does not have."""
    value = structures().get((structure.value.names[0], state.value.names[0]))
    kind = _STATES.get(asserted.of(state.first, state.stop).kind)
    if value is None or kind is None:
        return
    first, stop = min(structure.first, state.first), max(structure.stop, state.stop)
    said, findings = value
    if said == NEGATIVE and kind == NEGATIVE:
        # `Not normal` names no finding.
        return
    if said != NEGATIVE:
        said = NEGATIVE if kind == NEGATIVE else UNSURE if kind == UNSURE else said
    yield from (_Saying(name, said, first, stop) for name in findings)


@cache
def lexicon() -> Phrases[Entry]:
    """The phrases of `lexicon.csv`."""
    with resources.files(__package__).joinpath("lexicon.csv").open(encoding="utf-8", newline="") as file:
        return Phrases((row["phrase"], Entry(row["kind"], tuple(row["names"].split(";")))) for row in csv.DictReader(file))


@cache
def structures() -> Mapping[tuple[str, str], tuple[int, tuple[str, ...]]]:
    """(structure, state) -> the state of findings that it means, and these findings."""
    with resources.files(__package__).joinpath("structures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["structure"], row["state"]): (int(row["value"]), tuple(row["findings"].split(";"))) for row in rows}


def normal(structure: str) -> tuple[str, ...]:
    """The findings that a normal structure lacks."""
    return structures()[structure, _NORMAL][1]
