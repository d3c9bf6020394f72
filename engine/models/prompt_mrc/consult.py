"""Entities of a single text, for a service or a notebook: types or a free question in, spans and evidence out."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.entities.consult import answer
from engine.models.prompt_mrc import load

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
