"""From a user's own labelled records to a revision, whichever the system: what new decisions do to records that they have not
seen, what is told of that, and the card."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation import calibration
from engine.evaluation.calibration import Promise
from engine.models.checkpoint import CARD

COMPARED = "before: what the checkpoint's own thresholds do to them. after: what new ones do, fitted without each report."
NOTHING = (
    "target: no revision is written, since with it every report would go to a person; give more labelled reports, or a "
    "target that the model reaches"
)


@dataclass(frozen=True)
class Effect:
    """What decisions do to `n` labelled reports: `kept` of them coded without a person, `right` of those right.

    `error` is the expected calibration error over all of them.
    """

    n: int
    kept: int
    right: int
    error: float

    @classmethod
    def of(cls, decisions: Sequence[tuple[bool, bool, float]]) -> "Effect":
        """From whether each report is coded without a person, whether its answer is right, and the stated probability."""
        kept, right, prob = (np.array(each) for each in zip(*decisions, strict=True))
        return cls(
            len(decisions), int(kept.sum()), int((kept & right).sum()), calibration.expected_calibration_error(prob, right)
        )

    def told(self, confidence: float) -> str:
        if not self.kept:
            return f"coded   0.0 %; calibration error {self.error:.3f}"
        bound = calibration.lower_bound(self.right, self.kept, confidence)
        return (
            f"coded {100 * self.kept / self.n:5.1f} %, {100 * self.right / self.kept:.1f} % of it right "
            f"(at least {100 * bound:.1f} %); calibration error {self.error:.3f}"
        )


@dataclass(frozen=True)
class Refitted:
    """What is `fitted` on all labelled reports of a task, beside the effect on them of what was there `before`.

    `after` is the effect of what is fitted without the group of each report, in `folds` parts; None with one group alone.
    """

    fitted: Any
    before: Effect
    after: Effect | None
    folds: int

    def told(self, task: str, promise: Promise, *more: str) -> list[str]:
        return [
            f"{task}, {self.before.n:,} reports:",
            f"  before              {self.before.told(promise.confidence)}",
            *(f"  {line}" for line in (*self._after(promise), *more)),
        ]

    def _after(self, promise: Promise) -> list[str]:
        if self.after is None:
            return ["after: cannot be shown on reports of one group alone"]
        line = f"after, cross-fitted {self.after.told(promise.confidence)}"
        others = self.after.n - self.after.n // self.folds
        if self.after.kept:
            return [line]
        if others >= promise.least:
            return [line, f"  in {self.folds} parts, {others:,} reports each: none of them shows the promise below"]
        return [
            line,
            f"  in {self.folds} parts, so that {others:,} reports must do for each, and {promise.least:,} without an error are "
            "the least:",
            f"  from {_shown_from(promise, self.folds):,} reports on there is something to see here",
        ]


def refitted(
    fit: Callable[[NDArray], Any],
    decide: Callable[[Any, NDArray], Sequence[tuple[bool, bool, float]]],
    before: Any,
    groups: Sequence[str],
    folds: int,
) -> Refitted:
    """What is fitted on labelled reports of one task, with its effect.

    Args:
        fit: from row numbers to what is fitted on them. decide: from that and row numbers to what `Effect.of` takes.
        before: what is there already. groups: one key a row, such as the patient; rows of a group are held out together.
    """
    every, folds = np.arange(len(groups)), min(folds, len(set(groups)))
    after = Effect.of(calibration.cross_fitted(fit, decide, groups, folds)) if folds > 1 else None
    return Refitted(fit(every), Effect.of(decide(before, every)), after, folds)


def sure_from(threshold: float, n: int, promise: Promise) -> str:
    """What a threshold, fitted on `n` reports, lets through."""
    if threshold <= 1:
        return f"sure from a probability of {threshold:.4f} on, for {promise}"
    few = f"; {promise.least:,} reports{promise.of} without an error are the least" if n < promise.least else ""
    return f"{n:,} reports do not show {promise}{few}: nothing will be coded without a person"


def require(promise: Promise, folds: int, labels: Mapping[str, int]) -> None:
    """Sees that some task has as many labels as any threshold takes.

    Raises:
        ConfigError: none has.
    """
    most = max(labels.values())
    if most >= promise.least:
        return
    have = ", ".join(f"{count:,} reports with a code of {task}" for task, count in labels.items())
    reach = math.floor(100 * promise.highest(most)) / 100 if most else 0.0
    lower = f"; with so few target={reach:g} is the most that can be asked" if reach >= 0.5 else ""
    raise ConfigError(
        f"data.path: {have}: too few. {promise} takes at the least {promise.least:,} reports{promise.of} without an error, and "
        f"{_shown_from(promise, folds):,} to show its effect{lower}"
    )


def card(digest: str, folder: Path, what: str, how: str, lines: Sequence[str]) -> str:
    """The card of a revision.

    Args:
        digest: of the model that is revised; folder: where its card lies. what: it says of what it decides by.
        how: that was fitted now. lines: that were told of it.
    """
    own = [
        "# Revision",
        "",
        f"The weights are those of {digest},",
        f"whose card follows; what that says of {what} is replaced by this:",
        f"{how}, fitted on a labelled sample that the user gave.",
        "`before` and `after` are figures on that sample, `after` with each record decided by what has not seen its group.",
        "",
        *(f"    {line}" for line in lines),
        "",
    ]
    old = folder / CARD
    return "\n".join([*own, old.read_text() if old.is_file() else ""])


def closing(new: str, old: str, output: str) -> str:
    """What to tell of a revision in the end; `new` and `old` are digests."""
    return f"\nRevision {new[:12]} of {old[:12]}: {output}\nTo use it: model.path={output}"


def _shown_from(promise: Promise, folds: int) -> int:
    """The reports of which all folds but one are as many as a threshold takes."""
    return math.ceil(promise.least * folds / (folds - 1))
