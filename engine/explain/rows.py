"""Explanations as values of the `explanations` table: one row per record and method, its targets as a list of structs."""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa

from engine.explain.explanation import OK, Explanation, evidence_rows, top_spans
from engine.text.units import UNIT_KINDS

FAITHFULNESS = ("comp_aopc", "suff_aopc", "random_comp", "random_suff", "norm_comp", "norm_suff")
STABILITY = ("stability", "jaccard", "lipschitz", "flip_rate")
BOUNDARY = ("boundary_mass", "boundary_lift", "boundary_faith")
AGREEMENT = ("cov_topk", "cov_mass", "cov_lift", "auprc", "iou_f1")
CHECKS = (*FAITHFULNESS, *STABILITY, *BOUNDARY, "shift_margin", *AGREEMENT)


def _fields(kind: pa.DataType, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names]


UNIT = pa.struct(
    [
        pa.field("id", pa.int32()),
        pa.field("kind", pa.int8()),
        *_fields(pa.int32(), "start", "end"),
        pa.field("image", pa.int32()),
        *_fields(pa.float32(), "x0", "y0", "x1", "y1"),
        pa.field("text", pa.string()),
        *_fields(pa.float32(), "score", "weight", "stability"),
        *_fields(pa.bool_(), "gold", "selected"),
    ]
)
SPAN = pa.struct([*_fields(pa.int32(), "start", "end"), pa.field("score", pa.float32())])
FUSION = pa.struct([pa.field("method", pa.string()), *_fields(pa.float32(), "weight", "stability", "boundary", "faithfulness")])
TARGET = pa.struct(
    [
        *_fields(pa.string(), "explanation_id", "status", "target_kind", "target_name"),
        *_fields(pa.int32(), "target_start", "target_end"),
        pa.field("target_source", pa.string()),
        pa.field("target_score", pa.float32()),
        pa.field("target_score_kind", pa.string()),
        *_fields(pa.float32(), "score_at_baseline", "residual"),
        pa.field("method_params", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("unit_kind", pa.string()),
        pa.field("units_total", pa.int32()),
        pa.field("weight_dropped", pa.float32()),
        pa.field("units", pa.list_(UNIT)),
        pa.field("selected_spans", pa.list_(SPAN)),
        pa.field("fusion", pa.list_(FUSION)),
        *_fields(pa.float32(), *(f"m_{name}" for name in CHECKS)),
        pa.field("n_perturb", pa.int16()),
    ]
)
TARGETS = pa.list_(TARGET)


def explanations_fields() -> list[pa.Field]:
    """The columns of `explanations` that a system fills, in table order; `docs/data-dictionary.md` explains each one."""
    return [
        pa.field("decision", pa.string(), nullable=False),
        *_fields(pa.string(), "method", "coded_run"),
        pa.field("text_sha256", pa.binary(32)),
        *_fields(pa.int32(), "n_tokens", "n_windows", "truncated_chars"),
        *_fields(pa.bool_(), "faithfulness_sampled", "stability_sampled"),
        pa.field("targets", TARGETS),
    ]


def target_row(
    record_id: str,
    explanation: Explanation,
    *,
    spans: int = 5,
    max_units: int = 512,
    spoken: np.ndarray | None = None,
    gold: np.ndarray | None = None,
) -> dict[str, Any]:
    """One explanation as a value of `TARGET`.

    Args:
        spans: number of the strongest runs of units in `selected_spans`. max_units: number of the strongest units in `units`, in
            the text's order and then those beside it; `weight_dropped` is the weight of the rest.
        spoken, gold: flags of the text's units [n], see `top_spans` and `agreement`.
    """
    runs = top_spans(explanation, spans, spoken) if explanation.status == OK else []
    selected = np.zeros(len(explanation.score), dtype=bool)
    for first, stop in runs:
        selected[first:stop] = True
    strongest = np.sort(np.argsort(-explanation.weight, kind="stable")[:max_units])
    target, checks = explanation.target, explanation.checks
    return {
        "explanation_id": explanation_id(record_id, explanation),
        "status": explanation.status,
        **{f"target_{name}": getattr(target, name, None) for name in ("kind", "name", "start", "end", "source")},
        "target_score": explanation.target_score,
        "target_score_kind": explanation.score_kind,
        "score_at_baseline": explanation.blank_score,
        "residual": explanation.residual,
        "method_params": params(explanation),
        "seed": explanation.seed,
        "unit_kind": explanation.unit_kind,
        "units_total": len(explanation.score),
        "weight_dropped": max(0.0, float(explanation.weight.sum() - explanation.weight[strongest].sum())),
        "units": [_unit(explanation, int(unit), selected, gold) for unit in strongest],
        "selected_spans": [{name: span[name] for name in ("start", "end", "score")} for span in evidence_rows(explanation, runs)],
        "fusion": [dict(part) for part in explanation.fusion] or None,
        **{f"m_{name}": checks.get(name) for name in CHECKS},
        "n_perturb": None if checks.get("n_perturb") is None else int(checks["n_perturb"]),
    }


def params(explanation: Explanation) -> str:
    """The settings of an explanation as canonical JSON."""
    return json.dumps(dict(explanation.settings), sort_keys=True, separators=(",", ":"))


def explanation_id(record_id: str, explanation: Explanation) -> str:
    """An id from record, method, target, units and settings: the same explanation always has the same id."""
    target = explanation.target
    parts = [record_id, explanation.method, explanation.unit_kind, params(explanation)]
    parts += [] if target is None else [target.kind, target.name, str(target.start), str(target.end), target.source]
    key = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def _unit(explanation: Explanation, unit: int, selected: np.ndarray, gold: np.ndarray | None) -> dict[str, Any]:
    of_text = unit < len(explanation.start)
    beside = None if of_text else explanation.beside[unit - len(explanation.start)]
    in_text = of_text and explanation.boxes is None
    return {
        "id": unit,
        "kind": UNIT_KINDS.index(explanation.unit_kind if beside is None else beside.kind),
        "start": int(explanation.start[unit]) if in_text else None,
        "end": int(explanation.end[unit]) if in_text else None,
        **({} if explanation.boxes is None else _box(explanation.boxes[unit])),
        "text": None if beside is None else beside.text,
        "score": float(explanation.score[unit]),
        "weight": float(explanation.weight[unit]),
        "stability": None if explanation.stability is None else float(explanation.stability[unit]),
        "gold": None if gold is None or not of_text else bool(gold[unit]),
        "selected": bool(selected[unit]),
    }


def _box(box: np.ndarray) -> dict[str, Any]:
    """A row of `Units.boxes` as fields of `UNIT`."""
    sides = zip(("x0", "y0", "x1", "y1"), box[1:].tolist(), strict=True)
    return {"image": int(box[0]), **{name: None if np.isnan(value) else value for name, value in sides}}
