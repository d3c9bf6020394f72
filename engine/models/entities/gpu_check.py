"""The part of the GPU check that concerns all systems of entities, see `engine.benchmarks.gpu_check`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.models.columns import list_values
from engine.models.entities.candidates import exclude
from engine.models.entities.tuning import select_all

if TYPE_CHECKING:
    from engine.models.entities.system import EntitySystem


def unsure(system: "EntitySystem", prepared: pa.Table, tolerance: float) -> dict[int, list[tuple[str, int, int]]]:
    """The spans of each row, as type and characters, that could appear or vanish if probabilities changed by less than
    `tolerance`: because a threshold is near, because two that exclude each other have nearly equal scores, or because another
    type claims a place as strongly."""
    used = system.decoding

    def shifted(by: float) -> dict[str, float]:
        return {name: min(1 - 1e-6, max(1e-6, getattr(used, name) + by)) for name in used.thresholds}

    lower, higher = (replace(used, **shifted(by)) for by in (-tolerance, tolerance))
    starts, ends = list_values(prepared["word_start"]), list_values(prepared["word_end"])
    near = {}
    for number, (row, spans) in enumerate(zip(prepared["row"].to_pylist(), system.candidates(prepared, [lower]), strict=True)):
        kept, fewer, more = ({span.key: span for span in select_all({0: spans}, each)} for each in (used, higher, lower))
        unsure = {*kept, *fewer, *more} - (kept.keys() & fewer.keys() & more.keys())
        for span in kept.values():
            rivals = {
                other.key
                for other in spans
                if abs(other.score - span.score) < tolerance and other.key not in kept and exclude(span, other, used)
            }
            unsure |= {span.key, *rivals} if rivals else set()
        if used.flat_across_types:
            near_rival = system.margin_slope * tolerance
            contested = [span for span in spans if span.margin is not None and abs(span.margin) < near_rival]
            unsure |= {each.key for span in contested for each in spans if each is span or exclude(span, each, used)}
        near[row] = [(system.names[t], int(starts[number][a]), int(ends[number][b])) for a, b, t in sorted(unsure)]
    return near


def extra(system: "EntitySystem", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every entity gets evidence if that is asked for."""
    explained = entities(system, prepared, evidence="attnlrp", every=True)
    return {"evidence of every entity": bool(explained) and all(entity["evidence"] for entity in explained)}


def entities(system: "EntitySystem", prepared: pa.Table, **options: Any) -> list[dict[str, Any]]:
    """The entities in a few texts under other options."""
    runtime = {"device": system.device, "batch_tokens": system.budget}
    rows = type(system)(system.checkpoint, replace(system.options, **options), runtime).run(prepared.slice(0, 4))
    return [entity for row in rows["entities"].to_pylist() for entity in row]
