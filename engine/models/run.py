"""Records to rows in one process. The pipeline does this for each shard; `rows` does it for a few texts, without Ray.

Three steps pass tables to each other, which are joined by `row` and never by position:

    prepare  ->  meta: all records without their text or images;  prepared: the readable records as the system prepared them
    answer   ->  answers: `row`, `failure` and the system's own columns
    finish   ->  the rows of the result table (engine/models/rows.py)
"""

import io
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
from engine.records import CODES, FAILURE, IMAGES, records_schema
from engine.sources.base import InputConfig
from engine.sources.images import image_of
from engine.sources.rows import Rows

PROBE_TEXT = "Specimen received in formalin."
PAIR = pa.field("pair", pa.string())
_systems: dict[str, System] = {}


def rows(
    texts: Mapping[str, Any],
    *,
    system: str | None = None,
    model: str = "shipped",
    options: Mapping[str, Any] | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> pa.Table:
    """The rows that a job of the system would write for these records, in their order. `source` and `run_id` are empty.

    A record that cannot be processed, such as an empty text, becomes a failed row. A process loads the model once for each
    combination of the other arguments.

    Args:
        texts: id -> text. For a system that reads images: id -> an image, as its path or its bytes, or a list of those.
        system: the package of the system; by default the system of the checkpoint, or for `shipped` the engine's own system for
            the table `codes`.
        model: a checkpoint folder, or `shipped`.
        options: settings that affect the values in a row, by their names in the system's options class; the job's defaults apply
            to the rest.
        runtime: `device`, `threads` and `batch_tokens`.
    Raises:
        ConfigError: the system has no such option, or the checkpoint is missing or damaged.
    """
    if not isinstance(texts, Mapping):
        raise ConfigError(
            "texts: give ids with their texts, or with their images, as in {'a': 'Breast: invasive ductal carcinoma.'}"
        )
    system = system or (shipped_system(CODES) if model in ("", "shipped") else checkpoint.system_of(model))
    loaded, keep = system_of(ModelSpec(system, model, dict(options or {}), dict(runtime or {}))), pa.schema([])
    records = (image_records_of if loaded.reads == IMAGES else records_of)(texts, texts.values())
    meta, prepared = prepare(loaded, records)
    return finish(loaded, keep, "", meta, answer(loaded, prepared, keep))


def shipped_system(table: str) -> str:
    """The package of the system that fills a table and contains a checkpoint; among several, the one with `DEFAULT = True`.

    Raises:
        ConfigError: there is no such system, or more than one.
    """
    names = [name for name, fills in systems().items() if fills == table and checkpoint.shipped(name).is_dir()]
    default = names if len(names) == 1 else [name for name in names if getattr(import_module(name), "DEFAULT", False)]
    if len(default) != 1:
        raise ConfigError(f"system: name one; those that fill the table {table} are: {', '.join(names) or 'none'}")
    return default[0]


def records_of(ids: Iterable[str], texts: Iterable[str | None], pairs: Iterable[str | None] | None = None) -> pa.Table:
    """Texts with their ids as the records of a source, numbered in order; a faulty text becomes a record with a failure.

    Args:
        pairs: second texts, for a model that reads pairs of texts; they become the kept column `pair`.
    """
    collected = Rows(InputConfig("texts", id="id"), () if pairs is None else (PAIR,))
    columns = [ids, texts] if pairs is None else [ids, texts, pairs]
    for position, (record_id, text, *pair) in enumerate(zip(*columns, strict=True)):
        collected.add("", position, record_id, text, tuple(pair))
    return collected.table()


def image_records_of(ids: Iterable[str], studies: Iterable[Any]) -> pa.Table:
    """Image studies with their ids as the records of a source, numbered in order. A study is an image, by path or as bytes, or
    a list of images; one that lacks an image becomes a record with a failure."""
    collected = Rows(InputConfig("images", id="id", reads=IMAGES), ())
    for position, (record_id, study) in enumerate(zip(ids, studies, strict=True)):
        files = study if isinstance(study, list | tuple) else [study]
        collected.add("", position, record_id, [image_of(file, f"{record_id}/{number}") for number, file in enumerate(files)])
    return collected.table()


def system_of(spec: ModelSpec) -> System:
    """The system of a spec, built once per process."""
    key = json.dumps([spec.system, spec.path, dict(spec.options), dict(spec.runtime)], sort_keys=True, default=list)
    if key not in _systems:
        _systems[key] = load(spec)
    return _systems[key]


def prepare(system: System, records: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Records to (meta, prepared). `meta` has all records, without text or images, and the failures of those that cannot be
    prepared; `prepared` has the rest."""
    meta = records.drop_columns([system.reads])
    readable = records.filter(records["failure"].is_null()).drop_columns(["failure"])
    tables, failed = _guarded(system, system.prepare, readable, "prepare", _keep_schema(records))
    prepared = pa.concat_tables(tables, promote_options="default") if tables else readable.slice(0, 0).select(["row"])
    if "failure" in prepared.column_names:
        broken = prepared.filter(prepared["failure"].is_valid())
        failed += list(zip(broken["row"].to_pylist(), broken["failure"].to_pylist(), strict=True))
        prepared = prepared.filter(prepared["failure"].is_null())
    return _with_failures(meta, dict(failed)), prepared


def answer(system: System, prepared: pa.Table, keep: pa.Schema) -> pa.Table:
    """One answer for each prepared record, with the columns of `answers_schema`; an answer with a NaN becomes a failure.

    `keep` has the fields of the records' column `keep`.
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
    """Processes one artificial record with these kept columns, which loads the weights; raises if the system itself is broken."""
    values = {field.name: PROBE_TEXT if pa.types.is_string(field.type) else None for field in keep}
    payload = _probe_images() if system.reads == IMAGES else PROBE_TEXT
    record = {"row": 0, "record_id": "probe", "source": "probe", "position": 0, system.reads: payload, "keep": values}
    system.run(system.prepare(pa.Table.from_pylist([record], schema=records_schema(keep, system.reads))))


def _probe_images() -> list[dict[str, Any]]:
    """One grey image with a brighter square, without a file."""
    from PIL import Image

    image, data = Image.new("L", (64, 64), 96), io.BytesIO()
    image.paste(160, (16, 16, 48, 48))
    image.save(data, "PNG")
    return [_image_file("probe.png", data.getvalue())]


def _image_file(source: str, data: bytes) -> dict[str, Any]:
    """A value of `engine.records.IMAGE_FILE`."""
    return {"source": source, "path": None, "size": len(data), "version": None, "data": data}


def _keep_schema(records: pa.Table) -> pa.Schema:
    return pa.schema(list(records.schema.field("keep").type))


def _guarded(
    system: System, call: Callable, table: pa.Table, name: str, keep: pa.Schema
) -> tuple[list[pa.Table], list[tuple[int, dict]]]:
    """Calls a system on a table. If that raises, calls it on the halves, down to a single row, which then fails alone.

    Returns the results, and the rows that failed with their failures.
    """
    results: list[pa.Table] = []
    failed: list[tuple[int, dict]] = []
    probed = False
    pending = [table] if table.num_rows else []
    while pending:
        part = pending.pop()
        try:
            result = call(part)
        except (EngineError, KeyboardInterrupt):
            raise
        except Exception as error:
            # The frames of the traceback hold tensors of the model, whose memory the next attempt needs.
            error.__traceback__ = None
            if not probed:
                probed = True
                _blame(system, error, name, keep)
            if part.num_rows == 1:
                failed.append((part["row"][0].as_py(), _failure(error)))
            else:
                half = part.num_rows // 2
                pending += [part.slice(half), part.slice(0, half)]
            continue
        if sorted(keyed(result, name)) != sorted(part["row"].to_pylist()):
            raise ContractError(f"{name} gave rows for other records than it was given")
        results.append(result)
    return results, failed


def _blame(system: System, error: Exception, name: str, keep: pa.Schema) -> None:
    """Raises if the system fails on a harmless record too: then the system is to blame and not the record."""
    try:
        probe(system, keep)
    except EngineError:
        raise
    except Exception as probe_error:
        kind, place = type(probe_error).__name__, where(probe_error)
        if _failure(probe_error)["kind"] == "out_of_memory":
            raise RetryableError(
                f"there is not enough memory for even one short record ({kind}); free memory, and try again"
            ) from None
        if isinstance(probe_error, ImportError):
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
    added = pa.array([failures.get(row) for row in rows.to_pylist()], FAILURE)
    merged = pc.if_else(pc.is_in(rows, pa.array(list(failures), pa.int32())), pa.chunked_array([added]), table["failure"])
    return table.set_column(table.column_names.index("failure"), table.schema.field("failure"), merged)
