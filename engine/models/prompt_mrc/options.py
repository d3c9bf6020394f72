"""What a run of the extractor may set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.keys import key
from engine.models.options import TextOptions
from engine.models.prompt_mrc.templates import read_questions

EVIDENCE_METHODS = ("gradient_x_input", "none")
_THRESHOLDS = ("start", "end", "match")


@dataclass(frozen=True)
class Options(TextOptions):
    """`questions` are a user's own, type -> text: for a type of the model in place of its template, for any other without
    training (zero-shot). `prompts`, `nested`, `flat_across_types` and `thresholds` go before the checkpoint's."""

    types: tuple[str, ...] = key(
        (),
        "Types to look for, such as [Disease,Chemical], in addition to the types of your own questions; [] looks "
        "for all types of the model.",
        at="entities.types",
    )
    questions: Mapping[str, str] = key(
        {},
        "Your own questions, one for each type, such as {Device: 'Which implants are named?'}; entities of new "
        "types are marked zero_shot.",
        at="entities.questions",
    )
    questions_file: str | None = key(
        None,
        "YAML file with your own questions, one on each line: type, colon, question.",
        at="entities.questions_file",
        path=True,
    )
    prompts: str | None = key(
        None,
        "File with soft prompts of another domain, used in place of the checkpoint's prompts. If you give a "
        "folder, the message lists the prompts in it.",
        at="model.prompts",
        path=True,
    )
    nested: bool | None = key(
        None,
        "Whether an entity may lie within another one of the same type; null leaves it to the checkpoint.",
        at="entities.nested",
    )
    flat_across_types: bool | None = key(
        None, "Whether overlap is forbidden between entities of different types too.", at="entities.flat_across_types"
    )
    thresholds: Mapping[str, float] = key(
        {},
        "Lowest probabilities at which start, end and match count, such as {start: 0.6}; others are the checkpoint's.",
        at="entities.thresholds",
        low=0.0,
        high=1.0,
    )
    evidence: str = key(
        EVIDENCE_METHODS[0], "How evidence is found; none gives no evidence.", at="explain.method", choices=EVIDENCE_METHODS
    )
    spans: int = key(3, "Largest number of evidence spans for each entity that has evidence.", at="explain.spans", low=1, high=50)
    every: bool = key(
        False,
        "Give evidence for every entity, at several times the cost; false: only for the entity with the highest "
        "score of each type in a report.",
        at="explain.every",
    )
    margins: float = key(
        1.0,
        "Share of reports, chosen by id, whose entities are also scored under the other types' questions (columns "
        "margin, confused_with).",
        at="explain.margins_fraction",
        low=0.0,
        high=1.0,
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

    @property
    def asked(self) -> dict[str, str]:
        """The user's questions, with those of the file.

        Raises:
            ConfigError: the file cannot be read, or asks for a type that is asked for already.
        """
        questions = dict(self.questions)
        for name, text in read_questions(Path(self.questions_file)).items() if self.questions_file is not None else ():
            if name in questions:
                raise ConfigError(f"entities.questions: the type '{name}' is asked for there and in the file; name it once")
            questions[name] = text
        return questions

    def completed(self, kept: Sequence[str]) -> dict[str, Any]:
        """See `SystemOptions`. Questions from a file become settings of their own, so that a run is told by what it asked."""
        options = {**super().completed(kept), "questions": self.asked}
        del options["questions_file"]
        return options
