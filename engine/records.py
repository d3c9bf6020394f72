"""The contract: what comes out of the sources, what goes into the tables, and the words used for outcomes.

Two schemas flow through the engine. `RECORDS` is what a source gives for one shard: one row a record, broken ones included.
`codes_fields` and `entities_fields` are what lands in `codes/` and `entities/`. Between them travel tables of a system's own
columns, always keyed by `row`, the number of a record within its shard, which is unique where a `record_id` given by a user may
not be.
"""

import hashlib
from collections.abc import Iterable, Sequence

import pyarrow as pa

from engine.errors import ConfigError, ContractError

AUTO, REVIEW, NOT_APPLICABLE, FAILED = "auto", "review", "not_applicable", "failed"
DECISIONS = (AUTO, REVIEW, NOT_APPLICABLE, FAILED)

# The result tables.
CODES, ENTITIES, FINDINGS, EXPLANATIONS = "codes", "entities", "findings", "explanations"

FAILURE_KINDS = (
    "unreadable_file",
    "parse_error",
    "missing_text",
    "invalid_encoding",
    "duplicate_id",
    "too_large",
    "out_of_memory",
    "killed_worker",
    "model_error",
    "not_coded",
    "text_changed",
)

REASONS = (
    "low_confidence",
    "low_margin",
    "no_threshold",
    "out_of_distribution",
    "multiple_primaries_suspected",
    "metastatic_specimen",
    "section_missing",
    "text_truncated",
    "unreadable_text",
    "no_diagnosis_text",
    "no_reportable_tumour",
    "rare_class_below_support",
    "site_morphology_invalid",
    "unseen_code_pair",
)

FAILURE = pa.struct([pa.field("kind", pa.string()), pa.field("detail", pa.string())])
TOP = pa.list_(pa.struct([pa.field("code", pa.string()), pa.field("prob", pa.float32())]))
EVIDENCE = pa.list_(
    pa.struct(
        [
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
            pa.field("score", pa.float32()),
            pa.field("weight", pa.float32()),
        ]
    )
)
# A phrase of the reportability lists in a text: the list's wording, never the text's.
PHRASES = pa.list_(
    pa.struct(
        [
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
            pa.field("phrase", pa.string()),
            pa.field("kind", pa.string()),
            pa.field("assertion", pa.string()),
        ]
    )
)

ENTITY = pa.struct(
    [
        pa.field("type", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("start_score", pa.float32()),
        pa.field("end_score", pa.float32()),
        pa.field("match_score", pa.float32()),
        pa.field("zero_shot", pa.bool_()),
        pa.field("margin", pa.float32()),
        pa.field("confused_with", pa.string()),
        pa.field("context_share", pa.float32()),
        pa.field("hard_share", pa.float32()),
        pa.field("soft_share", pa.float32()),
        pa.field("evidence", EVIDENCE),
    ]
)

METRICS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("model_digest", pa.string(), nullable=False),
        pa.field("task", pa.string()),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("slice", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("ci_lo", pa.float64()),
        pa.field("ci_hi", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("params", pa.string(), nullable=False),
    ]
)


def wrong_schema(slices: Iterable[str]) -> pa.Schema:
    """What an evaluation writes of the codes that are wrong; a column `slice_<name>` for each part that was asked for."""
    return pa.schema(
        [
            pa.field("record_id", pa.string(), nullable=False),
            pa.field("task", pa.string(), nullable=False),
            pa.field("decision", pa.string(), nullable=False),
            pa.field("code", pa.string(), nullable=False),
            pa.field("gold", pa.string(), nullable=False),
            pa.field("prob", pa.float32()),
            pa.field("reasons", pa.list_(pa.string())),
            pa.field("task_decision", pa.string()),
            pa.field("task_reasons", pa.list_(pa.string())),
            *_wrong_fields(slices),
        ]
    )


def wrong_entities_schema(slices: Iterable[str]) -> pa.Schema:
    """What it writes of entities: one row an error, with the found mention, the marked one, or both."""
    return pa.schema(
        [
            pa.field("record_id", pa.string(), nullable=False),
            pa.field("error", pa.string(), nullable=False),
            pa.field("type", pa.string()),
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
            pa.field("score", pa.float32()),
            pa.field("margin", pa.float32()),
            pa.field("confused_with", pa.string()),
            pa.field("gold_type", pa.string()),
            pa.field("gold_start", pa.int32()),
            pa.field("gold_end", pa.int32()),
            pa.field("decision", pa.string(), nullable=False),
            pa.field("reasons", pa.list_(pa.string())),
            pa.field("dataset", pa.string()),
            *_wrong_fields(slices),
        ]
    )


def _wrong_fields(slices: Iterable[str]) -> list[pa.Field]:
    return [
        pa.field("group", pa.string()),
        *(pa.field(f"slice_{name}", pa.string()) for name in slices),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("model_digest", pa.string(), nullable=False),
    ]


def records_schema(keep: Iterable[pa.Field] = ()) -> pa.Schema:
    """What a source gives for one shard, one row a record in input order.

    `row` is unique within the shard. `record_id` is the input's, or made from source and position, and may repeat. `source` is
    the file relative to the input, `position` the record's number in that file, from 0. `text` is null exactly where `failure`
    is not. `keep` is a struct of the columns a user passes through.
    """
    return pa.schema(
        [
            pa.field("row", pa.int32(), nullable=False),
            pa.field("record_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("text", pa.large_string()),
            pa.field("failure", FAILURE),
            pa.field("keep", pa.struct(list(keep))),
        ]
    )


def task_fields(task: str) -> list[pa.Field]:
    """The columns of one task of the `codes` table; `docs/data-dictionary.md` says what each one means."""
    return [
        pa.field(f"{task}_code", pa.string()),
        pa.field(f"{task}_name", pa.string()),
        pa.field(f"{task}_prob", pa.float32()),
        pa.field(f"{task}_decision", pa.string()),
        pa.field(f"{task}_reasons", pa.list_(pa.string())),
        pa.field(f"{task}_top", TOP),
        pa.field(f"{task}_evidence", EVIDENCE),
        pa.field(f"{task}_residual", pa.float32()),
        pa.field(f"{task}_comprehensiveness", pa.float32()),
        pa.field(f"{task}_sufficiency", pa.float32()),
        pa.field(f"{task}_random_comprehensiveness", pa.float32()),
        pa.field(f"{task}_random_sufficiency", pa.float32()),
    ]


def codes_fields(tasks: Sequence[str]) -> list[pa.Field]:
    """The columns of `codes` that a coding system fills: decision, tasks and counts, in table order."""
    fields = [
        pa.field("decision", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("phrases", PHRASES),
    ]
    for task in tasks:
        fields += task_fields(task)
    return fields + _count_fields()


def entities_fields() -> list[pa.Field]:
    """The columns of `entities` that an extracting system fills, in table order."""
    return [
        pa.field("decision", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("entities", pa.list_(ENTITY)),
        pa.field("invalid_start_gt_end", pa.int32()),
        *_count_fields(),
    ]


def _count_fields() -> list[pa.Field]:
    return [
        pa.field("text_sha256", pa.binary(32)),
        pa.field("n_tokens", pa.int32()),
        pa.field("n_windows", pa.int32()),
        pa.field("truncated_chars", pa.int32()),
    ]


def table_schema(fields: Iterable[pa.Field], keep: Iterable[pa.Field] = ()) -> pa.Schema:
    """A result table: identity, the system's own columns, failure, run, then the columns the user passes through.

    Raises:
        ConfigError: a column to keep has the name of a result column.
    """
    schema = pa.schema(
        [
            pa.field("record_id", pa.string(), nullable=False),
            *fields,
            pa.field("failure", FAILURE),
            pa.field("source", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("source_id", pa.string()),
            pa.field("run_id", pa.string(), nullable=False),
            pa.field("model_digest", pa.string(), nullable=False),
        ]
    )
    for field in keep:
        if field.name in schema.names:
            raise ConfigError(f"input.keep: '{field.name}' is the name of a result column; rename it in the input")
        schema = schema.append(field)
    return schema


def system_columns(names: Sequence[str]) -> Sequence[str]:
    """Of the columns of a result table those that the system made. What the user kept stands behind `failure`, and may have the
    name of another system's column."""
    return names[: names.index("failure")] if "failure" in names else names


def tasks_of(schema: pa.Schema) -> list[str]:
    """The tasks of a `codes` table, in table order. Columns that the user passed through, which stand last, make none."""
    ends, ours = "_decision", system_columns(schema.names)
    return [name[: -len(ends)] for name in ours if name.endswith(ends) and f"{name[: -len(ends)]}_code" in ours]


def check(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table, if it has exactly this schema and no null where none may be; else ContractError (names only, no values)."""
    if not table.schema.equals(schema):
        theirs, ours = set(map(str, table.schema)), set(map(str, schema))
        raise ContractError(f"table schema differs: has {sorted(theirs - ours)}, wants {sorted(ours - theirs)}")
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ContractError(f"column {field.name} has nulls")
    return table


def text_digest(text: str) -> bytes:
    """SHA-256 of the UTF-8 bytes: a span belongs to the text with this digest."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def seed_of(record_id: str, *parts: object) -> int:
    """A 63-bit seed from the record's id and the purpose, the same wherever and whenever the record is met."""
    key = "\x1f".join([record_id, *map(str, parts)]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
