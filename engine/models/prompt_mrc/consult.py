"""Asking about one text: types or a free question in, spans and evidence out. What a service or a notebook calls."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.prompt_mrc.extractor import Extractor, load
from engine.records import records_schema

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
        types: types to look for; without any and without a question all of the model.
        question: a question in the user's own words. What answers it has the type `question` and is marked `zero_shot`.
        model: a checkpoint folder. options, runtime: as `Extractor` has them; `every` is true unless they say otherwise.
    Raises:
        ConfigError: the text is empty, or the model has no such type or reads no questions.
    """
    asked = dict((options or {}).get("questions", {})) | ({QUESTION: question} if question is not None else {})
    wanted = [*types, *([QUESTION] if question is not None else [])]
    spec = ModelSpec(
        "engine.models.prompt_mrc",
        model,
        {"every": True, **(options or {}), "questions": asked, "types": wanted},
        dict(runtime or {}),
    )
    return answer(load(spec), text)


def answer(extractor: Extractor, text: str) -> list[dict[str, Any]]:
    """The entities of a text by an extractor that is at hand.

    Raises:
        ConfigError: the text is empty.
    """
    record = {"row": 0, "record_id": "consultation", "source": "", "position": 0, "text": text, "failure": None, "keep": {}}
    prepared = extractor.prepare(pa.Table.from_pylist([record], schema=records_schema()))
    if prepared["failure"][0].is_valid:
        raise ConfigError("the text is empty")
    (row,) = extractor.run(prepared).to_pylist()
    return [entity | {"text": text[entity["start"] : entity["end"]]} for entity in row["entities"]]
