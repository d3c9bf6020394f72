"""What a user may set for extracting entities, key by key, and how it becomes the engine's own settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.models.prompt_mrc.extractor import EVIDENCE_METHODS
from jobs._config import Cluster, Input, Output, cluster_of, reading_of, runtime_of, sizes_of
from jobs._keys import key, section
from jobs._ray_job import check_paths
from jobs._storage import Storage, s3_of

if TYPE_CHECKING:
    from engine.pipeline import RunConfig


@dataclass
class Model:
    system: str = key("engine.models.prompt_mrc", "The package of the extracting system.")
    path: str = key("shipped", "Checkpoint folder; 'shipped' is the model that comes along.", path=True)
    prompts: str | None = key(
        None,
        "File with soft prompts of another domain, in place of the checkpoint's; a folder lists those that it has.",
        path=True,
    )


@dataclass
class Text:
    max_tokens: int = key(
        16_384, "Tokens read of a report. What lies beyond is counted in truncated_chars and sends the report to review.", low=16
    )


@dataclass
class Entities:
    types: list[str] = key(
        [], "Types to look for, such as [Disease,Chemical], beside those of your own questions; all of the model where empty."
    )
    questions: dict[str, str] = key(
        {}, "Your own questions, a type each, such as {Device: 'Which implants are named?'}; new types are marked zero_shot."
    )
    questions_file: str | None = key(None, "YAML file with such questions, a line each: type, colon, question.", path=True)
    nested: bool | None = key(None, "Whether entities of a type may lie in each other; null leaves it to the checkpoint.")
    flat_across_types: bool | None = key(None, "Whether entities of different types must not overlap either.")
    thresholds: dict[str, float] = key(
        {}, "Probabilities from which start, end and match count, such as {start: 0.6}; else the checkpoint's.", low=0.0, high=1.0
    )


@dataclass
class Explain:
    method: str = key("gradient_x_input", "How evidence is found; none is no evidence.", choices=EVIDENCE_METHODS)
    spans: int = key(3, "Most evidence spans for each entity that has evidence.", low=1, high=50)
    every: bool = key(
        False, "Evidence of every entity, at several times the cost; false: of the best-scored one of each type in a report."
    )
    margins_fraction: float = key(
        1.0, "Share of reports, chosen by id, whose entities are scored under the other types' questions.", low=0.0, high=1.0
    )


@dataclass
class ExtractEntities:
    input: Input = section(Input)
    output: Output = section(Output)
    model: Model = section(Model)
    text: Text = section(Text)
    entities: Entities = section(Entities)
    explain: Explain = section(Explain)
    cluster: Cluster = section(Cluster)
    storage: Storage = section(Storage)
    deterministic: bool = key(False, "The same bits whatever the batches and shards: slower, each report goes alone.")
    max_failed: float = key(1.0, "Share of failed records above which a finished run ends with exit code 4.", low=0.0, high=1.0)


def run_config(config: ExtractEntities) -> "RunConfig":
    """The engine's settings. Questions from a file become settings of their own, so that a run is told by what it asked.

    Raises:
        ConfigError: settings that cannot go together, or a file with questions that cannot be read.
    """
    from engine.models.base import ModelSpec
    from engine.models.prompt_mrc.templates import read_questions
    from engine.pipeline import RunConfig

    check_paths({"input.path": config.input.path, "output.path": config.output.path})
    if config.model.path != Model.path:
        check_paths({"model.path": config.model.path})
    asked = config.entities
    questions = dict(asked.questions)
    if asked.questions_file is not None:
        for name, text in read_questions(Path(asked.questions_file)).items():
            if name in questions:
                raise ConfigError(f"entities.questions: the type '{name}' is asked for there and in the file; name it once")
            questions[name] = text
    if not config.model.system.startswith(Model.system):
        raise ConfigError(f"model.system: {config.model.system} does not extract entities; use {Model.system}")
    return RunConfig(
        input=reading_of(config.input),
        model=ModelSpec(
            system=config.model.system,
            path=config.model.path,
            options={
                "max_tokens": config.text.max_tokens,
                "types": asked.types,
                "questions": questions,
                "prompts": config.model.prompts,
                "nested": asked.nested,
                "flat_across_types": asked.flat_across_types,
                "thresholds": asked.thresholds,
                "evidence": config.explain.method,
                "spans": config.explain.spans,
                "every": config.explain.every,
                "margins": config.explain.margins_fraction,
                "precision": config.cluster.precision,
                "deterministic": config.deterministic,
            },
            runtime=runtime_of(config.cluster),
        ),
        output=config.output.path,
        cluster=cluster_of(config.cluster),
        max_failed=config.max_failed,
        s3=s3_of(config.storage),
        **sizes_of(config.cluster, config.output),
    )
