"""Heads on a frozen encoder: the token states of a text are made once and kept in the folder of models, which studies share; what
is trained are the pool and the linear layer. So many arms fit on a small machine. What holds for such heads need not hold for a
model that is trained with its encoder."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from engine.encoders import encoder_digest
from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
from engine.models.site_classifier.head_learner import HeadLearner
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.states import TextStates
from engine.studies.run import Task
from engine.studies.site_classifier.states import NoEncoder, ProjectedFolder, first_attention, keys_of, windowed
from engine.studies.site_classifier.sufficiency import selected_rationales
from engine.studies.site_classifier.trained import DEFAULTS, Classifier

_FOLDERS: dict[str, ProjectedFolder] = {}


class Heads(Classifier):
    """`model.width` numbers are kept of a token's state, its first principal directions in the texts of train; 0 keeps all."""

    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "model.width": 128}

    def new_learner(self, architecture: ClassifierConfig, examples: Examples, learn: LearnConfig) -> SiteLearner:
        states = self.states(examples)
        torch.manual_seed(learn.seed)
        return HeadLearner(SiteNetwork(architecture, NoEncoder(states.width)), examples, states, learn, torch.device("cpu"))

    def reader(self, examples: Examples, keep: bool) -> SiteLearner:
        learner = self.learner
        return HeadLearner(learner.network, examples, self.states(examples, keep), learner.config, learner.device)

    def first_attention(self, reader: SiteLearner) -> list[NDArray]:
        weights = first_attention(self.state_folder.folder, self.corpus.network, reader.examples)
        return [each.astype(np.float64) for each in weights]

    def states(self, examples: Examples, keep: bool = True) -> TextStates:
        """The token states of examples, in their order."""
        network = self.corpus.network
        return self.state_folder.states(keys_of(examples), lambda members: windowed(network, examples, members), keep)

    @property
    def state_folder(self) -> ProjectedFolder:
        corpus, get = self.corpus, self.settings.__getitem__
        parts = (corpus.set.digest[:12], encoder_digest(corpus.encoder)[:12], get("model.window"), get("model.width"))
        # The directions of the projection are those of the chosen texts of train.
        path = self.task.models / "-".join(map(str, ("states", *parts, get("data.train_records"), get("data.max_tokens"))))
        if str(path) not in _FOLDERS:
            folder = ProjectedFolder(path, corpus.network.encoder.config.hidden_size, get("model.width"))
            examples = corpus.examples(pa.concat_tables([self.texts.base, self.texts.pool]))
            folder.fit(keys_of(examples), lambda members: windowed(corpus.network, examples, members))
            _FOLDERS.clear()
            _FOLDERS[str(path)] = folder
        return _FOLDERS[str(path)]


def fit(task: Task) -> Heads:
    """A head, trained or taken from the folder of models."""
    return Heads(task).fitted(selected_rationales)
