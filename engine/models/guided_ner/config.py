"""Settings of the tagger: its architecture, its decoding, and what a training or a run may set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.encoders import CHARACTERS
from engine.errors import ConfigError
from engine.keys import key
from engine.models.entities.candidates import FLOOR, TagDecoding
from engine.models.entities.settings import METHODS, EntityLearning, EntityOptions

SOFTMAX, CRF, BILSTM_CRF = HEADS = ("softmax", "crf", "bilstm_crf")
GRADIENT, ATTENTION = SALIENCIES = ("gradient", "attention")
GLOBAL, FUSED = "global", "fused"


@dataclass(frozen=True)
class Config:
    """What a checkpoint records of the network: `encoder` is the configuration of its transformers encoder, whose weights the
    checkpoint holds; `lstm` the units of each direction of the BiLSTM, 0 without one."""

    types: tuple[str, ...]
    head: str
    encoder: Mapping[str, Any]
    window: int
    overlap: int
    language: str
    special: tuple[int, ...]
    lstm: int = 0

    @property
    def tags(self) -> int:
        """O, then B and I of each type: tag 1 + 2t is B and 2 + 2t is I of the type number t."""
        return 1 + 2 * len(self.types)


@dataclass(frozen=True)
class Decoding(TagDecoding):
    """One tag a word, so no spans overlap. A span's `score` must lie above the threshold of that name."""

    nested: bool = False
    flat_across_types: bool = True
    score: float = FLOOR
    outside: float = 0.0

    thresholds: ClassVar[Mapping[str, str]] = {"score": "score"}


@dataclass(frozen=True)
class Options(EntityOptions):
    evidence: str = key(
        METHODS[0],
        "How evidence is found; global: by the table of words that the training made; fused: both kinds, weighted by how stable, "
        "boundary-aware and faithful each is on the entity; none: no evidence.",
        at="explain.method",
        choices=(*METHODS, GLOBAL, FUSED),
    )
    stability: float = key(
        0.02,
        "Share of the reports, chosen by id, whose explained entities also get stability and shift_margin.",
        at="explain.stability",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class ModelConfig:
    encoder: str = key(
        CHARACTERS,
        "Encoder; characters: a tokenizer of characters and a small encoder, both made from the training texts; or pkg:minilm "
        "(English), path:<folder>, hub:<id>@<commit>, such as hfl/chinese-roberta-wwm-ext.",
    )
    head: str = key(BILSTM_CRF, "What gives the tags.", choices=HEADS)
    language: str = key("zh", "Language of the texts, which decides the lexicon of assertions.")
    window: int = key(254, "Tokens of a window.", low=8)
    overlap: int = key(64, "Tokens that neighbouring windows share.", low=0)
    lstm: int = key(128, "Units of each direction of the BiLSTM.", low=1)
    base: str | None = key(None, "Checkpoint whose weights the training goes on from; its architecture is kept.", path=True)

    def __post_init__(self) -> None:
        if self.overlap >= self.window:
            raise ConfigError(f"model.overlap: must be smaller than model.window ({self.window})")


@dataclass(frozen=True)
class LearnConfig(EntityLearning):
    """`rounds` guided phases follow the one of `train.epochs` without guidance; the table of words and the targets are made anew
    before each."""

    words_epochs: float = key(20.0, "Passes over the training texts by masked words, for encoder=characters.", low=0.1)
    words_rate: float = key(1e-3, "Peak learning rate of that.", low=0.0)
    rounds: int = key(1, "Guided phases after the first one; 0: no guidance.", low=0)
    guided_epochs: float = key(2.0, "Passes over the training texts in a guided phase.", low=0.1)
    stability: float = key(1.0, "Weight of the stability constraint.", low=0)
    boundary: float = key(0.1, "Weight of the boundary constraint.", low=0)
    consistency: float = key(0.1, "Weight of the consistency constraint.", low=0)
    guided: float = key(
        0.25, "Share of the windows, drawn anew for each round, of which an entity's saliency is guided.", low=0, high=1
    )
    saliency: str = key(GRADIENT, "Saliency that is guided; attention is cheaper.", choices=SALIENCIES)
    targets: tuple[str, ...] = key(("gradient_x_input", GLOBAL), "Methods whose fusion is the target.")
