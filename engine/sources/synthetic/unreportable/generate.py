"""Texts that a registry gets and must not code: none states a reportable tumour, many speak of cancer.

Record i of seed s depends on (s, i) alone, as in the corpus of reports. The kinds of `kinds.json` take turns. All texts are made
up; the people, places and firms in them do not exist.
"""

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from engine.errors import ConfigError
from engine.sources.synthetic.unreportable.grammar import KINDS_FILE, Writer, cases, read
from engine.sources.synthetic.unreportable.layouts import lay_out
from engine.sources.synthetic.unreportable.scans import MAKERS

# Raised whenever the same seed gives other records.
EDITION = 1
# `site` and `histology` are null in every row, so that the table can stand beside the corpus of reports. `style` is how the text
# is set, or, where a kind holds several sorts of documents (languages, say), which of them it is.
SCHEMA = pa.schema([(name, pa.string()) for name in ("record_id", "text", "site", "histology", "kind", "style", "split")])
_BLOCK = 10_000


@dataclass(frozen=True)
class Kind:
    """One kind of text: its documents and layouts, one of each drawn evenly, and the group of `cases.json` it speaks of."""

    name: str
    documents: tuple[str, ...]
    layouts: tuple[str, ...]
    cases: str = ""


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, in the order in which they take turns."""
    return tuple(
        Kind(name, tuple(raw["documents"]), tuple(raw["layouts"]), raw.get("cases", "")) for name, raw in read(KINDS_FILE).items()
    )


@dataclass(frozen=True)
class Unreportable:
    """What a record depends on besides its number.

    Args:
        seed: any whole number from 0.

    Raises:
        ConfigError: a seed below 0.
    """

    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed: {self.seed} is below 0; give a whole number from 0")


def generate(records: int, seed: int, *, start: int = 0) -> pa.Table:
    """Records `start` to `start + records` of a seed, in the columns of `SCHEMA`."""
    made = list(blocks(Unreportable(seed), start, start + records))
    return pa.concat_tables(made) if made else SCHEMA.empty_table()


def blocks(settings: Unreportable, start: int, stop: int) -> Iterator[pa.Table]:
    """Records `start` to `stop` as one table after another, each small enough to hold."""
    for at in range(start, stop, _BLOCK):
        rows = [_record(settings.seed, number) for number in range(at, min(at + _BLOCK, stop))]
        yield pa.Table.from_pylist(rows, schema=SCHEMA)


def _record(seed: int, number: int) -> dict[str, str | None]:
    kind = kinds()[number % len(kinds())]
    text, style = _text(kind, Writer(random.Random(seed << 64 | number)))
    return {
        "record_id": f"unr-{seed}-{number:08d}",
        "text": text,
        "kind": kind.name,
        "style": style,
        "split": _split(text),
    }


def _text(kind: Kind, writer: Writer) -> tuple[str, str]:
    """A text of a kind, and its style."""
    document, layout = writer.pick(kind.documents), writer.pick(kind.layouts)
    style = document.removeprefix(f"{kind.name}_") if len(set(kind.documents)) > 1 else layout
    if document in MAKERS:
        return MAKERS[document](writer), style
    if kind.cases:
        writer.own = writer.pick(cases()[kind.cases])
    return lay_out(layout, writer.symbol(document), writer), style


def _split(text: str) -> str:
    """By the text: what is written twice (test, test) stands in one split."""
    part = zlib.crc32(text.encode()) % 100
    return "train" if part < 80 else "valid" if part < 90 else "test"
