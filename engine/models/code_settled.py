"""What a system of codes decides by, a temperature and a threshold for each task, settled on labelled texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation import calibration
from engine.evaluation.calibration import Promise
from engine.evaluation.codes import about_labels
from engine.models import checkpoint
from engine.models.base import ModelSpec, Say, load
from engine.models.code_calibrate import Settings
from engine.models.code_corpus import numbers, read_texts
from engine.models.code_system import FILES, NONE, CodeSystem, probabilities
from engine.models.revised import COMPARED, NOTHING, Refitted, card, closing, refitted, require, sure_from
from engine.models.token_system import logits_of

Decision = Mapping[str, float]
_ALL = slice(None)


@dataclass(frozen=True)
class Scored:
    """The `texts` that have a code of a task, their logits [n, labels], and the codes' numbers [n], -1 for an unknown one."""

    texts: pa.Table
    logits: NDArray
    targets: NDArray

    def fitted(self, promise: Promise, rows: NDArray | slice = _ALL) -> Decision:
        """Temperature and threshold from some of the texts."""
        if not len(self.targets):
            return NONE
        found = {"temperature": calibration.temperature(self.logits[rows], self.targets[rows]), "threshold": calibration.NOTHING}
        _, right, prob = self.decided(found, rows)
        return {**found, "threshold": calibration.fit_threshold(prob, right, promise.target, promise.confidence).threshold}

    def decided(self, decision: Decision, rows: NDArray | slice = _ALL) -> tuple[NDArray, NDArray, NDArray]:
        """Whether the answer to each text is sure, whether it is right, and its probability."""
        logits = self.logits[rows]
        prob = probabilities(logits, decision["temperature"]).max(-1)
        return prob >= decision["threshold"], logits.argmax(-1) == self.targets[rows], prob

    def refitted(self, promise: Promise, before: Decision, folds: int) -> Refitted:
        """A new decision beside the one `before`."""

        def decide(decision: Decision, rows: NDArray) -> list[tuple[bool, bool, float]]:
            return list(zip(*self.decided(decision, rows), strict=True))

        return refitted(partial(self.fitted, promise), decide, before, self.texts["group"].to_pylist(), folds)


def scored(system: CodeSystem, texts: pa.Table, tasks: Sequence[str], say: Say) -> dict[str, Scored]:
    """By task; `texts` has `record_id`, `text`, and the code for each task or null."""
    texts, logits = logits_of(system, texts, say)
    has = {task: np.array(texts[task].is_valid(), bool) for task in tasks}
    parts = {task: texts.filter(pa.array(has[task])) for task in tasks}
    return {
        task: Scored(part, logits[task][has[task]], numbers(part[task], system.known()[task])) for task, part in parts.items()
    }


def revise(spec: ModelSpec, settings: Settings, output: str, say: Say, tell: Say) -> None:
    """See `engine.models.base.calibrate`.

    Raises:
        ConfigError: the labelled texts cannot be used or are too few, or no task gets a threshold.
    """
    system = load(replace(spec, options={"max_tokens": settings.max_tokens, "precision": settings.precision}))
    known, tasks, promise = system.known(), list(settings.data.labels), Promise(settings.target, settings.confidence)
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise ConfigError(f"data.labels: the model has no task '{unknown[0]}'; it has {', '.join(known)}")
    texts, unusable = read_texts(settings.data)
    lines = [line for task in tasks for line in about_labels(task, texts[task].drop_nulls().to_numpy(), known, "data.labels")]
    require(promise, settings.folds, {task: texts[task].count() for task in tasks})
    found = scored(system, texts.to_arrow(), tasks, say)
    tell(f"{len(texts):,} labelled reports with text, of {len(texts) + unusable:,} rows.")
    tell(COMPARED)
    decisions = {}
    for task, each in found.items():
        if not len(each.targets):
            lines.append(f"{task}: no labels; its calibration stays.")
            continue
        made = each.refitted(promise, system.checkpoint.decisions[task], settings.folds)
        decisions[task] = made.fitted
        lines += made.told(task, promise, sure_from(made.fitted["threshold"], made.before.n, promise))
    tell("\n".join(lines))
    if all(decision["threshold"] > 1 for decision in decisions.values()):
        raise ConfigError(NOTHING)
    own = card(system.digest, system.checkpoint.folder, "thresholds", f"temperatures and thresholds for {promise}", lines)
    files = {FILES[0]: {**system.checkpoint.decisions, **decisions}}
    tell(closing(checkpoint.write_revision(output, system.checkpoint.folder, files, own), system.digest, output))
