"""The plain loop around a system: records to rows without Ray. `rows` does with a few texts what the pipeline does with a shard.

Three steps pass tables, which are joined by `row` and never by position:

    prepare  ->  meta: the records without their text;  prepared: the readable ones as the system prepared them
    answer   ->  answers: `row`, `failure` and the system's own columns
    finish   ->  the rows of the result table (engine/models/rows.py)
"""

import json
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError, ContractError, EngineError, RetryableError, RowError, where
from engine.models import checkpoint
from engine.models.base import ModelSpec, System, load, systems
from engine.models.rows import answers_schema, finish, keyed, nan_rows
from engine.records import CODES, FAILURE, records_schema
from engine.sources.base import InputConfig, Rows

PROBE_TEXT = "Specimen received in formalin."
PAIR = pa.field("pair", pa.string())
_systems: dict[str, System] = {}


def rows(
    texts: Mapping[str, str | None],
    *,
    system: str | None = None,
    model: str = "shipped",
    options: Mapping[str, Any] | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> pa.Table:
    """The rows that the job of a system writes for these texts, in their order. `source` and `run_id` are empty.

    A text that cannot be processed, such as an empty one, becomes a failed row. A process loads a model once for each set of the
    other arguments.

    Args:
        texts: id -> text.
        system: the package of the system; by default that of the checkpoint, or for `shipped` the one that comes with the engine
            for the table `codes`.
        model: a checkpoint folder.
        options: settings that change a value in a row, by the names of the system's options class; the others are the job's
            defaults.
        runtime: `device`, `threads` and `batch_tokens`.
    Raises:
        ConfigError: the system has no such option, or the checkpoint is missing or damaged.
    """
    if not isinstance(texts, Mapping):
        raise ConfigError("texts: give ids with their texts, as in {'a': 'Breast: invasive ductal carcinoma.'}")
    system = system or (shipped_system(CODES) if model in ("", "shipped") else checkpoint.system_of(model))
    loaded, keep = system_of(ModelSpec(system, model, dict(options or {}), dict(runtime or {}))), pa.schema([])
    meta, prepared = prepare(loaded, records_of(texts, texts.values()))
    return finish(loaded, keep, "", meta, answer(loaded, prepared, keep))


def shipped_system(table: str) -> str:
    """The package of the system that fills a table and contains a checkpoint; of several the one with `DEFAULT = True`.

    Raises:
        ConfigError: there is none, or the choice is not unique.
    """
    names = [name for name, fills in systems().items() if fills == table and checkpoint.shipped(name).is_dir()]
    default = names if len(names) == 1 else [name for name in names if getattr(import_module(name), "DEFAULT", False)]
    if len(default) != 1:
        raise ConfigError(f"system: name one; those that fill the table {table} are: {', '.join(names) or 'none'}")
    return default[0]


def records_of(ids: Iterable[str], texts: Iterable[str | None], pairs: Iterable[str | None] | None = None) -> pa.Table:
    """Texts with their ids as records of a source, numbered in their order; a faulty one has a failure.

    Args:
        pairs: second texts, for a model that reads pairs; they become the column `pair`.
    """
    collected = Rows(InputConfig("texts", id="id"), () if pairs is None else (PAIR,))
    columns = [ids, texts] if pairs is None else [ids, texts, pairs]
    for position, (record_id, text, *pair) in enumerate(zip(*columns, strict=True)):
        collected.add("", position, record_id, text, tuple(pair))
    return collected.table()


def system_of(spec: ModelSpec) -> System:
    """The system of a spec, built once per process."""
    key = json.dumps([spec.system, spec.path, dict(spec.options), dict(spec.runtime)], sort_keys=True, default=list)
    if key not in _systems:
        _systems[key] = load(spec)
    return _systems[key]


def prepare(system: System, records: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Records to (meta, prepared). `meta` has every record, without text, and the failures of those that cannot be prepared;
    `prepared` has the others."""
    meta = records.drop_columns(["text"])
    readable = records.filter(records["failure"].is_null()).drop_columns(["failure"])
    tables, failed = _guarded(system, system.prepare, readable, "prepare", _keep_schema(records))
    prepared = pa.concat_tables(tables, promote_options="default") if tables else readable.slice(0, 0).select(["row"])
    if "failure" in prepared.column_names:
        broken = prepared.filter(prepared["failure"].is_valid())
        failed += list(zip(broken["row"].to_pylist(), broken["failure"].to_pylist(), strict=True))
        prepared = prepared.filter(prepared["failure"].is_null())
    return _with_failures(meta, dict(failed)), prepared


def answer(system: System, prepared: pa.Table, keep: pa.Schema) -> pa.Table:
    """Prepared records to answers, one for each, with the columns of `answers_schema`; a row with a NaN has failed.

    `keep` are the fields of the records' column `keep`.
    """
    schema = answers_schema(system.fields())
    tables, failed = _guarded(system, system.run, prepared, "run", keep) if prepared.num_rows else ([], [])
    parts = []
    for table in tables:
        missing = set(schema.names) - set(table.column_names)
        if missing:
            raise ContractError(f"run gave no column {sorted(missing)}")
        parts.append(table.select(schema.names).cast(schema))
    blank = {name: pa.nulls(len(failed), schema.field(name).type) for name in schema.names}
    blank["row"] = pa.array([row for row, _ in failed], pa.int32())
    blank["failure"] = pa.array([failure for _, failure in failed], FAILURE)
    answers = pa.concat_tables([*parts, pa.table(blank, schema=schema)])
    broken = {row: {"kind": "model_error", "detail": f"NaN in {name}"} for row, name in nan_rows(answers).items()}
    return _with_failures(answers, broken)


def probe(system: System, keep: pa.Schema) -> None:
    """Processes one artificial record with these kept columns: loads the weights, and raises if the system itself is broken."""
    values = {field.name: PROBE_TEXT if pa.types.is_string(field.type) else None for field in keep}
    record = {"row": 0, "record_id": "probe", "source": "probe", "position": 0, "text": PROBE_TEXT, "keep": values}
    system.run(system.prepare(pa.Table.from_pylist([record], schema=records_schema(keep))))


def _keep_schema(records: pa.Table) -> pa.Schema:
    return pa.schema(list(records.schema.field("keep").type))


def _guarded(
    system: System, call: Callable, table: pa.Table, name: str, keep: pa.Schema
) -> tuple[list[pa.Table], list[tuple[int, dict]]]:
    """Calls a system on a table; if it raises, on the halves, down to a single row, which then fails alone."""
    done: list[pa.Table] = []
    failed: list[tuple[int, dict]] = []
    probed = False
    waiting = [table] if table.num_rows else []
    while waiting:
        part = waiting.pop()
        try:
            result = call(part)
        except (EngineError, KeyboardInterrupt):
            raise
        except Exception as error:
            # Its frames hold tensors of the model, and the next attempt needs their memory.
            error.__traceback__ = None
            if not probed:
                probed = True
                _blame(system, error, name, keep)
            if part.num_rows == 1:
                failed.append((part["row"][0].as_py(), _failure(error)))
            else:
                half = part.num_rows // 2
                waiting += [part.slice(half), part.slice(0, half)]
            continue
        if sorted(keyed(result, name)) != sorted(part["row"].to_pylist()):
            raise ContractError(f"{name} gave rows for other records than it was given")
        done.append(result)
    return done, failed


def _blame(system: System, error: Exception, name: str, keep: pa.Schema) -> None:
    """Raises if the system fails on a harmless record too, so that no record is to blame."""
    try:
        probe(system, keep)
    except EngineError:
        raise
    except Exception as again:
        kind, place = type(again).__name__, where(again)
        if _failure(again)["kind"] == "out_of_memory":
            raise RetryableError(f"there is no memory for even one short record ({kind}); free some, and try again") from None
        if isinstance(again, ImportError):
            raise ConfigError(f"the model cannot be loaded: {kind} at {place}") from None
        raise ContractError(f"the model fails on any record: {name} raised {type(error).__name__}, {kind} at {place}") from None


def _failure(error: Exception) -> dict[str, str]:
    if isinstance(error, RowError):
        return {"kind": error.kind, "detail": error.detail}
    name = type(error).__name__
    # torch is not imported here, so its error is recognised by name.
    memory = isinstance(error, MemoryError) or name in ("OutOfMemoryError", "ArrowMemoryError")
    return {"kind": "out_of_memory" if memory else "model_error", "detail": name}


def _with_failures(table: pa.Table, failures: dict[int, dict]) -> pa.Table:
    if not failures:
        return table
    rows = table["row"]
    new = pa.array([failures.get(row) for row in rows.to_pylist()], FAILURE)
    merged = pc.if_else(pc.is_in(rows, pa.array(list(failures), pa.int32())), pa.chunked_array([new]), table["failure"])
    return table.set_column(table.column_names.index("failure"), table.schema.field("failure"), merged)
