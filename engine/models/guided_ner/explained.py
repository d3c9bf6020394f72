"""How the tagger's entities are explained."""

from collections.abc import Mapping, Sequence

from engine.models.base import ModelSpec
from engine.models.entities import explained
from engine.models.guided_ner.config import GLOBAL


def load(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> explained.ExplainedEntities:
    """See `engine.models.explained`."""
    entities = explained.explained(spec, names, targets)
    entities.own_methods = frozenset({GLOBAL})
    return entities
