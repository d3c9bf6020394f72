"""The options of a run of the site classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError
from engine.keys import key
from engine.models.options import CodeOptions, TextOptions
from engine.models.site_classifier.config import EVIDENCE_METHODS, HEADS
from engine.registry.wording import SIGNS

INVALID_PAIR = "site_morphology_invalid"
# Reasons for review beside the model's: from the words of a report, and from codes that contradict each other.
RULES = (*SIGNS, INVALID_PAIR)


@dataclass(frozen=True)
class _First(TextOptions):
    """The keys in front of those that all systems of codes have."""

    method: str = key(
        "default",
        "How evidence is found. default: the method that the checkpoint names. none: no evidence.",
        at="explain.method",
        choices=("default", "none", *EVIDENCE_METHODS),
    )
    spans: int = key(5, "Largest number of evidence spans for each task.", at="explain.spans", low=1, high=50)
    checks: float = key(
        0.02,
        "Share of reports, chosen by id, whose evidence is checked: its words are masked, and so are random words.",
        at="explain.checks_fraction",
        low=0.0,
        high=1.0,
    )
    tasks: tuple[str, ...] = key(
        ("site",), "Tasks that must all be sure for a report to be coded without review.", at="decision.tasks"
    )


@dataclass(frozen=True)
class Options(CodeOptions, _First):
    """`pair` names the kept column with the second text of a paired model, `head` a head of the checkpoint other than its own."""

    rules: tuple[str, ...] = key(
        RULES,
        "Rules that send a report to review, whatever the model says; they understand only English.",
        at="decision.rules",
        choices=RULES,
    )
    pair: str | None = key(
        None, "Column with the second text, for a model that reads pairs; name it in input.keep too.", at="text.pair"
    )
    head: str | None = key(
        None,
        "Head to use, one of those in the checkpoint; null is the checkpoint's own.",
        at="model.head",
        choices=HEADS,
    )

    def completed(self, kept: Sequence[str]) -> dict[str, Any]:
        """See `SystemOptions`.

        Raises:
            ConfigError: the column of the second text is not kept.
        """
        if self.pair is not None and self.pair not in kept:
            raise ConfigError(f"text.pair: name the column '{self.pair}' in input.keep too")
        return super().completed(kept)
