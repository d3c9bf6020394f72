"""Texts with the mentions that people marked in them, as gold for what finds entities."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from engine.records import text_digest
from engine.sources.labelled.annotated import read_documents
from engine.sources.labelled.documents import Broken, marked_types
from engine.sources.labelled.genia import Left
from engine.sources.labelled.table import Labelled
from engine.sources.labelled.values import SPANS

_COLUMNS = {**dict.fromkeys(("record_id", "dataset", "split", "lang"), pa.string()), "text": pa.large_string()}


@dataclass(frozen=True)
class GoldSpans:
    """Usable texts of some datasets, and what is marked in each dataset.

    `records` has a row a text: `record_id`, `dataset`, `split`, `lang`, `text`, its `text_sha256` and `spans` (half-open `start`
    and `end` in characters, `type`, `group_id` where a mention lies in several pieces). `marked` has the types of each dataset:
    any other was not looked for there, so it is no error to find one. `broken` says which texts cannot be used, `coordinated` how
    many mentions of the records are coordinations, which become no span.
    """

    records: pa.Table
    marked: Mapping[str | None, frozenset[str]]
    broken: Broken
    coordinated: int = 0

    @property
    def types(self) -> tuple[str, ...]:
        """All types that are marked somewhere."""
        return tuple(sorted(frozenset().union(*self.marked.values())))


def read_spans(config: Labelled, split: str | None = None) -> GoldSpans:
    """Reads what `read_documents` reads; `records` have `group` and the columns of `config.more` that some table has.

    Args:
        split: take the texts of this split alone; what is marked in a dataset is said by all of its texts.
    Raises:
        ConfigError: nothing can be used, see `read_documents`.
    """
    left = Left()
    documents = read_documents(config, left)
    sound = [each for each in documents if not each.broken and split in (None, each.split)]
    columns = {name: pa.array([getattr(each, name) for each in sound], kind) for name, kind in _COLUMNS.items()}
    columns["spans"] = pa.array([[vars(span) for span in each.spans] for each in sound], SPANS)
    columns["text_sha256"] = pa.array([text_digest(each.text) for each in sound], pa.binary(32))
    for name in dict.fromkeys(name for each in sound for name in each.more):
        columns[name] = pa.array([each.more.get(name) for each in sound], pa.string())
    types = marked_types(documents)
    coordinated = left.count({each.record_id for each in sound}, frozenset().union(*types.values()))
    return GoldSpans(pa.table(columns), types, Broken.of(documents), coordinated)
