"""What a run of the extractor may set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.keys import key
from engine.models.entities.settings import EntityOptions
from engine.models.prompt_mrc.templates import read_questions


@dataclass(frozen=True)
class Options(EntityOptions):
    """A user's own `questions` map types to texts. For a type of the model they replace its template; other types are asked for
    without training (zero-shot). `prompts`, `nested` and `flat_across_types` override the checkpoint's."""

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
