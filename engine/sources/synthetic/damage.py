"""Damage on purpose: the bad records that a real feed contains, in known number and place.

Of every 1/broken records in a row exactly one is damaged, at a place drawn from the seed, and the kinds take turns; so even a
small corpus holds each of them. A text beyond 4 MiB is rare, one in 100,000 records.
"""

import random
from dataclasses import dataclass

OVERSIZED = "oversized"
KINDS = (
    "empty_text",
    "duplicate_id",
    "blank_text",
    "control_characters",
    "null_text",
    "invalid_encoding",
    "digits",
    "lone_surrogate",
    "null_id",
)
OVERSIZED_EVERY = 100_000
OVERSIZED_AT = 97
OVERSIZED_CHARS = 4_400_000


@dataclass(frozen=True)
class Damage:
    """What became of a record. `spans_hold` says whether its evidence still stands where it stood."""

    kind: str | None
    text: str | bytes | None
    spans_hold: bool


def damage(seed: int, number: int, share: float, kinds: tuple[str, ...], text: str) -> Damage:
    """The record's text after damage, if it is one of those to be damaged."""
    kind = kind_of(seed, number, share, kinds)
    if kind is None:
        return Damage(None, text, True)
    if kind == "empty_text":
        return Damage(kind, "", False)
    if kind == "blank_text":
        return Damage(kind, " \n\t  \n ", False)
    if kind == "null_text":
        return Damage(kind, None, False)
    if kind == "digits":
        return Damage(kind, "0123456789" * 1000, False)
    if kind == "control_characters":
        return Damage(kind, text + " \x01\x07\x1b[0m\x08\x7f", True)
    if kind == "invalid_encoding":
        return Damage(kind, text.encode() + b" caf\xe9 \xff", False)
    if kind == "lone_surrogate":
        return Damage(kind, text.encode() + b" \xed\xa0\xbd", False)
    if kind == OVERSIZED:
        return Damage(kind, (text + "\n") * (OVERSIZED_CHARS // (len(text) + 1) + 1), True)
    return Damage(kind, text, True)


def kind_of(seed: int, number: int, share: float, kinds: tuple[str, ...]) -> str | None:
    """The kind of damage that a record gets, or None."""
    if not share:
        return None
    if number % OVERSIZED_EVERY == OVERSIZED_AT:
        return OVERSIZED
    stretch = round(1 / share)
    turn, place = divmod(number, stretch)
    if place != int(random.Random(f"{seed}/{turn}").random() * stretch):
        return None
    kind = kinds[turn % len(kinds)]
    # The first record has none before it whose id it could bear.
    return "empty_text" if kind == "duplicate_id" and number == 0 else kind
