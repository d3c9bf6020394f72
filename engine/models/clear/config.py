"""Settings of the system: its architecture, its training, and what a checkpoint records. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.keys import MISSING, key

PROBE, ZERO_SHOT, BOTTLENECK = HEADS = ("probe", "zero_shot", "bottleneck")


@dataclass(frozen=True)
class ModelConfig:
    bank: str = key(MISSING, "Concept bank that answers are sums over, as jobs.build_concept_bank writes it.", path=True)
    image: str = key(
        "pkg:efficientnet-lite0",
        "Image encoder: pkg:efficientnet-lite0, path:<folder> or hub:<id>@<commit>, such as facebook/dinov2-base.",
    )
    preprocessing: str | None = key(None, "How images become the encoder's pixels, by name; null is the encoder's own way.")
    text: str = key("pkg:minilm", "Encoder of reports and concepts: pkg:minilm, path:<folder> or hub:<id>@<commit>.")
    width: int = key(512, "Numbers of the space in which images and texts are compared.", low=2)
    head: str = key(
        PROBE,
        "What the answers come from. probe: a linear layer on the concept embedding. zero_shot: prompts for and against each "
        "finding. bottleneck: a linear layer on the embedding over a few concepts, chosen for each finding.",
        choices=HEADS,
    )


@dataclass(frozen=True)
class LearnConfig:
    image: bool = key(False, "Train the image encoder too; without it its outputs are computed once.")
    text: bool = key(False, "Train the text encoder too; without it its outputs are computed once.")
    tokens: int = key(128, "Tokens of a report that are read.", low=8)


@dataclass(frozen=True)
class Config:
    """What a checkpoint records.

    `image` and `text` are the encoders by name, with the digests of their weights; weights that were `trained` are the
    checkpoint's. `bank` has path and digest of the concept bank, name and digest of its embedder, and its `negation_auc`; a small
    bank lies in the checkpoint folder, and its path is relative to it.
    """

    findings: tuple[str, ...]
    image: str
    image_digest: str
    preprocessing: str
    text: str
    text_digest: str
    width: int
    tokens: int
    head: str
    bank: Mapping[str, Any]
    trained: tuple[str, ...] = ()
