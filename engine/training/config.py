"""The settings of the training loop. Nothing here imports torch."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import check_keys, key


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    With a `patience` above 0 the training ends with the weights of its best epoch. `stop_after` is a step to end at early
    (0: none). `validated` says whether the held-back records are measured after each epoch.
    """

    epochs: float = key(3.5, "Passes over the training reports.", low=0.01)
    batch: int = key(12, "Reports per step, over all workers.", low=1)
    rate: float = key(1e-3, "Peak learning rate; it rises during warmup and then falls to 0.", low=0.0)
    warmup: float = key(0.06, "Share of the steps during which the learning rate rises.", low=0.0, high=0.9)
    weight_decay: float = key(0.01, "Weight decay.", low=0.0)
    clip: float = key(1.0, "Largest norm of a step's gradient.", low=0.0)
    seed: int = key(7, "Seed of everything random.", low=0)
    checkpoint_every: int = key(100, "Steps between checkpoints.", low=1)
    report_every: int = key(20, "Steps between progress lines.", low=1)
    patience: int = key(0, "Epochs without an improvement of train.watch after which training ends; 0 trains to the end.", low=0)
    watch: str | None = key(
        None,
        "Figure on the validation set that train.patience watches. null takes the system's first one; for an "
        "unknown name, the message lists the names that exist.",
    )
    stop_after: int = 0
    validated: bool = True

    def __post_init__(self) -> None:
        check_keys(self, "train.")
        if self.patience and not self.validated:
            raise ConfigError("train.patience: without a validation there is no figure to watch; set it to 0")
        for name in ("rate", "clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name}: must be above 0, or nothing would be learned")
