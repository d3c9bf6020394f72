"""What any system of entities lets a run set, and a training of its texts and of how they are shown to the learner."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import MISSING, key
from engine.models.options import TextOptions

METHODS = ("attnlrp", "gradient_x_input", "none")


@dataclass(frozen=True)
class EntityOptions(TextOptions):
    types: tuple[str, ...] = key((), "Types to look for; empty: all types of the model.", at="entities.types")
    thresholds: Mapping[str, float] = key(
        {},
        "Thresholds in place of the model's own, such as {start: 0.6}; its card names them.",
        at="entities.thresholds",
        low=0,
        high=1,
    )
    evidence: str = key(METHODS[0], "How evidence is found; none: no evidence.", at="explain.method", choices=METHODS)
    spans: int = key(3, "Most evidence spans of an entity that has evidence.", at="explain.spans", low=1, high=50)
    every: bool = key(
        False,
        "Evidence of every entity, at several times the cost; false: only of the best-scored one of each type in a report.",
        at="explain.every",
    )
    stability: float = key(
        0.0,
        "Share of the reports, chosen by id, whose explained entities also get stability and shift_margin, from eight changed "
        "copies of each.",
        at="explain.stability",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        for name, value in self.thresholds.items():
            if not 0 < value < 1:
                raise ConfigError(f"entities.thresholds: {name} must lie between 0 and 1, and is {value:g}")
        if self.every and self.evidence == "none":
            raise ConfigError("explain.every: with explain.method=none there is no evidence; leave one of them out")
        if self.stability > type(self).stability and self.evidence == "none":
            raise ConfigError("explain.stability: with explain.method=none there is no evidence; leave one of them out")


@dataclass(frozen=True)
class EntityData:
    """Annotated texts for training; `engine.sources.labelled.read_documents` reads `path`."""

    path: str = key(
        MISSING,
        "Annotated texts: a file, a folder or a glob of IOB2, BRAT, GENIA XML, or Parquet with tokens and tags or with text and "
        "spans; or a file or glob of CSV or JSONL with text and spans.",
        path=True,
    )
    types: tuple[str, ...] = key((), "Entity types to learn; empty: all types of the training set.")
    share: float = key(1.0, "Share of the training set to learn from, chosen by id.", low=0.0001, high=1.0)
    eval_share: float = key(1.0, "Share of the validation and test sets to measure on, chosen by id.", low=0.0001, high=1.0)
    test_share: float = key(
        0.0,
        "Share of the training set, by a hash of the id, that becomes the missing test set; 0: valid does.",
        low=0.0,
        high=0.5,
    )
    cut_share: float = key(0.1, "Share of the training set that replaces a missing validation or test set.", low=0.01, high=0.5)


@dataclass(frozen=True)
class EntityLearning:
    masking: float = key(0.3, "A window's share of masked tokens is this times u squared, u uniform per window.", low=0, high=1)
    budget: int | None = key(
        None,
        "Padded tokens in one forward and backward pass; a step sums the gradients of as many passes as it takes. "
        "null: 8,192, and on a CPU 1,024.",
        low=128,
    )
    seed: int = 7
