"""What the check of a GPU asks of the extractor alone, see `engine.benchmarks.gpu_check`."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models.columns import list_values
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.tuning import settled

if TYPE_CHECKING:
    from engine.models.prompt_mrc.extractor import Extractor

Span = tuple[str, int, int]


def unsure(system: "Extractor", prepared: pa.Table, tolerance: float) -> dict[int, list[Span]]:
    """The spans of each row, by type and characters, that would come or go if probabilities were others, by less than
    `tolerance`: as thresholds are passed, or as one of two that exclude each other is the better one."""
    used = system.decoding
    lower, higher = (_shifted(used, by) for by in (-tolerance, tolerance))
    starts, ends = list_values(prepared["word_start"]), list_values(prepared["word_end"])
    rows = enumerate(zip(prepared["row"].to_pylist(), system.under(prepared, [lower]), strict=True))
    found = {}
    for number, (row, scored) in rows:
        some = [each for each, _ in scored]
        kept, fewer, more = ({_key(each): each for each in settled({0: some}, by)} for by in (used, higher, lower))
        open_ = {key for key in {*kept, *fewer, *more} if not (key in kept and key in fewer and key in more)}
        for key, each in kept.items():
            rivals = [_key(other) for other in some if abs(other.score - each.score) < tolerance]
            rivals = [other for other in rivals if other not in kept and _excludes(each, other, used)]
            open_ |= {key, *rivals} if rivals else set()
        found[row] = [(system.names[t], int(starts[number][a]), int(ends[number][b])) for a, b, t in sorted(open_)]
    return found


def _shifted(used: Decoding, by: float) -> Decoding:
    values = {name: min(1 - 1e-6, max(1e-6, getattr(used, name) + by)) for name in ("start", "end", "match")}
    return replace(used, **values)


def _key(each: Candidate) -> tuple[int, int, int]:
    return each.first, each.last, each.type


def _excludes(each: Candidate, other: tuple[int, int, int], used: Decoding) -> bool:
    first, last, kind = other
    overlap = each.first <= last and first <= each.last
    return overlap and (used.flat_across_types or (kind == each.type and not used.nested))


def extra(system: "Extractor", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every entity has its evidence where all are to have it, and a type without training is asked for."""
    from engine.models.prompt_mrc.extractor import Extractor

    few = prepared.slice(0, 4)
    runtime = {"device": system.device, "batch_tokens": system.budget}
    every = Extractor(system.checkpoint, replace(system.options, evidence="gradient_x_input", every=True), runtime).run(few)
    entities = [each for row in every["entities"].to_pylist() for each in row]
    found = {"evidence of every entity": bool(entities) and all(each["evidence"] for each in entities)}
    if system.config.is_hard:
        asked = replace(system.options, questions={"Specimen": "Which specimens or tissues are named?"})
        rows = Extractor(system.checkpoint, asked, runtime).run(few)
        found["a question of one's own"] = all(
            0 < each["score"] <= 1 for row in rows["entities"].to_pylist() for each in row if each["zero_shot"]
        )
    return found
