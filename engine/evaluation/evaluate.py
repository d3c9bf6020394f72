"""From a finished run and what is right to figures, by the table that the run wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import ConfigError
from engine.evaluation import codes, entities, findings
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.gold import GoldConfig, read_gold
from engine.evaluation.marked import read_marked
from engine.evaluation.metrics import Rounds
from engine.evaluation.rows import Rows, schema_of
from engine.records import CODES, ENTITIES, FINDINGS, tasks_of

# What may be asked of one table only.
_ONLY = {"labels": (CODES, FINDINGS), "spans": (CODES,), "text": (CODES,), "types": (ENTITIES,)}


def evaluate(
    table: str,
    rows: Rows,
    settings: Mapping[str, Any],
    gold: GoldConfig,
    known: Mapping[str, Sequence[str]] | None = None,
    rounds: Rounds | None = None,
) -> Evaluation:
    """Measures a run; nothing is written.

    Args:
        table: the name of the result table. rows: its files, or the table itself. settings: the run's, as its fingerprint has
        them. gold: its `slices` may be columns of the run too, its `labels` default to the names of what the run answers, its id
        and `id_scope` to the run's. known: what the run's model can answer, as `System.known` tells; None where it is not at
        hand.
    Raises:
        ConfigError: the settings of gold do not fit the table, or gold does not fit the run.
    """
    measure = _TABLES.get(table)
    if measure is None:
        raise ConfigError(f"run: a table of {table} cannot be held against gold; name a run with {' or '.join(_TABLES)}")
    for key, tables in _ONLY.items():
        if getattr(gold, key) and table not in tables:
            raise ConfigError(f"{key}: is for runs with {' or '.join(tables)}, and this one has {table}; leave it out")
    kept, slices = settings.get("input.keep") or (), gold.slices
    gold = replace(
        gold,
        id_scope=gold.id_scope or ("input" if gold.source else settings.get("input.id_scope", "input")),
        # A column that the run kept is the run's.
        slices=[name for name in slices if not isinstance(kept, list | tuple) or name not in kept],
        max_bytes=settings.get("input.max_bytes", gold.max_bytes),
    )
    return measure(rows, gold, settings.get("input.id"), slices, known, rounds or Rounds())


def _codes(rows: Rows, gold: GoldConfig, id: str | None, slices: Sequence[str], known: Any, rounds: Rounds) -> Evaluation:
    tasks = tasks_of(schema_of(rows))
    labels = gold.labels or {task: task for task in tasks}
    unknown = [task for task in labels if task not in tasks]
    if unknown:
        raise ConfigError(f"labels: the run has no task '{unknown[0]}'; it has {', '.join(tasks)}")
    labelled = read_gold(replace(gold, labels=labels, id=gold.id or id))
    return codes.figures(rows, labelled, list(labels), slices, known, rounds)


def _entities(rows: Rows, gold: GoldConfig, id: str | None, slices: Sequence[str], known: Any, rounds: Rounds) -> Evaluation:
    ours = None if known is None else [name for names in known.values() for name in names]
    return entities.figures(rows, read_marked(gold, id), slices, gold.group, ours, gold.types, rounds)


def _findings(rows: Rows, gold: GoldConfig, id: str | None, slices: Sequence[str], known: Any, rounds: Rounds) -> Evaluation:
    labels = gold.labels or {name: name for names in (known or {}).values() for name in names}
    if not labels:
        raise ConfigError("labels: name the column of each finding, as the model of the run, which knows them, is not at hand")
    names = {**gold.names, "findings": "labels"}
    labelled = read_gold(replace(gold, labels={}, findings=labels, id=gold.id or id, names=names))
    return findings.figures(rows, labelled.table, labelled.counts, slices, rounds=rounds)


_TABLES = {CODES: _codes, ENTITIES: _entities, FINDINGS: _findings}
