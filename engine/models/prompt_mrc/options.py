"""What a run of the extractor may set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.keys import key
from engine.models.options import TextOptions
from engine.models.prompt_mrc.templates import read_questions

METHODS = ("attnlrp", "gradient_x_input", "none")
_THRESHOLDS = ("start", "end", "match")


@dataclass(frozen=True)
class Options(TextOptions):
    """A user's own `questions` map types to texts. For a type of the model they replace its template; other types are asked for
    without training (zero-shot). `prompts`, `nested`, `flat_across_types` and `thresholds` override the checkpoint's."""

    types: tuple[str, ...] = key(
        (), "Types to look for, beside those of your own questions; empty: all types of the model.", at="entities.types"
    )
    questions: Mapping[str, str] = key(
        {},
        "Your own questions by type, such as {Device: 'Which implants are named?'}; entities of new types are marked zero_shot.",
        at="entities.questions",
    )
    questions_file: str | None = key(
        None, "YAML file with such questions, one per line: type, colon, question.", at="entities.questions_file", path=True
    )
    prompts: str | None = key(
        None, "File with soft prompts of another domain; a folder lists the files that it has.", at="model.prompts", path=True
    )
    nested: bool | None = key(
        None, "Entities may overlap, also those of different types; null: as the checkpoint says.", at="entities.nested"
    )
    flat_across_types: bool | None = key(
        None,
        "Entities of different types may not overlap either; null: as the checkpoint says, or if nested=false is given.",
        at="entities.flat_across_types",
    )
    thresholds: Mapping[str, float] = key(
        {},
        "Thresholds of start, end and match, such as {start: 0.6}; else the model's.",
        at="entities.thresholds",
        low=0,
        high=1,
    )
    evidence: str = key(METHODS[0], "How evidence is found; none: no evidence.", at="explain.method", choices=METHODS)
    spans: int = key(3, "Most evidence spans of an entity that has evidence.", at="explain.spans", low=1, high=50)
    every: bool = key(
        False,
        "Evidence of every entity, at several times the cost; false: only of the best-scored one of each type in a report.",
        at="explain.every",
    )

    def __post_init__(self) -> None:
        unknown = sorted(set(self.thresholds) - set(_THRESHOLDS))
        if unknown:
            raise ConfigError(f"entities.thresholds: there is no '{unknown[0]}'; there are {', '.join(_THRESHOLDS)}")
        for name, value in self.thresholds.items():
            if not 0 < value < 1:
                raise ConfigError(f"entities.thresholds: {name} must lie between 0 and 1, and is {value:g}")
        if self.every and self.evidence == "none":
            raise ConfigError("explain.every: with explain.method=none there is no evidence; leave one of them out")

    def all_questions(self) -> dict[str, str]:
        """The user's questions, including those of the file.

        Raises:
            ConfigError: the file cannot be read, or asks for a type that is in `questions` too.
        """
        questions = dict(self.questions)
        from_file = {} if self.questions_file is None else read_questions(Path(self.questions_file))
        for name in from_file:
            if name in questions:
                raise ConfigError(f"entities.questions: the type '{name}' is asked for there and in the file; name it once")
        return questions | from_file

    def completed(self, kept: Sequence[str]) -> dict[str, Any]:
        """See `SystemOptions`. Questions from a file become options themselves, so that they are part of a run's fingerprint."""
        options = {**super().completed(kept), "questions": self.all_questions()}
        del options["questions_file"]
        return options
