"""Trains a model into a checkpoint folder: `python -m jobs.train experiment=tcga data.path=... output.path=...`."""

import shlex
import sys

from jobs._front import job
from jobs._storage import use
from jobs._train import Config, fit_config


@job(
    "train",
    Config,
    "Trains the site classifier through Ray Train, calibrates it on valid, measures it on test, and writes a checkpoint folder "
    "with its model card. Needs Parquet files with a column that says train, valid or test.",
    examples=[
        "model=site_classifier experiment=tcga data.path='../shared/data/pathology_tcga/*.parquet' output.path=model",
        "data.path=reports.parquet data.labels={site:site_code} train.epochs=2 output.path=model",
    ],
)
def main(config: Config) -> None:
    """Trains, then calibrates and measures."""
    from engine.benchmarks.baseline import baseline_figures
    from engine.training.run import train_site_classifier

    use(config.storage)
    # The model card tells the command, and goes wherever the model goes; the address of the store does not.
    told = [each for each in sys.argv[1:] if not each.startswith("storage.")]
    figures = train_site_classifier(
        fit_config(config),
        config.output.path,
        command=f"python -m jobs.train {shlex.join(told)}",
        say=_say,
        baseline=baseline_figures if config.baseline else None,
        evidence_sample=config.evidence_sample,
    )
    for name, task in figures["tasks"].items():
        model, rival = task["model"], task["baseline"]
        beside = f" (baseline {rival['accuracy']:.3f}, {rival['macro_f1']:.3f})" if rival else ""
        print(f"{name}: accuracy {model['accuracy']:.3f}, macro-F1 {model['macro_f1']:.3f} on {model['n']} test reports{beside}")
    print(f"checkpoint: {config.output.path}; its figures: {config.output.path}/README.md")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
