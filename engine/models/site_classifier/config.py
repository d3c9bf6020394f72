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

    encoder: str = key(ClassifierConfig.encoder, "pkg:minilm, path:<folder>, or hub:<id>@<revision>, which uses the network.")
    rank: int = key(ClassifierConfig.rank, "Rank of the adapter on each linear layer of the encoder.", low=1)
    window: int = key(ClassifierConfig.window, "Tokens of text in one window.", low=8)
    head: str = key(
        ClassifierConfig.head, "How a report's tokens become one vector; docs/models.md says what each head is.", choices=HEADS
    )
    pool_heads: int = key(ClassifierConfig.pool_heads, "Queries of the head pooling, for each task.", low=1)
    phrase_reach: float = key(
        ClassifierConfig.phrase_reach, "How far, in tokens, dpla may move a sample; 0 keeps a plain window.", low=0.0
    )
    base: str | None = key(
        None,
        "Checkpoint folder to train a further head for, model.head, with freeze_encoder; encoder, rank and window are its own. "
        "'shipped' is the model that comes along.",
        path=True,
    )
    freeze_encoder: bool = key(False, "Leave the encoder of model.base as it is: every text is encoded once.")


@dataclass(frozen=True)
class LearnConfig:
    """How a model learns; `seed` is that of windows, masks and drawn samples."""

    windows: int = key(8, "Windows shown of a report and epoch, drawn at random where it has more.", low=1)
    masking: float = key(0.8, "Share of masked tokens is this times u squared, u uniform for each report.", low=0.0, high=1.0)
    smoothing: float = key(0.05, "Label smoothing.", low=0.0, high=0.5)
    weights: Mapping[str, float] = key({}, "Weight of a task's loss; 1 where none is given.", low=0.0)
    sample_weight: float = key(1.0, "Weight of the loss on samples made from highlights; a report's is 1.", low=0.0)
    ratio: float = key(-1.0, "Samples from highlights for each report and epoch, drawn anew; negative: each of them once.")
    marking: float = key(0.0, "Weight of a second question, which tokens were highlighted; 0 does not ask it.", low=0.0)
    budget: int | None = key(
        None,
        "Padded tokens in one forward and backward pass; a step's gradient is summed over as many as it takes. "
        "null: 8,192, and on a CPU 2,048 where the encoder learns.",
        low=128,
    )
    checkpointing: int = key(
        0, "Windows in the encoder at a time, computed again for the gradient: less memory, more time; 0: keep everything.", low=0
    )
    max_tokens: int = key(
        16384,
        "Tokens kept of a training text, from its beginning; with a frozen encoder each takes about 770 bytes of disk.",
        low=16,
    )
    seed: int = 7
