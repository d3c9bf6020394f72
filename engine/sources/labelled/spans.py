"""Texts with the mentions that people marked in them, as gold for what finds entities."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from engine.records import text_digest
from engine.sources.labelled.annotated import read_documents
from engine.sources.labelled.documents import Broken, from_table, marked_types
from engine.sources.labelled.genia import Left


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


def read_spans(path: str, split: str | None = None, id: str | None = None) -> GoldSpans:
    """Reads what `read_documents` reads.

    Args:
        split: take the texts of this split alone; what is marked in a dataset is said by all of its texts.
        id: as `read_documents` has it.
    Raises:
        ConfigError: nothing can be used, see `read_documents`.
    """
    left = Left()
    table = read_documents(path, left, id)
    documents = from_table(table)
    records = table.filter(pc.field("failure").is_null()).drop_columns(["failure"])
    if split is not None:
        records = records.filter(pc.field("split") == split)
    digests = pa.array([text_digest(text) for text in records["text"].to_pylist()], pa.binary(32))
    types = marked_types(documents)
    coordinated = left.count(set(records["record_id"].to_pylist()), frozenset().union(*types.values()))
    return GoldSpans(records.append_column("text_sha256", digests), types, Broken.of(documents), coordinated)
