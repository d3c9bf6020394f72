"""Which rows a page shows, and their texts, brought back from the input."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.records import AUTO, DECISIONS, FAILED, NOT_APPLICABLE, REVIEW, seed_of, text_digest

_FEW = {FAILED: 10, NOT_APPLICABLE: 10}


@dataclass(frozen=True)
class Example:
    """A row of `codes` and the text it was made from, None where the row failed; entities of the text, if any were looked for."""

    row: Mapping[str, Any]
    text: str | None
    entities: Sequence[Mapping[str, Any]] | None = None


def tasks_of(schema: pa.Schema) -> list[str]:
    """The tasks of a `codes` table, in table order."""
    ends = "_decision"
    return [name[: -len(ends)] for name in schema.names if name.endswith(ends) and f"{name[: -len(ends)]}_code" in schema.names]


def pick_examples(codes: pa.Table, n: int = 20) -> list[dict[str, Any]]:
    """A mixed sample of rows, the same each time and whatever the order of the table.

    Coded rows and rows to review in equal parts, spread over the codes of the first task; failed and not applicable rows up to
    a tenth each, spread over the kinds of failure. Where one decision has too few rows the others fill up. Sorted by decision.
    """
    tasks = tasks_of(codes.schema)
    grouping = codes[f"{tasks[0]}_code"].to_pylist() if tasks else [None] * codes.num_rows
    kinds = [(failure or {}).get("kind") for failure in codes["failure"].to_pylist()]
    ids = codes["record_id"].to_pylist()
    by_decision: dict[str, dict[str, list[int]]] = {decision: {} for decision in DECISIONS}
    for i, decision in enumerate(codes["decision"].to_pylist()):
        by_decision[decision].setdefault(kinds[i] or grouping[i] or "", []).append(i)

    def key(i: int) -> tuple[int, str]:
        return seed_of(ids[i], "example"), ids[i]

    queues = {}
    for decision, groups in by_decision.items():
        ranked = sorted((sorted(rows, key=key) for rows in groups.values()), key=lambda rows: key(rows[0]))
        queues[decision] = [i for turn in zip_longest(*ranked) for i in turn if i is not None]
    chosen = {decision: min(len(queues[decision]), max(1, n // share)) for decision, share in _FEW.items()}
    rest = max(0, n - sum(chosen.values()))
    chosen[REVIEW] = min(len(queues[REVIEW]), rest // 2)
    chosen[AUTO] = min(len(queues[AUTO]), rest - chosen[REVIEW])
    for decision in (REVIEW, NOT_APPLICABLE, FAILED):
        chosen[decision] += min(len(queues[decision]) - chosen[decision], n - sum(chosen.values()))
    rows = [i for decision in DECISIONS for i in queues[decision][: chosen[decision]]][:n]
    return codes.take(pa.array(rows, pa.int64())).to_pylist()


def join_text(rows: Sequence[Mapping[str, Any]], records: Iterable[pa.Table]) -> list[Example]:
    """The rows with their texts, by source and position, in the order of the rows.

    Args:
        records: tables as sources give them, one after the other; reading ends when every text is found.
    Raises:
        ConfigError: the input no longer has a record, or has another text in its place.
    """
    wanted = {(row["source"], row["position"]) for row in rows if row["decision"] != FAILED}
    found: dict[tuple[str, int], str] = {}
    for table in records if wanted else ():
        keys = zip(table["source"].to_pylist(), table["position"].to_pylist(), strict=True)
        for i, key in enumerate(keys):
            if key in wanted and (text := table["text"][i].as_py()) is not None:
                found[key] = text
        if len(found) == len(wanted):
            break
    return [verified(row, found.get((row["source"], row["position"]))) for row in rows]


def verified(row: Mapping[str, Any], text: str | None) -> Example:
    """The pair, if this is the text that the row was made from.

    Raises:
        ConfigError: it is not; spans in another text would mark the wrong words.
    """
    if row["decision"] == FAILED:
        return Example(row, None)
    place = f"{row['source']}, record {row['position']}"
    if text is None:
        raise ConfigError(f"{place}: the input no longer has this record; show evidence beside the input that was coded")
    if text_digest(text) != row["text_sha256"]:
        raise ConfigError(f"{place}: the text is not the one that was coded; show evidence beside the input that was coded")
    return Example(row, text)
