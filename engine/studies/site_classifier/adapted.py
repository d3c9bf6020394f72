"""Models that are trained with their encoder, by its low-rank adapter: what holds for heads on a frozen encoder need not hold for
them.

`learn.marking` is the weight of a second question, which tokens were marked. It teaches token states, so a frozen encoder cannot
have it. At the `train.rate` of jobs.train, 1e-3, a model of the abstracts learns nothing and gives every token the same state.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from engine.encoders import load_encoder, pick_precision
from engine.models.adapter import attach
from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.studies.run import Task
from engine.studies.site_classifier.sufficiency import selected_rationales
from engine.studies.site_classifier.trained import ALL, DEFAULTS, Classifier, batches


class Adapted(Classifier):
    """`model.rank` is that of the adapter; `learn.windows` are shown of a text and epoch."""

    defaults: ClassVar[Mapping[str, Any]] = {
        **DEFAULTS,
        **{"model.rank": 16, "learn.windows": 8, "learn.marking": 0.0},
        **{"train.epochs": 6.0, "train.patience": 6, "train.rate": 3e-4},
    }

    def new_learner(self, architecture: ClassifierConfig, examples: Examples, learn: LearnConfig) -> SiteLearner:
        # Only eager attention can return its weights.
        encoder = load_encoder(self.corpus.encoder, pick_precision("auto", "cpu"), "eager")
        torch.manual_seed(learn.seed)
        attach(encoder, self.settings["model.rank"])
        network = SiteNetwork(replace(architecture, rank=self.settings["model.rank"]), encoder)
        return SiteLearner(network, examples, learn, torch.device("cpu"))

    def reader(self, examples: Examples, keep: bool) -> SiteLearner:
        learner = self.learner
        return SiteLearner(learner.network, examples, replace(learner.config, windows=ALL, marking=0.0), learner.device)

    def first_attention(self, reader: SiteLearner) -> list[NDArray]:
        weights = [np.zeros(len(ids)) for ids in reader.examples.ids]
        for batch, rows in batches(reader):
            batch.lay(reader.network.first_attention(batch), [weights[row] for row in rows])
        return weights

    def report(self, row: Mapping[str, Any]) -> None:
        seconds = row["step"] / row["epoch"] / row["steps_per_second"]
        of = f"epoch {row['epoch']:.0f} of {self.settings['train.epochs']:.0f}"
        self.task.say(f"{self.task.arm.key}: {of}: {seconds:,.0f} s, macro-F1 of valid {row['valid_macro_f1']:.3f}")


def fit(task: Task) -> Adapted:
    """A model, trained or taken from the folder of models."""
    return Adapted(task).fitted(selected_rationales)
