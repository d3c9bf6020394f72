"""Trains a model into a checkpoint folder: `python -m jobs.train experiment=tcga data.path=... output.path=...`."""

import shlex
import sys
from collections.abc import Sequence

from jobs._front import job
from jobs._storage import use
from jobs._train import MRC, Config, fit_config


@job(
    "train",
    Config,
    "Trains a system through Ray Train, calibrates it on valid, measures it on test, and writes a checkpoint folder with its "
    "model card. The site classifier needs a table with a column for id, text and codes, and best some for patient and "
    "split, which otherwise a hash makes; a threshold by which it may code anything without a person takes 203 valid reports at "
    "the least. prompt_mrc needs annotated text: IOB2, BRAT, GENIA XML, or Parquet with tokens and tags or with text and spans.",
    examples=[
        "model=site_classifier experiment=tcga data.path='<folder>/pathology_tcga/*.parquet' output.path=model",
        "data.path=reports.parquet 'data.labels={site: site_code}' train.epochs=2 output.path=model",
        "data.path=mine.parquet data.id=number data.text=report 'data.labels={site: site}' data.group=null output.path=mine",
        "model=prompt_mrc data.path=NCBI-disease.parquet model.mode=hybrid output.path=diseases",
    ],
)
def main(config: Config) -> None:
    """Trains, then calibrates and measures."""
    from engine.training.run import continues

    use(config.storage)
    try:
        (_extractor if config.model.system == MRC else _site_classifier)(config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(continues(config.output.path)) from None


def _site_classifier(config: Config) -> None:
    from engine.benchmarks.baseline import baseline_figures
    from engine.training.cautions import of_tasks
    from engine.training.run import train_site_classifier

    figures = train_site_classifier(
        fit_config(config),
        config.output.path,
        command=_command(),
        say=_say,
        baseline=baseline_figures if config.baseline else None,
        evidence_sample=config.evidence_sample,
    )
    for name, task in figures["tasks"].items():
        model, rival = task["model"], task["baseline"]
        beside = f" (baseline {rival['accuracy']:.3f}, {rival['macro_f1']:.3f})" if rival else ""
        print(f"{name}: accuracy {model['accuracy']:.3f}, macro-F1 {model['macro_f1']:.3f} on {model['n']} test reports{beside}")
    _close(config, of_tasks(figures))


def _extractor(config: Config) -> None:
    from dataclasses import replace
    from functools import partial

    from engine.models.prompt_mrc.checkpoint import read_checkpoint
    from engine.training.cautions import of_entities
    from engine.training.prompt_mrc import DataConfig, check, corpus_digest, load_corpus, spent
    from engine.training.prompt_mrc_finish import finish, marks_told
    from engine.training.prompt_mrc_templates import with_templates
    from engine.training.run import train_system

    settings = fit_config(config)
    corpus = load_corpus(DataConfig(**settings.settings["data"]))
    asked = with_templates(settings.settings, corpus, config.model.ontology, config.model.mentions)
    check(asked, corpus)
    if asked["base"]:
        # Another model at the same place is not what a training began with.
        asked = {**asked, "base_digest": read_checkpoint(asked["base"]).digest}
    settings = replace(settings, settings=asked)
    _say(", ".join(f"{name}: {count:,}" for name, count in corpus.counts().items()))
    marked = {**vars(spent(settings.settings, corpus)), "coordinated": corpus.coordinated}
    for line in [*corpus.broken.lines(), *marks_told(marked)]:
        _say(line)
    made = partial(finish, command=_command(), say=_say, device="cuda" if config.cluster.gpu else "cpu")
    figures = train_system(settings, config.output.path, given=corpus_digest(corpus), say=_say, finish=made)
    for part, values in figures["test"].items():
        if values["f1"][0] is not None and part != "macro":
            rest = ", ".join(
                f"{name} {values[name][0]:.3f}"
                for name in ("overlap_f1", "start_accuracy", "end_accuracy")
                if values[name][0] is not None
            )
            print(f"{part.removeprefix('type=')}: exact F1 {values['f1'][0]:.3f} on test, {rest}")
    _close(config, of_entities(figures))


def _close(config: Config, cautions: Sequence[str]) -> None:
    job = "extract_entities" if config.model.system == MRC else "code_reports"
    print(f"Checkpoint: {config.output.path}; its model card, with all figures: {config.output.path}/README.md")
    print(f"To use it: python -m jobs.{job} model.path={config.output.path} input.path=... output.path=...")
    if cautions:
        print("\n".join(["Before you use it:", *(f"* {line}" for line in cautions)]))


def _command() -> str:
    """The model card tells the command, and goes wherever the model goes; the address of the store does not."""
    return f"python -m jobs.train {shlex.join(each for each in sys.argv[1:] if not each.startswith('storage.'))}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
