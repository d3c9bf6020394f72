"""The one comparison in which the encoder is trained too, by its low-rank adapter: what holds for heads on a frozen encoder need
not hold here. It has the regimes of the other experiments, and `marking`, which a frozen encoder cannot show.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.encoders import load_encoder, pick_precision
from engine.errors import ConfigError
from engine.experiments.frozen import ALL, Frozen
from engine.experiments.grid import Grid, GridConfig
from engine.experiments.regimes import BASE, MARKING, Regime
from engine.experiments.run import Say

if TYPE_CHECKING:
    from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner


@dataclass(frozen=True)
class HeadlineConfig(GridConfig):
    """What is trained and measured, see `GridConfig`.

    `rank` is that of the encoder's adapter, `windows` are shown of a text and epoch, and `marking` is the weight of the second
    question in the regime of that name. `states` is a folder for trained models. At the `rate` of `jobs.train`, 1e-3, a model of
    the abstracts learns nothing and gives every token the same state.
    """

    name: str = "rationale/headline"
    heads: tuple[str, ...] = ("dpla",)
    regimes: tuple[str, ...] = (BASE, "rationales", "extra", MARKING)
    seeds: tuple[int, ...] = (1, 2, 3)
    epochs: float = 6.0
    patience: int = 6
    rate: float = 3e-4
    width: int = 0
    rank: int = 16
    windows: int = 8
    marking: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width:
            raise ConfigError("grid.width: a model that is trained whole has whole states; leave it out")
        if self.rank < 1:
            raise ConfigError("sizes.rank: with an adapter of rank 0 the encoder would not be trained; give at least 1")

    def regime(self, name: str) -> Regime:
        return Regime(MARKING, self.marking) if name == MARKING else super().regime(name)


class Whole(Frozen):
    """The texts of a set, and models trained on them with their encoder."""

    config: HeadlineConfig
    deciding = (
        *Frozen.deciding,
        *("rank", "windows", "marking", "window", "max_tokens", "train_records", "encoder_digest", "data_sha256"),
    )

    @property
    def folder(self) -> Path:
        return Path(self.config.states or self.work / "states") / "whole"

    def _learner(self, architecture: "ClassifierConfig", examples: "Examples", learn: "LearnConfig") -> "SiteLearner":
        import torch

        from engine.models.adapter import attach
        from engine.models.site_classifier.learner import SiteLearner
        from engine.models.site_classifier.network import SiteNetwork

        config = self.config
        # Only plain attention can be asked for what the first token attends to.
        encoder = load_encoder(config.encoder, pick_precision("auto", "cpu"), "eager")
        torch.manual_seed(learn.seed)
        attach(encoder, config.rank)
        network = SiteNetwork(replace(architecture, rank=config.rank), encoder)
        return SiteLearner(network, examples, replace(learn, windows=config.windows), torch.device("cpu"))

    def _heard(self, row: Mapping[str, Any]) -> None:
        seconds = row["step"] / row["epoch"] / row["steps_per_second"]
        self.say(
            f"epoch {row['epoch']:.0f} of {self.config.epochs:.0f}: {seconds:,.0f} s, valid macro-F1 {row['valid_macro_f1']:.3f}"
        )

    def _asked(self, learner: "SiteLearner", examples: "Examples", keep: bool) -> "SiteLearner":
        from engine.models.site_classifier.learner import SiteLearner

        return SiteLearner(learner.network, examples, replace(learner.config, windows=ALL, marking=0.0), learner.device)

    def _first_attention(self, asked: "SiteLearner") -> list[NDArray]:
        found = [np.zeros(len(ids)) for ids in asked.examples.ids]
        for batch, rows in self._batches(asked):
            batch.lay(asked.network.first_attention(batch), [found[row] for row in rows])
        return found


class Headline(Grid):
    """See `engine.experiments.run.Experiment`: the grid of models that are trained whole."""

    config: HeadlineConfig

    def _heads(self, work: Path, say: Say) -> Whole:
        return Whole(self.config, work, say)
