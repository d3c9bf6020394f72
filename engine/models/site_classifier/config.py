"""The architecture of a site classifier, on which its weights and labels depend, and the settings of its training."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import key
from engine.models.code_task import TaskConfig

EVIDENCE_METHODS = ("attention", "pooling", "gradient_x_input", "grad_l2", "attention_constant", "attnlrp")
HEADS = ("pooling", "cls", "target", "dpla")


@dataclass(frozen=True)
class ClassifierConfig(TaskConfig):
    """Architecture of a checkpoint.

    `window` is the number of text tokens in a window, without special tokens. `special` are the ids of [CLS], [SEP], [PAD] and
    [MASK]. `head` names the pool over a report's tokens, see `heads.py`: `pool_heads` and `pool_width` are the number of queries
    and the size of keys of `pooling`, `phrase_reach` (tokens) is that of `dpla`.
    """

    encoder: str = "pkg:minilm"
    encoder_digest: str = ""
    rank: int = 32
    window: int = 126
    pool_heads: int = 4
    pool_width: int = 128
    paired: bool = False
    special: tuple[int, int, int, int] = (101, 102, 0, 103)
    head: str = "pooling"
    phrase_reach: float = 4.0

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ConfigError(f"model.head: '{self.head}' is none of {', '.join(HEADS)}")
        super().__post_init__()

    @property
    def evidence_methods(self) -> tuple[str, ...]:
        """The evidence methods of this head. The first token's state cannot be divided among the tokens."""
        return tuple(method for method in EVIDENCE_METHODS if method != "pooling" or self.head != "cls")


@dataclass(frozen=True)
class ModelConfig:
    """The keys of a model to train, see `ClassifierConfig`; with a `base` a further head of that model is trained."""

    encoder: str = key(ClassifierConfig.encoder, "pkg:minilm, path:<folder>, or hub:<id>@<commit>, which is fetched once.")
    rank: int = key(
        ClassifierConfig.rank,
        "Rank of the adapter on each linear layer of the encoder; 0 tunes the encoder itself (train.rate=2e-5).",
        low=0,
    )
    window: int = key(ClassifierConfig.window, "Tokens of text in one window.", low=8)
    head: str = key(
        ClassifierConfig.head, "How a report's tokens become one vector; docs/models.md says what each head is.", choices=HEADS
    )
    pool_heads: int = key(ClassifierConfig.pool_heads, "Number of queries of the head `pooling`, for each task.", low=1)
    phrase_reach: float = key(
        ClassifierConfig.phrase_reach, "How far, in tokens, dpla may move a sample; 0 keeps a plain window.", low=0.0
    )
    base: str | None = key(
        None,
        "Checkpoint folder for which to train a further head (model.head), with model.freeze_encoder=true; "
        "encoder, rank and window are those of the checkpoint. 'shipped' is the included model.",
        path=True,
    )
    freeze_encoder: bool = key(False, "Leave the encoder of model.base as it is: every text is encoded once.")


@dataclass(frozen=True)
class LearnConfig:
    """How a model learns; `seed` is that of windows, masks and drawn samples."""

    windows: int = key(
        8, "Largest number of windows of a report in one epoch; if the report has more, they are drawn at random.", low=1
    )
    masking: float = key(
        0.8,
        "The share of masked tokens in a report is this times u squared, with u drawn uniformly from 0 to 1.",
        low=0.0,
        high=1.0,
    )
    smoothing: float = key(0.05, "Label smoothing.", low=0.0, high=0.5)
    weights: Mapping[str, float] = key({}, "Weight of a task's loss; 1 if not given.", low=0.0)
    sample_weight: float = key(1.0, "Weight of the loss on samples made from highlights; the weight of a report is 1.", low=0.0)
    ratio: float = key(
        -1.0,
        "Number of samples from highlights for each report and epoch, drawn anew in each epoch; negative: every sample once.",
    )
    marking: float = key(0.0, "Weight of a second task, to predict which tokens were highlighted; 0 leaves it out.", low=0.0)
    budget: int | None = key(
        None,
        "Padded tokens in one forward and backward pass; a step sums the gradients of as many passes as it needs. "
        "null: 8,192, but 2,048 on a CPU if the encoder is trained.",
        low=128,
    )
    checkpointing: int = key(
        0,
        "Windows in the encoder at a time; they are computed again for the gradient, which saves memory and costs "
        "time. 0: nothing is computed again.",
        low=0,
    )
    max_tokens: int = key(
        16384,
        "Tokens of a training text to use, from its beginning; with a frozen encoder, each token takes about 770 bytes of disk.",
        low=16,
    )
    seed: int = 7
