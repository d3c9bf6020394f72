"""Synthetic Chinese records of outpatients with atopic dermatitis, with gold entities and what is said of each.

Record i of seed s depends on (s, i) and the settings alone, as in the corpus of reports. Ten records in a row are the visits of
four patients, one to four each. `dermatology_terms.csv` has the words of the entities, of which some occur in the test split
only, `dermatology_clauses.csv` the sentences around them; `symbol@group` is of infants, children or adults. Some sentences hold
words that look like entities and are none, such as the name of a clinic. All people, hospitals and findings are invented.
"""

import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from itertools import accumulate

import pyarrow as pa

from engine.keys import check_keys, same
from engine.sources.synthetic.damage import KINDS as DAMAGE
from engine.sources.synthetic.damage import damage
from engine.sources.synthetic.generate import Settings, as_table, split_of
from engine.sources.synthetic.grammar import Symbols, Writer, compile_text
from engine.sources.synthetic.vocabulary import rows
from engine.text.assertions import AFFIRMED, KINDS

# Raised whenever the same settings give different records.
EDITION = 1
TYPES = ("DISEASE", "SYMPTOM", "BODY_SITE", "DRUG", "TREATMENT", "TEST", "TRIGGER", "TIME")
_SPAN = {"start": pa.int32(), "end": pa.int32(), "type": pa.string(), "assertion": pa.string()}
# `spans` are half-open code-point offsets into `text`, in its order and without overlap; `visit_date` is ISO 8601.
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("record_id", "patient_id", "visit_date", "text"), pa.string()),
        "spans": pa.list_(pa.struct(_SPAN)),
        **dict.fromkeys(("style", "corpus", "lang", "split", "broken"), pa.string()),
    }
)
_BLOCK = 10_000
# The visits of each patient of a turn, and the records before them.
_VISITS = (1, 2, 3, 4)
_BEFORE = tuple(accumulate(_VISITS, initial=0))[:-1]
# Age in months by group.
_AGES = {"infant": (3, 30), "child": (72, 167), "adult": (192, 870)}
# Marks of a text in the making, in the private use area: an entity by type, what is said by kind, and the ends of both.
_ENTITY, _SAID, _ENTITY_END, _SAID_END = 0xE000, 0xE010, "\ue00f", "\ue01f"
# Shares of patients with traditional characters, and of records with each irregularity.
_TRADITIONAL, _ASCII_MARKS, _WIDE_DIGITS, _BROKEN_LINES = 0.06, 0.12, 0.06, 0.08
_TO_ASCII = str.maketrans("，：；（）？！", ",:;()?!")
_TO_WIDE = str.maketrans("0123456789", "０１２３４５６７８９")
_REDRAWS, _RECENT = 5, 3


@dataclass(frozen=True)
class Dermatology:
    """The settings that a record depends on. `kinds` are the kinds of damage, in turn.

    Raises:
        ConfigError: a value outside its range.
    """

    seed: int = same(Settings, "seed")
    broken: float = same(Settings, "broken")
    kinds: tuple[str, ...] = DAMAGE

    def __post_init__(self) -> None:
        check_keys(self)


def generate(records: int, seed: int, *, start: int = 0, broken: float = 0.0) -> pa.Table:
    """Records `start` to `start + records` of a seed, in the columns of `SCHEMA`."""
    return pa.concat_tables([SCHEMA.empty_table(), *blocks(Dermatology(seed, broken), start, start + records)])


def blocks(settings: Dermatology, start: int, stop: int) -> Iterator[pa.Table]:
    """Records `start` to `stop`, in tables of a moderate size."""
    for at in range(start, stop, _BLOCK):
        yield as_table((_record(settings, number) for number in range(at, min(at + _BLOCK, stop))), SCHEMA)


@dataclass
class _Writer(Writer):
    """Draws again what it wrote just before."""

    drawn: dict[str, list[str]] = field(default_factory=dict)

    def symbol(self, name: str) -> str:
        drawn = self.drawn.setdefault(name, [])
        for _ in range(_REDRAWS):
            text = super().symbol(name)
            if text not in drawn[-_RECENT:]:
                break
        drawn.append(text)
        return text


def _record(settings: Dermatology, number: int) -> tuple:
    turn, place = divmod(number, sum(_VISITS))
    of_turn = bisect(_BEFORE, place) - 1
    patient, visit = len(_VISITS) * turn + of_turn, place - _BEFORE[of_turn]
    patient_id = f"derm-pat-{settings.seed}-{patient:08d}"
    split = split_of(patient_id)
    writer, on, traditional = _patient(settings.seed, patient, visit, split == "test")
    writer.rng = random.Random(settings.seed << 64 | number << 1 | 1)
    style = writer.symbol("return" if visit else "first")
    marked = _irregular(writer.symbol(style), writer)
    text, spans = _unmark(_traditional(marked) if traditional else marked)
    damaged = damage(settings.seed, number, settings.broken, settings.kinds, text)
    record_id = f"derm-{settings.seed}-{number - (damaged.kind == 'duplicate_id'):08d}"
    record_id = None if damaged.kind == "null_id" else record_id
    spans = spans if damaged.spans_hold else []
    return (record_id, patient_id, on, damaged.text, spans, style, "dermatology", "zh", split, damaged.kind)


def _patient(seed: int, patient: int, visit: int, test: bool) -> tuple[_Writer, str, bool]:
    """A writer with the facts that the patient's records share, the day of a visit, and whether in traditional characters."""
    rng = random.Random(seed << 64 | patient << 1)
    group = rng.choice((*_AGES, "adult"))
    first = date(2016, 1, 1) + timedelta(rng.randrange(3000))
    gaps = [rng.randint(7, 100) for _ in _VISITS[1:]]
    on = first + timedelta(sum(gaps[:visit]))
    months = rng.randint(*_AGES[group]) + (on - first).days // 30
    writer = _Writer(rng, _symbols(test, group), shared=_symbols(test, ""))
    writer.fixed |= {
        "sex": rng.choice("男女"),
        "age": f"{months}个月" if months < 36 else f"{months // 12}岁",
        "date": rng.choice((f"{on}", f"{on.year}年{on.month}月{on.day}日")),
    }
    for name in ("who", "main"):
        writer.same(name)
    return writer, f"{on}", rng.random() < _TRADITIONAL


def _irregular(text: str, writer: Writer) -> str:
    """The text as somebody may have typed it; nothing changes within an entity but the form of its digits and marks."""
    if writer.chance(_ASCII_MARKS):
        text = text.translate(_TO_ASCII)
    if writer.chance(_WIDE_DIGITS):
        text = text.translate(_TO_WIDE)
    if writer.chance(_BROKEN_LINES):
        clauses, every = text.split("，"), writer.between(2, 4)
        text = "，".join(f"\n{clause}" if at % every == every - 1 else clause for at, clause in enumerate(clauses))
    return text


def _unmark(marked: str) -> tuple[str, list[dict]]:
    """The text without its marks, and the spans that they say."""
    letters: list[str] = []
    spans: list[dict] = []
    said = [AFFIRMED]
    for letter in marked:
        if letter == _ENTITY_END:
            spans[-1]["end"] = len(letters)
        elif letter == _SAID_END:
            said.pop()
        elif (kind := ord(letter) - _SAID) in range(len(KINDS)):
            said.append(KINDS[kind])
        elif (entity := ord(letter) - _ENTITY) in range(len(TYPES)):
            spans.append({"start": len(letters), "end": 0, "type": TYPES[entity], "assertion": said[-1]})
        else:
            letters.append(letter)
    return "".join(letters), spans


@cache
def _symbols(test: bool, group: str) -> Symbols:
    """The symbols of a group of patients, or those of all."""
    symbols: Symbols = {}
    for row in rows("dermatology_terms.csv"):
        name, _, of = row["symbol"].partition("@")
        terms = (row["terms"] + ";" + row["only_in_test"] if test else row["terms"]).split(";")
        if of == group:
            mark = chr(_ENTITY + TYPES.index(row["type"]))
            symbols[name] = tuple((mark, *compile_text(term), _ENTITY_END) for term in terms)
    for row in rows("dermatology_clauses.csv"):
        name, _, of = row["symbol"].partition("@")
        if of == group:
            nodes = compile_text(row["text"].replace("\\n", "\n"))
            said = (chr(_SAID + KINDS.index(row["said"])), *nodes, _SAID_END) if row["said"] else nodes
            symbols[name] = (*symbols.get(name, ()), said)
    return symbols


def _traditional(text: str) -> str:
    """The text in traditional characters, as many as before."""
    for row in rows("traditional.csv"):
        text = text.replace(row["simplified"], row["traditional"])
    return text
