"""From what a user asks about a finished run to its figures, by the table that the run wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.evaluation import codes, entities, findings
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.gold import Gold, GoldConfig, read_gold
from engine.evaluation.marked import MarkedConfig, read_marked
from engine.evaluation.metrics import Rounds
from engine.evaluation.rows import Rows, schema_of
from engine.records import CODES, ENTITIES, FINDINGS, tasks_of
from engine.sources.base import DOUBLE
from engine.sources.labelled import Labelled, Reader

# What may be asked of one table only.
_ONLY = {"labels": (CODES, FINDINGS), "spans": (CODES,), "text": (CODES,), "types": (ENTITIES,)}


@dataclass(frozen=True)
class Question:
    """The gold that a run is held against, and how: by the names of the keys of `jobs.evaluate`, which tell what each means."""

    gold: str
    id: str | None = None
    id_scope: str | None = None
    source: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    slices: Sequence[str] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    spans: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: str = DOUBLE
    escape: str | None = None


def evaluate(
    table: str,
    rows: Rows,
    settings: Mapping[str, Any],
    question: Question,
    known: Mapping[str, Sequence[str]] | None = None,
    rounds: Rounds | None = None,
) -> Evaluation:
    """Measures a run; nothing is written.

    Args:
        table: the name of the result table. rows: its files, or the table itself. settings: the run's, as its fingerprint has
        them. known: what the run's model can answer, as `System.known` tells; None where it is not at hand.
    Raises:
        ConfigError: the question does not fit the table or its gold.
    """
    measure = _TABLES.get(table)
    if measure is None:
        raise ConfigError(f"run: a table of {table} cannot be held against gold; name a run with {' or '.join(_TABLES)}")
    for key, tables in _ONLY.items():
        if getattr(question, key) and table not in tables:
            raise ConfigError(f"{key}: is for runs with {' or '.join(tables)}, and this one has {table}; leave it out")
    return measure(rows, settings, question, known, rounds or Rounds())


def _codes(rows: Rows, settings: Mapping[str, Any], question: Question, known: Any, rounds: Rounds) -> Evaluation:
    tasks = tasks_of(schema_of(rows))
    labels = question.labels or {task: task for task in tasks}
    unknown = [task for task in labels if task not in tasks]
    if unknown:
        raise ConfigError(f"labels: the run has no task '{unknown[0]}'; it has {', '.join(tasks)}")
    gold = _labelled(labels, settings, question)
    return codes.figures(rows, gold, list(labels), question.slices, known, rounds)


def _entities(rows: Rows, settings: Mapping[str, Any], question: Question, known: Any, rounds: Rounds) -> Evaluation:
    gold = read_marked(
        MarkedConfig(
            path=question.gold,
            id=question.id,
            like=settings.get("input.id"),
            source=question.source,
            id_scope=_scope(settings, question),
            group=question.group,
            slices=_theirs(settings, question),
            where=question.where,
        )
    )
    ours = None if known is None else [name for names in known.values() for name in names]
    return entities.figures(rows, gold, question.slices, question.group, ours, question.types, rounds)


def _findings(rows: Rows, settings: Mapping[str, Any], question: Question, known: Any, rounds: Rounds) -> Evaluation:
    labels = question.labels or {name: name for names in (known or {}).values() for name in names}
    labelled = Labelled(
        question.gold,
        id=question.id or settings.get("input.id"),
        source=question.source,
        id_scope=_scope(settings, question),
        group=question.group,
        findings=labels,
        names={"path": "gold", "findings": "labels"},
        **_dialect(question),
    )
    rows_of_gold = pa.concat_tables(Reader(labelled).tables())
    gold = rows_of_gold.filter(pc.field("failure").is_null())
    counts = {"rows": len(rows_of_gold), "used": len(gold)}
    return findings.figures(rows, gold.select(["record_id", "group", "findings"]), counts, rounds=rounds)


_TABLES = {CODES: _codes, ENTITIES: _entities, FINDINGS: _findings}


def _labelled(labels: Mapping[str, str], settings: Mapping[str, Any], question: Question) -> Gold:
    return read_gold(
        GoldConfig(
            path=question.gold,
            labels=labels,
            id=question.id or settings.get("input.id"),
            text=question.text,
            source=question.source,
            id_scope=_scope(settings, question),
            group=question.group,
            slices=_theirs(settings, question),
            where=question.where,
            spans=question.spans,
            **_dialect(question),
            max_bytes=settings.get("input.max_bytes", 4_194_304),
            names={"path": "gold"},
        )
    )


def _dialect(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in ("encoding", "delimiter", "quoting", "escape")}


def _scope(settings: Mapping[str, Any], question: Question) -> str:
    """Whether files' names stand in front of the gold's ids, which without a word is as in the run."""
    return question.id_scope or ("input" if question.source else settings.get("input.id_scope", "input"))


def _theirs(settings: Mapping[str, Any], question: Question) -> tuple[str, ...]:
    """The slices that are columns of gold, and not of the run."""
    kept = settings.get("input.keep") or ()
    kept = kept if isinstance(kept, list | tuple) else ()
    return tuple(name for name in question.slices if name not in kept)
