"""Rows of entities and marked texts for tests, without a model and without files."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from engine.records import entities_fields, table_schema, text_digest
from engine.sources.labelled import Broken, GoldSpans
from engine.sources.labelled.values import SPANS

Mention = tuple[int, int, str]


def found_row(name: str, mentions: Sequence[tuple] | None, text: str = "", **more) -> dict:
    """A row; a mention is (start, end, type), a score behind it, and then other fields. None failed."""
    row = {"record_id": name, "source": "s", "position": 0, "run_id": "r", "model_digest": "m", "reasons": [], "n_tokens": 4}
    if mentions is None:
        return {**row, "decision": "failed", "failure": {"kind": "missing_text", "detail": ""}, "n_tokens": None, **more}
    names = ("start", "end", "type", "score")
    entities = [
        {"score": 0.5, **dict(zip(names, each[:4], strict=False)), **(each[4] if len(each) > 4 else {})} for each in mentions
    ]
    return {**row, "decision": "auto", "entities": entities, "text_sha256": text_digest(text), **more}


def found_rows(rows: Sequence[Mapping], keep: Sequence[str] = ()) -> pa.Table:
    schema = table_schema(entities_fields(), [pa.field(name, pa.string()) for name in keep])
    return pa.Table.from_pylist(list(rows), schema=schema)


def marked_texts(
    marks: Mapping[str, Sequence[Mention]],
    dataset: Mapping[str, str] | str = "d",
    text: str = "",
    broken: Broken | None = None,
    types: Mapping[str, frozenset[str]] | None = None,
    **columns: Sequence[str | None],
) -> GoldSpans:
    """Gold of some texts, which are all the same."""
    datasets = [dataset if isinstance(dataset, str) else dataset[name] for name in marks]
    spans = [[{"start": a, "end": b, "type": kind, "group_id": None} for a, b, kind in some] for some in marks.values()]
    marked: dict[str, set[str]] = {}
    for name, some in zip(datasets, marks.values(), strict=True):
        marked.setdefault(name, set()).update(kind for _, _, kind in some)
    records = pa.table(
        {
            "record_id": pa.array(list(marks), pa.string()),
            "dataset": pa.array(datasets, pa.string()),
            "spans": pa.array(spans, SPANS),
            "text_sha256": pa.array([text_digest(text)] * len(marks), pa.binary(32)),
            **{name: pa.array(values, pa.string()) for name, values in columns.items()},
        }
    )
    kinds = types or {name: frozenset(some) for name, some in marked.items()}
    return GoldSpans(records, kinds, broken or Broken(len(marks)))
