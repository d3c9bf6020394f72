"""Entities of a single text, for a service or a notebook: types or a free question in, spans and evidence out."""

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
    """The entities of a text, in its order, each with the fields of the table `entities`, evidence included, its own `text`,
    and `cue`, the words that deny or doubt it, if there are any.

    Args:
        types: types to look for, as `types` of the options; without types and question all types of the model.
        question: a question in the user's own words. Its answers have the type `question` and are marked `zero_shot`.
        model: a checkpoint folder. options, runtime: of the extractor; `every` is on by default here.
    Raises:
        ConfigError: the text is empty or longer than the extractor reads, or the model has no such type or reads no questions.
    """
    options = dict(options or {})
    if types and options.get("types"):
        raise ConfigError("types: name them once, as types or in options")
    questions = dict(options.get("questions") or {})
    if question is not None:
        questions[QUESTION] = question
    types = list(types or options.get("types") or ([] if question is None else [QUESTION]))
    every = options.get("evidence") != "none"
    options = {"every": every, **options, "questions": questions, "types": types}
    return answer(load(ModelSpec("engine.models.prompt_mrc", model, options, dict(runtime or {}))), text)


def finder(model: str = "shipped") -> Callable[[str], list[dict[str, Any]]]:
    """A function from a text to its entities, as `answer` returns them, without evidence; the model is loaded once."""
    return partial(answer, load(ModelSpec("engine.models.prompt_mrc", model, {"evidence": "none"})))


def answer(extractor: Extractor, text: str) -> list[dict[str, Any]]:
    """The entities that an extractor finds in a text, see `consult`.

    Raises:
        ConfigError: the text is empty, not valid Unicode, or longer than the extractor reads.
    """
    records = records_of(["consultation"], [text])
    if pc.struct_field(records["failure"], "kind")[0].as_py() == "invalid_encoding":
        raise ConfigError("the text is not valid Unicode: it has half of a surrogate pair; decode it again")
    prepared = extractor.prepare(records)
    if prepared["failure"][0].is_valid:
        raise ConfigError("the text is empty")
    beyond = prepared["truncated_chars"][0].as_py()
    if beyond:
        raise ConfigError(
            f"the text is too long: its last {beyond:,} characters are not read; raise max_tokens in options, or split the text"
        )
    (row,) = extractor.run(prepared).to_pylist()
    return [
        entity
        | {"text": text[entity["start"] : entity["end"]]}
        | {"cue": None if entity["cue_start"] is None else text[entity["cue_start"] : entity["cue_end"]]}
        for entity in row["entities"]
    ]
