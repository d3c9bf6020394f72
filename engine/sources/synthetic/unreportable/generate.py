"""Texts that a registry receives and must not code: none states a reportable tumour, many mention cancer.

Record i of seed s depends on (s, i) alone, as in the corpus of reports. The kinds of `kinds.json` take turns. All texts, people,
places and firms are invented.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from engine.keys import check_keys, same
from engine.sources.synthetic.generate import Settings, split_of
from engine.sources.synthetic.unreportable.grammar import KINDS_FILE, Writer, cases, read
from engine.sources.synthetic.unreportable.layouts import lay_out
from engine.sources.synthetic.unreportable.scans import MAKERS

# Raised whenever the same seed gives different records.
EDITION = 1
# `site` and `histology` are null in every row, as the corpus of reports has these columns. `style` is the layout, or the document
# of a kind that has several, such as languages.
SCHEMA = pa.schema([(name, pa.string()) for name in ("record_id", "text", "site", "histology", "kind", "style", "split")])
_BLOCK = 10_000


@dataclass(frozen=True)
class Kind:
    """One kind of text: its documents and layouts, drawn evenly, and its group of `cases.json`."""

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
    """The settings of the corpus: a seed from 0; ConfigError for one below."""

    seed: int = same(Settings, "seed")

    def __post_init__(self) -> None:
        check_keys(self)


def generate(records: int, seed: int, *, start: int = 0) -> pa.Table:
    """Records `start` to `start + records` of a seed, in the columns of `SCHEMA`."""
    return pa.concat_tables([SCHEMA.empty_table(), *blocks(Unreportable(seed), start, start + records)])


def blocks(settings: Unreportable, start: int, stop: int) -> Iterator[pa.Table]:
    """Records `start` to `stop`, in tables of a moderate size."""
    for at in range(start, stop, _BLOCK):
        rows = [_record(settings.seed, number) for number in range(at, min(at + _BLOCK, stop))]
        yield pa.Table.from_pylist(rows, schema=SCHEMA)


def _record(seed: int, number: int) -> dict[str, str | None]:
    kind = kinds()[number % len(kinds())]
    text, style = _text(kind, Writer(random.Random(seed << 64 | number)))
    # By the text, so that a text that comes twice ("test, test") is in one split.
    split = split_of(text)
    return {"record_id": f"unr-{seed}-{number:08d}", "text": text, "kind": kind.name, "style": style, "split": split}


def _text(kind: Kind, writer: Writer) -> tuple[str, str]:
    """A text of a kind, and its style."""
    document, layout = writer.pick(kind.documents), writer.pick(kind.layouts)
    style = document.removeprefix(f"{kind.name}_") if len(set(kind.documents)) > 1 else layout
    if document in MAKERS:
        return MAKERS[document](writer), style
    if kind.cases:
        writer.case = writer.pick(cases()[kind.cases])
    return lay_out(layout, writer.symbol(document), writer), style
