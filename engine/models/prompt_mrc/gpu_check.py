"""The extractor's own part of the GPU check, see `engine.benchmarks.gpu_check`."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models.columns import list_values
from engine.models.prompt_mrc.decode import exclude
from engine.models.prompt_mrc.tuning import select_all

if TYPE_CHECKING:
    from engine.models.prompt_mrc.extractor import Extractor


def unsure(system: "Extractor", prepared: pa.Table, tolerance: float) -> dict[int, list[tuple[str, int, int]]]:
    """The spans of each row, as type and characters, that could appear or vanish if probabilities changed by less than
    `tolerance`: because a threshold is near, because two that exclude each other have nearly equal scores, or because another
    type claims a place as strongly."""
    used = system.decoding

    def shifted(by: float) -> dict[str, float]:
        return {name: min(1 - 1e-6, max(1e-6, getattr(used, name) + by)) for name in ("start", "end", "match")}

    lower, higher = (replace(used, **shifted(by)) for by in (-tolerance, tolerance))
    starts, ends = list_values(prepared["word_start"]), list_values(prepared["word_end"])
    near = {}
    for number, (row, scored) in enumerate(zip(prepared["row"].to_pylist(), system.candidates(prepared, [lower]), strict=True)):
        spans = [span for span, _ in scored]
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
            # A margin has six logits, and where a probability is one half, its logit changes by four times as much.
            contested = [span for span in spans if span.margin is not None and abs(span.margin) < 24 * tolerance]
            unsure |= {each.key for span in contested for each in spans if each is span or exclude(span, each, used)}
        near[row] = [(system.names[t], int(starts[number][a]), int(ends[number][b])) for a, b, t in sorted(unsure)]
    return near


def extra(system: "Extractor", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every entity gets evidence if that is asked for, and a type without training is found."""
    from engine.models.prompt_mrc.extractor import Extractor

    few, runtime = prepared.slice(0, 4), {"device": system.device, "batch_tokens": system.budget}

    def entities(**options: object) -> list[dict]:
        rows = Extractor(system.checkpoint, replace(system.options, **options), runtime).run(few)
        return [entity for row in rows["entities"].to_pylist() for entity in row]

    explained = entities(evidence="attnlrp", every=True)
    checks = {"evidence of every entity": bool(explained) and all(entity["evidence"] for entity in explained)}
    if system.config.is_hard:
        asked = entities(questions={"Specimen": "Which specimens or tissues are named?"})
        checks["a question of one's own"] = all(0 < entity["score"] <= 1 for entity in asked if entity["zero_shot"])
    return checks
