"""Runs one of the studies behind docs/results: `python -m jobs.study study=<name> data.path=... output.path=...`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from engine.keys import MISSING, key, section
from engine.studies.study import FOLDER
from jobs._front import RESUMES, job


@dataclass
class Data:
    path: str = key(MISSING, "Folder that the study's corpora lie in, as its file names them.", path=True)


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the rows and answers; the same command again goes on where it stopped.", path=True)
    models: str | None = key(
        None, "Folder for trained models, which studies may share; null is the folder models beside the results.", path=True
    )
    recorded: bool = key(True, "Take the arms as measured whose rows stand in docs/results/data with the same settings.")
    record: bool = key(False, "Write all rows to docs/results/data and make the tables of docs/results anew.")


@dataclass
class Config:
    study: str = key(MISSING, "A study under conf/study by its name, or a YAML file of your own.")
    data: Data = section(Data)
    output: Output = section(Output)
    only: list[str] = key([], "Arms to measure now, as patterns of <corpus>/<arm>/<seed>; empty is all of them.")
    threads: int = key(0, "CPU threads; 0 is all cores.", low=0)


@job(
    "study",
    Config,
    "Fits and measures the arms of a study, each kept when it is done: <output.path>/metrics.parquet has every figure with its "
    "interval, results.md the tables.",
    examples=[
        "study=prompt_mrc/prompt_ablation data.path='<folder>' output.path=prompt_ablation",
        "study=rationales/augment data.path='<folder>' output.path=augment 'only=[hoc/dpla-*]'",
    ],
    # A study is a value of a key here and no choice of a group, though the files lie in a folder of that name.
    conf=FOLDER,
    again=RESUMES,
)
def main(config: Config) -> None:
    """Runs the study and prints its tables."""
    from engine.studies import results
    from engine.studies.render import main as render_pages
    from engine.studies.render import summary
    from engine.studies.run import Place, Runner, record
    from engine.studies.study import read_study

    study, output = read_study(config.study), Path(config.output.path)
    models = Path(config.output.models) if config.output.models else output / "models"
    place = Place(config.data.path, output, models, config.threads, config.output.recorded)
    rows = Runner(study, place, lambda line: print(line, file=sys.stderr, flush=True)).run(config.only)
    tables = summary(study, rows)
    (output / "results.md").write_text(f"# {study.question}\n\n{tables}\n", encoding="utf-8")
    print(tables)
    if config.output.record:
        table, arms = results.read(output / "metrics.parquet")
        results.write(record(study.name), table, arms)
        render_pages()


if __name__ == "__main__":
    main()
