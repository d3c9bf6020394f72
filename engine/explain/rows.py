"""Explanations as values of the `explanations` table: one row a record and method, its targets as a list of structs."""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa

from engine.explain.explanation import OK, Explanation, top_spans
from engine.text.units import UNIT_KINDS

CHECKS = (
    "comp_aopc",
    "suff_aopc",
    "random_comp",
    "random_suff",
    "norm_comp",
    "norm_suff",
    "stability",
    "jaccard",
    "lipschitz",
    "flip_rate",
    "boundary_mass",
    "boundary_lift",
    "boundary_faith",
    "shift_margin",
    "cov_topk",
    "cov_mass",
    "cov_lift",
    "auprc",
    "iou_f1",
)

UNIT = pa.struct(
    [
        pa.field("id", pa.int32()),
        pa.field("kind", pa.int8()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        *(pa.field(name, pa.float32()) for name in ("x0", "y0", "x1", "y1")),
        pa.field("text", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("weight", pa.float32()),
        pa.field("stability", pa.float32()),
        pa.field("gold", pa.bool_()),
        pa.field("selected", pa.bool_()),
    ]
)
SPAN = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32()), pa.field("score", pa.float32())])
FUSION = pa.struct(
    [pa.field("method", pa.string()), *(pa.field(n, pa.float32()) for n in ("weight", "stability", "boundary", "faithfulness"))]
)
TARGET = pa.struct(
    [
        pa.field("explanation_id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("target_kind", pa.string()),
        pa.field("target_name", pa.string()),
        pa.field("target_start", pa.int32()),
        pa.field("target_end", pa.int32()),
        pa.field("target_source", pa.string()),
        pa.field("target_score", pa.float32()),
        pa.field("target_score_kind", pa.string()),
        pa.field("score_at_baseline", pa.float32()),
        pa.field("residual", pa.float32()),
        pa.field("method_params", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("unit_kind", pa.string()),
        pa.field("units_total", pa.int32()),
        pa.field("weight_dropped", pa.float32()),
        pa.field("units", pa.list_(UNIT)),
        pa.field("selected_spans", pa.list_(SPAN)),
        pa.field("fusion", pa.list_(FUSION)),
        *(pa.field(f"m_{name}", pa.float32()) for name in CHECKS),
        pa.field("n_perturb", pa.int16()),
    ]
)
TARGETS = pa.list_(TARGET)


def explanations_fields() -> list[pa.Field]:
    """The columns of `explanations` that a system fills, in table order; `docs/data-dictionary.md` says what each one means."""
    return [
        pa.field("decision", pa.string(), nullable=False),
        pa.field("method", pa.string()),
        pa.field("coded_run", pa.string()),
        pa.field("text_sha256", pa.binary(32)),
        pa.field("n_tokens", pa.int32()),
        pa.field("n_windows", pa.int32()),
        pa.field("truncated_chars", pa.int32()),
        pa.field("faithfulness_sampled", pa.bool_()),
        pa.field("stability_sampled", pa.bool_()),
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
        spans: how many of the strongest runs of units are `selected_spans`. max_units: the strongest that many stand in `units`,
            in the text's order and then those beside it; the rest's weight is `weight_dropped`.
        spoken, gold: flags of the text's units [n], see `top_spans` and `agreement`.
    """
    chosen = top_spans(explanation, spans, spoken) if explanation.status == OK else []
    selected = np.zeros(len(explanation.score), dtype=bool)
    for first, stop in chosen:
        selected[first:stop] = True
    kept = np.sort(np.argsort(-explanation.weight, kind="stable")[:max_units])
    target, checks = explanation.target, explanation.checks
    return {
        "explanation_id": explanation_id(record_id, explanation),
        "status": explanation.status,
        "target_kind": target.kind if target else None,
        "target_name": target.name if target else None,
        "target_start": target.start if target else None,
        "target_end": target.end if target else None,
        "target_source": target.source if target else None,
        "target_score": explanation.target_score,
        "target_score_kind": explanation.score_kind,
        "score_at_baseline": explanation.blank_score,
        "residual": explanation.residual,
        "method_params": params(explanation),
        "seed": explanation.seed,
        "unit_kind": explanation.unit_kind,
        "units_total": len(explanation.score),
        "weight_dropped": max(0.0, float(explanation.weight.sum() - explanation.weight[kept].sum())),
        "units": [_unit(explanation, int(unit), selected, gold) for unit in kept],
        "selected_spans": [
            {
                "start": int(explanation.start[first]),
                "end": int(explanation.end[stop - 1]),
                "score": float(explanation.score[first:stop].sum()),
            }
            for first, stop in chosen
        ],
        "fusion": [dict(part) for part in explanation.fusion] or None,
        **{f"m_{name}": checks.get(name) for name in CHECKS},
        "n_perturb": None if checks.get("n_perturb") is None else int(checks["n_perturb"]),
    }


def params(explanation: Explanation) -> str:
    """The settings of an explanation as canonical JSON."""
    return json.dumps(dict(explanation.settings), sort_keys=True, separators=(",", ":"))


def explanation_id(record_id: str, explanation: Explanation) -> str:
    """An id made of record, method, target, units and settings: the same for the same explanation made again."""
    target = explanation.target
    parts = [record_id, explanation.method, explanation.unit_kind, params(explanation)]
    parts += [] if target is None else [target.kind, target.name, str(target.start), str(target.end), target.source]
    key = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def _unit(explanation: Explanation, unit: int, selected: np.ndarray, gold: np.ndarray | None) -> dict[str, Any]:
    of_text = unit < len(explanation.start)
    beside = None if of_text else explanation.beside[unit - len(explanation.start)]
    return {
        "id": unit,
        "kind": UNIT_KINDS.index(explanation.unit_kind if beside is None else beside.kind),
        "start": int(explanation.start[unit]) if of_text else None,
        "end": int(explanation.end[unit]) if of_text else None,
        "text": None if beside is None else beside.text,
        "score": float(explanation.score[unit]),
        "weight": float(explanation.weight[unit]),
        "stability": None if explanation.stability is None else float(explanation.stability[unit]),
        "gold": None if gold is None or not of_text else bool(gold[unit]),
        "selected": bool(selected[unit]),
    }
