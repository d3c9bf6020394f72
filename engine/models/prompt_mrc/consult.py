"""Asking about one text: types or a free question in, spans and evidence out. What a service or a notebook calls."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.prompt_mrc import Extractor, load
from engine.models.run import records_of

QUESTION = "question"


def consult(
    text: str,
    types: Sequence[str] = (),
    question: str | None = None,
    *,
    model: str = "shipped",
    options: Mapping[str, Any] | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The entities of a text, in its order, each with the fields of the table `entities`, evidence included, and its own `text`.

    Args:
        types: types to look for; without any and without a question all of the model. Those of `options` are the same.
        question: a question in the user's own words. What answers it has the type `question` and is marked `zero_shot`.
        model: a checkpoint folder. options, runtime: as `Extractor` has them; `every` is on unless they say otherwise.
    Raises:
        ConfigError: the text is empty or longer than the extractor reads, or the model has no such type or reads no questions.
    """
    given = dict(options or {})
    if types and given.get("types"):
        raise ConfigError("types: name them once, as types or in options")
    asked = dict(given.get("questions") or {})
    if question is not None:
        asked[QUESTION] = question
    every = given.get("evidence") != "none"
    wanted = list(types or given.get("types") or ([] if question is None else [QUESTION]))
    spec = ModelSpec(
        "engine.models.prompt_mrc", model, {"every": every, **given, "questions": asked, "types": wanted}, dict(runtime or {})
    )
    return answer(load(spec), text)


def finder(model: str = "shipped") -> Callable[[str], list[dict[str, Any]]]:
    """From a text to its entities as `answer` gives them, without evidence; the model is loaded once."""
    return partial(answer, load(ModelSpec("engine.models.prompt_mrc", model, {"evidence": "none", "margins": 0.0})))


def answer(extractor: Extractor, text: str) -> list[dict[str, Any]]:
    """The entities of a text by an extractor that is at hand.

    Raises:
        ConfigError: the text is empty, no Unicode text, or longer than the extractor reads.
    """
    records = records_of(["consultation"], [text])
    if pc.struct_field(records["failure"], "kind")[0].as_py() == "invalid_encoding":
        raise ConfigError("the text is no Unicode text: it has half of a surrogate pair; decode it anew")
    prepared = extractor.prepare(records)
    if prepared["failure"][0].is_valid:
        raise ConfigError("the text is empty")
    beyond = prepared["truncated_chars"][0].as_py()
    if beyond:
        raise ConfigError(
            f"the text is longer than is read: {beyond:,} characters lie beyond; raise max_tokens in options, or ask part by part"
        )
    (row,) = extractor.run(prepared).to_pylist()
    return [entity | {"text": text[entity["start"] : entity["end"]]} for entity in row["entities"]]
