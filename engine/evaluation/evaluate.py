"""Figures of a finished run against gold, whichever table it wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import ConfigError
from engine.evaluation import codes, entities, findings
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.gold import GoldConfig, read_gold, read_marked
from engine.evaluation.metrics import Rounds
from engine.evaluation.rows import Rows, schema_of
from engine.records import CODES, ENTITIES, FINDINGS, tasks_of

# Settings that only some tables take.
_ONLY = {"labels": (CODES, FINDINGS), "findings": (FINDINGS,), "spans": (CODES,), "text": (CODES,), "types": (ENTITIES,)}


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
        table: the name of the result table. rows: its files, or the table itself. settings: the run's, from its fingerprint.
        gold: its `slices` may also be columns of the run. `labels` default to the names of what the run answers, `id` and
        `id_scope` to the run's. known: what the run's model can answer, see `System.known`; None if it is not at hand.
    Raises:
        ConfigError: the settings of gold do not fit the table, or gold does not fit the run.
    """
    measure = _TABLES.get(table)
    if measure is None:
        raise ConfigError(f"run: a table of {table} cannot be measured against gold; name a run with {' or '.join(_TABLES)}")
    for key, tables in _ONLY.items():
        if getattr(gold, key) and table not in tables:
            raise ConfigError(f"{key}: is for runs with {' or '.join(tables)}, but this one has {table}; leave it out")
    keep, slices = settings.get("input.keep") or (), gold.slices
    gold = replace(
        gold,
        id_scope=gold.id_scope or ("input" if gold.source else settings.get("input.id_scope", "input")),
        # A column that the run keeps is read from the run.
        slices=[name for name in slices if not isinstance(keep, list | tuple) or name not in keep],
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
    types = None if known is None else [name for names in known.values() for name in names]
    return entities.figures(rows, read_marked(gold, id), slices, gold.group, types, gold.types, rounds)


def _findings(rows: Rows, gold: GoldConfig, id: str | None, slices: Sequence[str], known: Any, rounds: Rounds) -> Evaluation:
    labels = gold.findings or gold.labels or {name: name for names in (known or {}).values() for name in names}
    if not labels:
        raise ConfigError("labels: name the column of each finding, since the run's model, which knows them, is not at hand")
    names = {**gold.names, "findings": "labels"}
    labelled = read_gold(replace(gold, labels={}, findings=labels, id=gold.id or id, names=names))
    return findings.figures(rows, labelled.table, labelled.counts, slices, rounds=rounds)


_TABLES = {CODES: _codes, ENTITIES: _entities, FINDINGS: _findings}
