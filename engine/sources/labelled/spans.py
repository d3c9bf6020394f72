"""Texts with the mentions that people marked in them, as gold for entity extraction."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from engine.records import text_digest
from engine.sources.labelled.annotated import read_documents
from engine.sources.labelled.documents import Broken, marked_types
from engine.sources.labelled.genia import Omitted
from engine.sources.labelled.table import Labelled
from engine.sources.labelled.values import SPANS

_COLUMNS = {**dict.fromkeys(("record_id", "dataset", "split", "lang"), pa.string()), "text": pa.large_string()}


@dataclass(frozen=True)
class GoldSpans:
    """The usable texts of some datasets, and the types marked in each dataset.

    `records` has a row a text: `record_id`, `dataset`, `split`, `lang`, `text`, its `text_sha256` and `spans` (half-open `start`
    and `end` in characters, `type`, `group_id` of a mention in several pieces). `marked` has the types of each dataset; finding a
    mention of another type there is no error. `broken` counts the texts that cannot be used, `coordinated` the coordinations in
    the records, which have no span.
    """

    records: pa.Table
    marked: Mapping[str | None, frozenset[str]]
    broken: Broken
    coordinated: int = 0

    @property
    def types(self) -> tuple[str, ...]:
        """All types that are marked in some dataset."""
        return tuple(sorted(frozenset().union(*self.marked.values())))


def read_spans(config: Labelled, split: str | None = None) -> GoldSpans:
    """The documents of `read_documents`; `records` also has `group` and the columns of `config.more` that some table has.

    Args:
        split: use only the texts of this split; `marked` still goes by all texts of a dataset.
    Raises:
        ConfigError: nothing can be used, see `read_documents`.
    """
    omitted = Omitted()
    documents = read_documents(config, omitted)
    usable = [each for each in documents if not each.broken and split in (None, each.split)]
    columns = {name: pa.array([getattr(each, name) for each in usable], kind) for name, kind in _COLUMNS.items()}
    columns["spans"] = pa.array([[vars(span) for span in each.spans] for each in usable], SPANS)
    columns["text_sha256"] = pa.array([text_digest(each.text) for each in usable], pa.binary(32))
    for name in dict.fromkeys(name for each in usable for name in each.more):
        columns[name] = pa.array([each.more.get(name) for each in usable], pa.string())
    types = marked_types(documents)
    coordinated = omitted.count({each.record_id for each in usable}, frozenset().union(*types.values()))
    return GoldSpans(pa.table(columns), types, Broken.of(documents), coordinated)
