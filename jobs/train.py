"""Trains a model into a checkpoint folder: `python -m jobs.train preset=tcga data.path=... output.path=...`."""

import shlex
import sys
from importlib import import_module
from typing import Any

from engine.records import CODES, ENTITIES
from engine.storage import S3Config, use_s3
from jobs._front import job
from jobs._train import schema, settings_of

# The job that writes a table.
JOBS = {CODES: "code_reports", ENTITIES: "extract_entities"}


@job(
    "train",
    schema,
    "Trains a system through Ray Train, sets its thresholds on the validation set, measures it on the test "
    "set, and writes a checkpoint folder with a model card. model=<name> chooses the system, data.path the "
    "texts to learn from.",
    examples=[
        "preset=tcga data.path='<folder>/pathology_tcga/*.parquet' output.path=model",
        "data.path=reports.parquet 'data.labels={site: site_code}' train.epochs=2 output.path=model",
        "data.path=mine.parquet data.id=number data.text=report 'data.labels={site: site}' data.group=null output.path=mine",
        "preset=head model.base=shipped model.head=cls data.path=reports.parquet output.path=headed",
    ],
)
def main(config: Any) -> None:
    """Trains, prints the figures, and what to do next."""
    from engine.models import base
    from engine.training.config import LoopConfig
    from engine.training.run import resume_message, train_system

    use_s3(S3Config(**vars(config.storage)))
    system, output = config.model.system, config.output.path
    cluster = {name: value for name, value in vars(config.cluster).items() if name != "precision"}
    try:
        figures = train_system(
            system,
            settings_of(config),
            output,
            loop=LoopConfig(**vars(config.train)),
            command=_command(),
            say=lambda line: print(line, file=sys.stderr, flush=True),
            cluster=cluster,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(resume_message(output)) from None
    recipe = base.recipe(system)
    cautions = recipe.cautions(figures)
    print("\n".join(recipe.report(figures)))
    print(f"Checkpoint: {output}; its model card, with all figures: {output}/README.md")
    module, systems = import_module(system), base.systems()
    # A job must be told a system of the user's own, and one that is not its default.
    alone = list(systems.values()).count(module.TABLE) == 1
    choice = "" if system in systems and (alone or getattr(module, "DEFAULT", False)) else f"model.system={system} "
    name = JOBS.get(module.TABLE)
    command = f"python -m jobs.{name} {choice}" if name else choice
    print(f"To use it: {command}model.path={output}{' input.path=... output.path=...' if name else ''}")
    if cautions:
        print("\n".join(["Before you use it:", *(f"* {line}" for line in cautions)]))


def _command() -> str:
    """The command for the model card. The card goes wherever the model goes, so the address of the store is left out."""
    return f"python -m jobs.train {shlex.join(word for word in sys.argv[1:] if not word.startswith('storage.'))}"


if __name__ == "__main__":
    main()
