"""Entities of a single text, for a service, a notebook or a page."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.models.base import ModelSpec, load
from engine.models.entities.system import EntitySystem
from engine.models.run import records_of


def finder(system: str, model: str = "shipped") -> Callable[[str], list[dict[str, Any]]]:
    """A function from a text to its entities, as `answer` returns them, without evidence; the model is loaded once.

    Args:
        system: a package. model: a checkpoint folder of it.
    """
    return partial(answer, load(ModelSpec(system, model, {"evidence": "none"})))


def answer(system: EntitySystem, text: str) -> list[dict[str, Any]]:
    """The entities that a system finds in a text, in its order, each with the fields of the table `entities`, its own `text`, and
    `cue`, the words that deny or doubt it, if there are any.

    Raises:
        ConfigError: the text is empty, not valid Unicode, or longer than the system reads.
    """
    records = records_of(["consultation"], [text])
    if pc.struct_field(records["failure"], "kind")[0].as_py() == "invalid_encoding":
        raise ConfigError("the text is not valid Unicode: it has half of a surrogate pair; decode it again")
    prepared = system.prepare(records)
    if prepared["failure"][0].is_valid:
        raise ConfigError("the text is empty")
    beyond = prepared["truncated_chars"][0].as_py()
    if beyond:
        raise ConfigError(
            f"the text is too long: its last {beyond:,} characters are not read; raise max_tokens in options, or split the text"
        )
    (row,) = system.run(prepared).to_pylist()
    return [
        entity
        | {"text": text[entity["start"] : entity["end"]]}
        | {"cue": None if entity["cue_start"] is None else text[entity["cue_start"] : entity["cue_end"]]}
        for entity in row["entities"]
    ]
