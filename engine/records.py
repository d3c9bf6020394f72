"""The contract: what the sources produce, what the result tables hold, and the words for outcomes.

`records_schema` is what a source reads for one shard: one row a record, broken ones included. `codes_fields`,
`entities_fields` and `findings_fields` are the columns of `codes/`, `entities/` and `findings/`. Tables between them have columns
of the system and the key `row`, the record's number within its shard: it is unique, which a user's `record_id` may not be.
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
    "missing_image",
    "not_an_image",
    "too_many_pixels",
    "unsupported_pixels",
    "bad_box",
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
    "other_language",
    "near_threshold",
    "no_promise",
    "inconsistent_evidence",
    "image_unreadable",
)

_SCORES = ("score", "start_score", "end_score", "match_score")

FAILURE = pa.struct({"kind": pa.string(), "detail": pa.string()})
TOP = pa.list_(pa.struct({"code": pa.string(), "prob": pa.float32()}))
EVIDENCE = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32(), "score": pa.float32(), "weight": pa.float32()}))
# A phrase of the reportability lists in a text: in the list's wording, never the text's.
PHRASES = pa.list_(
    pa.struct({"start": pa.int32(), "end": pa.int32(), "phrase": pa.string(), "kind": pa.string(), "assertion": pa.string()})
)
ENTITY = pa.struct(
    {
        "type": pa.string(),
        "start": pa.int32(),
        "end": pa.int32(),
        "assertion": pa.string(),
        "cue_start": pa.int32(),
        "cue_end": pa.int32(),
        **dict.fromkeys(_SCORES, pa.float32()),
        "zero_shot": pa.bool_(),
        "margin": pa.float32(),
        "confused_with": pa.string(),
        **dict.fromkeys(("context_share", "hard_share", "soft_share"), pa.float32()),
        **dict.fromkeys(("stability", "boundary_mass", "boundary_lift", "shift_margin"), pa.float32()),
        "evidence": EVIDENCE,
    }
)
# The images of a study as they were decoded: name of the file, frame within it from 0, size in pixels, SHA-256 of the file.
IMAGE = pa.struct(
    {
        "source": pa.string(),
        "frame": pa.int32(),
        "width": pa.int32(),
        "height": pa.int32(),
        "sha256": pa.binary(32),
    }
)
# A finding's answer. `lower` and `upper` bound the probabilities that are not clear. `threshold`, `pred` and `clear` are null
# where the model has no threshold for it: then it is not answered. A model whose answers are sums over named
# concepts has logit = intercept + the scores of the finding's concepts + `rest`, the sum of those not listed.
LABEL = pa.struct(
    {
        "name": pa.string(),
        "prob": pa.float32(),
        "logit": pa.float32(),
        "threshold": pa.float32(),
        "lower": pa.float32(),
        "upper": pa.float32(),
        "pred": pa.int8(),
        "clear": pa.bool_(),
        "intercept": pa.float32(),
        "rest": pa.float32(),
    }
)
# A named concept's share of a finding's logit: `score` is signed, `weight` its part of the absolute scores of all concepts,
# `cosine` the similarity of image and concept.
CONCEPT = pa.struct(
    {
        "label": pa.string(),
        "concept": pa.int32(),
        "text": pa.string(),
        **dict.fromkeys(("score", "weight", "cosine"), pa.float32()),
    }
)
# A patch of an image that a finding rests on, in pixels of the original image; `image` is its place in `images`, from 0.
REGION = pa.struct(
    {
        "label": pa.string(),
        "image": pa.int32(),
        **dict.fromkeys(("x0", "y0", "x1", "y1", "score", "weight"), pa.float32()),
    }
)
# The payload of an image record: `data` has the file's bytes where a table holds them; otherwise they are at `path`, and must be
# those of the planned `size` and `version`. `source` is the image's name in the tables.
IMAGE_FILE = pa.struct(
    {
        "source": pa.string(),
        "path": pa.string(),
        "size": pa.int64(),
        "version": pa.string(),
        "data": pa.large_binary(),
    }
)


def _required(name: str, kind: pa.DataType | None = None) -> pa.Field:
    return pa.field(name, kind or pa.string(), nullable=False)


_REASONS_FIELD = pa.field("reasons", pa.list_(pa.string()))
_RUN = (_required("run_id"), _required("model_digest"))

METRICS = pa.schema(
    [
        *_RUN,
        ("task", pa.string()),
        _required("metric"),
        _required("slice"),
        *((name, pa.float64()) for name in ("value", "ci_lo", "ci_hi")),
        _required("n", pa.int64()),
        _required("params"),
    ]
)


def wrong_schema(slices: Iterable[str]) -> pa.Schema:
    """The wrong codes of an evaluation; a column `slice_<name>` for each requested slice."""
    return pa.schema(
        [
            *map(_required, ("record_id", "task", "decision", "code", "gold")),
            ("prob", pa.float32()),
            _REASONS_FIELD,
            ("task_decision", pa.string()),
            ("task_reasons", pa.list_(pa.string())),
            *_wrong_fields(slices),
        ]
    )


def wrong_entities_schema(slices: Iterable[str]) -> pa.Schema:
    """The wrong entities of an evaluation: one row an error, with the predicted mention, the gold mention, or both."""
    return pa.schema(
        [
            *map(_required, ("record_id", "error")),
            ("type", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("score", pa.float32()),
            ("margin", pa.float32()),
            ("confused_with", pa.string()),
            ("assertion", pa.string()),
            ("gold_type", pa.string()),
            ("gold_start", pa.int32()),
            ("gold_end", pa.int32()),
            _required("decision"),
            _REASONS_FIELD,
            ("dataset", pa.string()),
            *_wrong_fields(slices),
        ]
    )


def _wrong_fields(slices: Iterable[str]) -> list[pa.Field]:
    names = ("group", *(f"slice_{name}" for name in slices))
    return [*(pa.field(name, pa.string()) for name in names), *_RUN]


TEXT, IMAGES = "text", "images"
"""What a record holds, and the column with it."""


def records_schema(keep: Iterable[pa.Field] = (), payload: str = TEXT) -> pa.Schema:
    """What a source reads for one shard, one row a record in input order.

    `row` is unique within the shard. `record_id` is the input's, or made from source and position, and may repeat. `source` is
    the file relative to the input, `position` the record's number in that file, from 0. `text`, or for image studies `images`,
    is null exactly where `failure` is not. `keep` is a struct of the columns that the user passes through.
    """
    return pa.schema(
        [
            _required("row", pa.int32()),
            *map(_required, ("record_id", "source")),
            _required("position", pa.int64()),
            (TEXT, pa.large_string()) if payload == TEXT else (IMAGES, pa.list_(IMAGE_FILE)),
            ("failure", FAILURE),
            ("keep", pa.struct(list(keep))),
        ]
    )


def task_fields(task: str) -> list[pa.Field]:
    """The columns of one task of the `codes` table; `docs/data-dictionary.md` says what each one means."""
    measures = ("comprehensiveness", "sufficiency", "random_comprehensiveness", "random_sufficiency")
    kinds = {
        "code": pa.string(),
        "name": pa.string(),
        "prob": pa.float32(),
        "decision": pa.string(),
        "reasons": pa.list_(pa.string()),
        "top": TOP,
        "evidence": EVIDENCE,
        **dict.fromkeys(("residual", *measures), pa.float32()),
    }
    return [pa.field(f"{task}_{name}", kind) for name, kind in kinds.items()]


def codes_fields(tasks: Sequence[str]) -> list[pa.Field]:
    """The columns of `codes` that a coding system fills: decision, tasks and counts, in table order."""
    columns = [field for task in tasks for field in task_fields(task)]
    return [_required("decision"), _REASONS_FIELD, pa.field("phrases", PHRASES), *columns, *_count_fields()]


def entities_fields() -> list[pa.Field]:
    """The columns of `entities` that an extracting system fills, in table order."""
    return [
        _required("decision"),
        _REASONS_FIELD,
        pa.field("entities", pa.list_(ENTITY)),
        pa.field("invalid_start_gt_end", pa.int32()),
        pa.field("repaired_tags", pa.int32()),
        *_count_fields(),
    ]


def findings_fields() -> list[pa.Field]:
    """The columns of `findings` that a system of image studies fills, in table order."""
    return [
        _required("decision"),
        _REASONS_FIELD,
        pa.field("images", pa.list_(IMAGE)),
        pa.field("labels", pa.list_(LABEL)),
        pa.field("concepts", pa.list_(CONCEPT)),
        pa.field("n_concepts", pa.int32()),
        pa.field("evidence", pa.list_(REGION)),
        pa.field("embedding", pa.list_(pa.float32())),
    ]


def _count_fields() -> list[pa.Field]:
    counts = ("n_tokens", "n_windows", "truncated_chars")
    return [pa.field("text_sha256", pa.binary(32)), *(pa.field(name, pa.int32()) for name in counts)]


def table_schema(fields: Iterable[pa.Field], keep: Iterable[pa.Field] = ()) -> pa.Schema:
    """A result table: identity, the system's own columns, failure, run, then the columns the user passes through.

    Raises:
        ConfigError: a column to keep has the name of a result column.
    """
    schema = pa.schema(
        [
            _required("record_id"),
            *fields,
            ("failure", FAILURE),
            _required("source"),
            _required("position", pa.int64()),
            ("source_id", pa.string()),
            *_RUN,
        ]
    )
    for field in keep:
        if field.name in schema.names:
            raise ConfigError(f"input.keep: '{field.name}' is the name of a result column; rename it in the input")
        schema = schema.append(field)
    return schema


def system_columns(names: Sequence[str]) -> Sequence[str]:
    """The columns of a result table that the system filled. Columns of the user stand behind `failure`, and may be named like
    another system's."""
    return names[: names.index("failure")] if "failure" in names else names


def tasks_of(schema: pa.Schema) -> list[str]:
    """The tasks of a `codes` table, in table order; columns that the user passed through do not count."""
    columns = system_columns(schema.names)
    tasks = [name.removesuffix("_decision") for name in columns if name.endswith("_decision")]
    return [task for task in tasks if f"{task}_code" in columns]


def check(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table, if it has exactly this schema and no forbidden null; else ContractError (with names, without values)."""
    if not table.schema.equals(schema):
        has, wants = set(map(str, table.schema)), set(map(str, schema))
        raise ContractError(f"table schema differs: has {sorted(has - wants)}, wants {sorted(wants - has)}")
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ContractError(f"column {field.name} has nulls")
    return table


def text_digest(text: str) -> bytes:
    """SHA-256 of the UTF-8 bytes; spans belong to the text with this digest."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def seed_of(record_id: str, *parts: object) -> int:
    """A 63-bit seed from the record's id and the purpose, the same everywhere."""
    key = "\x1f".join([record_id, *map(str, parts)]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def in_share(record_id: str, share: float, *purpose: object) -> bool:
    """Whether a record is in a share of all records; a larger share contains a smaller one."""
    return seed_of(record_id, *purpose) < share * 2**63
