"""What the product shows as evidence: the evidence column of codes, or the selected spans of explanations."""

from collections.abc import Sequence

import numpy as np

from engine.errors import ContractError
from engine.explain.explanation import OK, Explanation, top_spans
from engine.models.base import ModelSpec, load
from engine.models.run import records_of
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.models.site_classifier.config import EVIDENCE_METHODS
from engine.studies.explaining import Options, Text, explaining
from engine.studies.planting import Shown
from engine.studies.run import Model, Task
from engine.studies.settings import options
from engine.text.units import Units

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
        arm = explaining(model, task)
        assert arm is not None
        return [
            _selected(str(target.label), arm.explanations[at], *arm.words([at]))
            for at, target in zip(arm.members, arm.targets, strict=True)
        ]
    own = {"method": method, "checks": 0.0, "tasks": ()}
    system = load(ModelSpec(f"engine.models.{task.study.system}", str(model.folder), own, {"threads": task.threads}))
    prepared = system.prepare(records_of([text.record_id for text in texts], [text.text for text in texts])).sort_by("row")
    if prepared["failure"].null_count != len(prepared):
        raise ContractError("a made-up text cannot be read")
    rows = system.run(prepared).sort_by("row").to_pylist()
    words = zip(*(prepared[name].to_pylist() for name in ("word_start", "word_end")), strict=True)
    return [
        Shown(
            row[f"{settings.task}_code"],
            [(span["start"], span["end"]) for span in row[f"{settings.task}_evidence"] or ()],
            np.array(starts),
            np.array(ends),
        )
        for row, (starts, ends) in zip(rows, words, strict=True)
    ]


def method_of(model: Model, method: str | None) -> str:
    """A method's own name: what `default` stands for in this checkpoint."""
    return read_checkpoint(str(model.folder)).evidence_method if method == DEFAULT else str(method)


def _selected(label: str, explanation: Explanation, words: Units) -> Shown:
    runs = top_spans(explanation, 5, words.spoken) if explanation.status == OK else []
    spans = [(int(explanation.start[first]), int(explanation.end[stop - 1])) for first, stop in runs]
    return Shown(label, spans, words.start, words.end)
