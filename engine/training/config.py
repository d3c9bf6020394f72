"""How a training goes, as its user sets it; nothing here takes torch."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import check_keys, key


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    With a `patience` above 0 the weights of the best epoch are what is left. `stop_after` ends early, at that step (0: run to
    the end). `validated`: held-back records are looked at after each epoch.
    """

    epochs: float = key(3.5, "Passes over the training reports.", low=0.01)
    batch: int = key(12, "Reports a step, over all workers.", low=1)
    rate: float = key(1e-3, "Peak learning rate; it rises over warmup and falls to 0.", low=0.0)
    warmup: float = key(0.06, "Share of the steps in which the rate rises.", low=0.0, high=0.9)
    weight_decay: float = key(0.01, "Weight decay.", low=0.0)
    clip: float = key(1.0, "Largest norm of a step's gradient.", low=0.0)
    seed: int = key(7, "Seed of everything random.", low=0)
    checkpoint_every: int = key(100, "Steps between checkpoints.", low=1)
    report_every: int = key(20, "Steps between lines of progress.", low=1)
    patience: int = key(0, "Epochs without a rise of train.watch after which training ends; 0: go on to the end.", low=0)
    watch: str | None = key(
        None,
        "Figure on valid to watch, of those that the system measures there; a name it lacks tells them. null is its first.",
    )
    stop_after: int = 0
    validated: bool = True

    def __post_init__(self) -> None:
        check_keys(self, "train.")
        if self.patience and not self.validated:
            raise ConfigError("train.patience: without a validation there is no figure to watch; set it to 0")
        if not self.rate > 0:
            raise ConfigError("train: epochs and rate must be above 0, batch at least 1, warmup in [0, 1)")
        if not self.clip > 0:
            raise ConfigError("train.clip: must be above 0, or no step would move anything; a large number clips nothing")
