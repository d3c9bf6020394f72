"""Deliberate damage: the bad records of a real feed, in known number and place.

Of every 1/broken records in a row exactly one is damaged, at a place drawn from the seed, and the kinds take turns; so even a
small corpus has each of them. A text beyond 4 MiB is rare, one in 100,000 records.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

OVERSIZED = "oversized"
OVERSIZED_EVERY = 100_000
OVERSIZED_AT = 97
OVERSIZED_CHARS = 4_400_000

# The text of each kind of damage; damage to the id leaves it unchanged.
_TEXTS: dict[str, Callable[[str], str | bytes | None]] = {
    "empty_text": lambda text: "",
    "duplicate_id": lambda text: text,
    "blank_text": lambda text: " \n\t  \n ",
    "control_characters": lambda text: text + " \x01\x07\x1b[0m\x08\x7f",
    "null_text": lambda text: None,
    "invalid_encoding": lambda text: text.encode() + b" caf\xe9 \xff",
    "digits": lambda text: "0123456789" * 1000,
    "lone_surrogate": lambda text: text.encode() + b" \xed\xa0\xbd",
    "null_id": lambda text: text,
}
KINDS = tuple(_TEXTS)
_SPANS_HOLD = {None, "duplicate_id", "control_characters", "null_id", OVERSIZED}


@dataclass(frozen=True)
class Damage:
    """The result for one record; `spans_hold`: its evidence is still at the same offsets."""

    kind: str | None
    text: str | bytes | None
    spans_hold: bool


def damage(seed: int, number: int, share: float, kinds: tuple[str, ...], text: str) -> Damage:
    """Damages the record's text if it is one of the records to damage."""
    kind = kind_of(seed, number, share, kinds)
    if kind == OVERSIZED:
        damaged = (text + "\n") * (OVERSIZED_CHARS // (len(text) + 1) + 1)
    else:
        damaged = text if kind is None else _TEXTS[kind](text)
    return Damage(kind, damaged, kind in _SPANS_HOLD)


def kind_of(seed: int, number: int, share: float, kinds: tuple[str, ...]) -> str | None:
    """The kind of damage of a record, or None."""
    if not share:
        return None
    if number % OVERSIZED_EVERY == OVERSIZED_AT:
        return OVERSIZED
    stretch = round(1 / share)
    turn, place = divmod(number, stretch)
    if place != int(random.Random(f"{seed}/{turn}").random() * stretch):
        return None
    kind = kinds[turn % len(kinds)]
    # The first record has none before it to take the id of.
    return "empty_text" if kind == "duplicate_id" and number == 0 else kind
