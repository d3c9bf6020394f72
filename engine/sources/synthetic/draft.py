"""A report being written: pieces of text, and which of them name the site and the histology."""

import random
from dataclasses import dataclass, field

from engine.sources.synthetic import vocabulary
from engine.sources.synthetic.styles import Parts, templates
from engine.sources.synthetic.vocabulary import Phrases, Sentence, Site

# Draws of a sentence on a new topic before a repetition is allowed; long texts need some.
_REDRAWS = 3
# Share of mentions with the report's own term rather than another one of the category.
_SAME_TERM = 0.8
_SAME_PHRASE = 0.85
_GRADED = frozenset({"adeno", "squamous", "carcinoma", "ductal", "urothelial", "liver"})


@dataclass(frozen=True)
class Case:
    """What the reports on one patient share."""

    site: Site
    histology: str
    phrases: Phrases
    sex: str
    side: str
    facility: str
    metastatic: bool

    @property
    def kind(self) -> str:
        """The diagnoses and labels that fit: organ, plain (for systemic tumours), metastatic or unknown."""
        if self.site.code == "C80":
            return "unknown"
        if self.metastatic:
            return "metastatic"
        return "plain" if self.site.group in vocabulary.SYSTEMIC else "organ"


@dataclass
class Draft:
    """One report. `room` is the number of words in sentences, `shares` divides it among the slots."""

    case: Case
    rng: random.Random
    room: float
    shares: dict[str, float]
    pieces: list[str] = field(default_factory=list)
    site_marks: list[int] = field(default_factory=list)
    histology_marks: list[int] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    topics: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.term = self.pick(self.case.site.terms)
        self.phrase = self.pick(self.case.phrases.words)
        self.procedure = self.pick(self.case.site.procedures)

    def write(self, parts: Parts) -> None:
        """Adds a template with its slots filled."""
        append = self.pieces.append
        for literal, slot in parts:
            if literal:
                append(literal)
            if slot:
                _FILL[slot](self)

    def pick(self, options):
        """One of a sequence, evenly."""
        return options[int(self.rng.random() * len(options))]

    def fact(self, name: str) -> str:
        """A fact that stays the same throughout the report."""
        if name not in self.facts:
            case, options = self.case, templates().facts[name]
            if name == "spread":
                excluded = templates().spread_not.get(case.site.code)
                options = [option for option in options if option != excluded]
            unstaged = name in ("pt", "pn") and (case.kind in ("plain", "unknown") or case.site.group == "brain")
            self.facts[name] = "not applicable" if unstaged else self.pick(options)
        return self.facts[name]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _site(draft: Draft, capital: bool) -> None:
    term = draft.term if draft.rng.random() < _SAME_TERM else draft.pick(draft.case.site.terms)
    side = draft.case.side
    if side and "left" not in term and "right" not in term:
        draft.pieces.append(f"{side.capitalize() if capital else side} ")
    elif capital:
        term = _capital(term)
    draft.site_marks.append(len(draft.pieces))
    draft.pieces.append(term)


def _histology(draft: Draft, capital: bool) -> None:
    phrase = draft.phrase if draft.rng.random() < _SAME_PHRASE else draft.pick(draft.case.phrases.words)
    draft.histology_marks.append(len(draft.pieces))
    draft.pieces.append(_capital(phrase) if capital else phrase)


def _procedure(draft: Draft) -> str:
    return draft.fact("taken") if draft.case.metastatic else draft.procedure


def _differentiation(draft: Draft) -> None:
    if draft.case.histology.endswith("/3") and draft.case.phrases.family in _GRADED:
        draft.pieces.append(draft.pick(templates().small["differentiation"]))


def _sentences(slot: str, *kinds: str):
    """Fills a slot with random sentences of these kinds until its share of the room is used up; at least one."""

    def fill(draft: Draft) -> None:
        pools = [_pool(kind, draft.case) for kind in kinds]
        room = draft.room * draft.shares.get(slot, 0.0)
        random, pieces, topics, many, again = draft.rng.random, draft.pieces, draft.topics, len(pools), 0
        while True:
            pool = pools[int(random() * many)]
            sentence, words, topic = pool[int(random() * len(pool))]
            if topic in topics and again < _REDRAWS:
                again += 1
                continue
            topics.add(topic)
            again = 0
            pieces.append(sentence)
            room -= words
            if room < words / 2:
                return
            pieces.append(" ")

    return fill


def _pool(kind: str, case: Case) -> tuple[Sentence, ...]:
    if kind == "away":
        return vocabulary.elsewhere(case.site.code, case.sex)
    # A metastasis does not describe the organ it came from; only its histology does.
    family, group = case.phrases.family, "unknown" if case.metastatic else case.site.group
    if kind == "ihc":
        return vocabulary.pool(kind, family, f"{family}@{group}")
    return vocabulary.pool(kind, family if kind == "micro" else group)


def _date(draft: Draft) -> None:
    day = int(draft.rng.random() * 28 * 12 * 20)
    draft.pieces.append(f"{2004 + day // 336}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}")


def _number(low: int, high: int):
    return lambda draft: draft.pieces.append(str(low + int(draft.rng.random() * (high - low))))


def _word(get):
    return lambda draft: draft.pieces.append(get(draft))


_FILL = {
    "ls": lambda draft: _site(draft, False),
    "Ls": lambda draft: _site(draft, True),
    "h": lambda draft: _histology(draft, False),
    "H": lambda draft: _histology(draft, True),
    "d": _differentiation,
    "dx": lambda draft: draft.write(draft.pick(templates().dx[draft.case.kind])),
    "label": lambda draft: draft.write(draft.pick(templates().label[draft.case.kind])),
    "gross": _sentences("gross", "gross"),
    "micro": _sentences("micro", "micro", "micro", "ihc"),
    "close": _sentences("close", "close", "close", "away"),
    "away": _sentences("away", "away"),
    "history": _word(lambda draft: draft.pick(vocabulary.history(draft.case.sex))[0]),
    "p": _word(lambda draft: _procedure(draft)),
    "P": _word(lambda draft: _capital(_procedure(draft))),
    "sex": _word(lambda draft: draft.case.sex),
    "side": _word(lambda draft: draft.case.side or "not applicable"),
    "facility": _word(lambda draft: draft.case.facility),
    "age": _number(18, 92),
    "n": _number(1, 25),
    "case": _number(1000, 99999),
    "yy": _number(10, 26),
    "date": _date,
    **{name: _word(lambda draft, name=name: draft.fact(name)) for name in ("spread", "taken", "size", "pt", "pn", "grade")},
    **{name: _word(lambda draft, name=name: draft.pick(templates().small[name])) for name in ("negative", "other_part", "yes")},
}
