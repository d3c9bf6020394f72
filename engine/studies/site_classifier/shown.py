"""What the product shows as evidence: the evidence column of codes, or the selected spans of explanations."""

from collections.abc import Sequence

import numpy as np

from engine.errors import ContractError
from engine.explain.explanation import OK, top_spans
from engine.models.base import ModelSpec, load
from engine.models.run import records_of
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.models.site_classifier.config import EVIDENCE_METHODS
from engine.studies.explaining import Explaining, Options, Text, explaining
from engine.studies.planting import Shown
from engine.studies.run import Model, Task
from engine.studies.settings import options

DEFAULT, NONE = "default", "none"


def shown(model: Model, task: Task, texts: Sequence[Text], method: str | None = None) -> list[Shown]:
    """Answers to texts with their evidence, in their order.

    Args:
        texts: those that the arm explains. method: in place of `explain.method`. `default` is the checkpoint's own, `none` shows
            no spans. A method that the coder itself lacks is one of `engine.explain`.
    """
    settings = options(Options, task, "explain")
    method = method or settings.method
    if method not in (DEFAULT, NONE, *EVIDENCE_METHODS):
        return _explained(explaining(model, task))
    own = {"method": method, "checks": 0.0, "tasks": ()}
    system = load(ModelSpec(f"engine.models.{task.study.system}", str(model.folder), own, {"threads": task.threads}))
    prepared = system.prepare(records_of([text.record_id for text in texts], [text.text for text in texts])).sort_by("row")
    if prepared["failure"].null_count != len(prepared):
        raise ContractError("a made-up text cannot be read")
    rows = system.run(prepared).sort_by("row").to_pylist()
    words = zip(*(prepared[name].to_pylist() for name in ("word_start", "word_end")), strict=True)
    return [
        Shown(row[f"{settings.task}_code"], _spans(row[f"{settings.task}_evidence"]), np.array(starts), np.array(ends))
        for row, (starts, ends) in zip(rows, words, strict=True)
    ]


def method_of(model: Model, method: str | None) -> str:
    """A method's own name: what `default` stands for in this checkpoint."""
    return read_checkpoint(str(model.folder)).evidence_method if method == DEFAULT else str(method)


def _explained(arm: Explaining | None) -> list[Shown]:
    if arm is None:
        return []
    units = [units for at in arm.members for units in arm.work([at]).units]
    found = []
    for label, each, words in zip(arm.labels, (arm.explanations[at] for at in arm.members), units, strict=True):
        runs = top_spans(each, 5, words.spoken) if each.status == OK else []
        spans = [(int(each.start[first]), int(each.end[stop - 1])) for first, stop in runs]
        found.append(Shown(label, spans, words.start, words.end))
    return found


def _spans(rows: Sequence[dict[str, float]] | None) -> list[tuple[int, int]]:
    return [(int(row["start"]), int(row["end"])) for row in rows or ()]
