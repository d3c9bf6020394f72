"""What a phase of a training begins with: the network as the phase before left it, and the facts of the examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from engine.encoders import CHARACTERS, load_encoder
from engine.models.base import read_tensors
from engine.models.examples import read_index
from engine.models.guided_ner.checkpoint import load_tensors, read_checkpoint
from engine.models.guided_ner.config import Config
from engine.models.guided_ner.network import Network
from engine.models.guided_ner.vocabulary import Vocabulary


def begun(settings: Mapping[str, Any], facts: Mapping[str, Any], device: torch.device) -> Network:
    """The network as a phase begins: with the tensors of the phase before, of the base model, or of a pretrained encoder."""
    torch.manual_seed(settings["seed"])
    model, network = settings["model"], Network(Config(**facts["config"]))
    if "before" in settings:
        given = read_tensors(settings["before"])
    elif model["base"]:
        given = load_tensors(read_checkpoint(model["base"]))
    elif model["encoder"] == CHARACTERS:
        given = {}
    else:
        encoder = load_encoder(model["encoder"], torch.float32, "eager").state_dict()
        given = {f"encoder.{name}": value for name, value in encoder.items()}
    network.load_state_dict({name: value for name, value in given.items() if not name.startswith("words.")}, strict=False)
    return network.to(device)


def facts_of(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts of the training's examples."""
    return read_index(settings["examples"]).facts


def vocabulary_of(facts: Mapping[str, Any]) -> Vocabulary:
    return Vocabulary(np.array(facts["spared"], bool), {int(token): others for token, others in facts["others"].items()})
