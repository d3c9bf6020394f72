"""Measures a finished run against labels: `python -m jobs.evaluate run=coded gold=labels.csv output.path=evaluation`."""

from dataclasses import dataclass

from engine.keys import MISSING, key, section
from engine.sources.base import DOUBLE, QUOTING
from jobs._front import job
from jobs._storage import Storage, use


@dataclass
class Output:
    path: str = key(
        MISSING,
        "Folder for metrics/metrics.parquet, wrong/wrong.parquet and report.html; must not hold an evaluation yet.",
        path=True,
    )


@dataclass
class Model:
    path: str | None = key(
        None,
        "Checkpoint of the run, to tell codes that it does not know or never gives without a person; null tries the one that "
        "comes along.",
        path=True,
    )


@dataclass
class Config:
    run: str = key(MISSING, "Folder of the run, the output.path of jobs.code_reports.", path=True)
    gold: str = key(MISSING, "Table with the right codes: a Parquet, CSV or JSONL file, a folder or a glob.", path=True)
    output: Output = section(Output)
    id: str | None = key(None, "Column of the gold table with the records' ids; null is the column that the run took.")
    id_scope: str | None = key(
        None, "'file' puts the gold file's name in front of its ids; null does what the run did.", choices=("input", "file")
    )
    source: str | None = key(
        None, "Column of the gold table that stands in front of the id with a colon, such as the file's name."
    )
    labels: dict[str, str] = key(
        {}, "Column with the right code, for each task, such as {site: icdo3_site}; {} is the tasks' names."
    )
    group: str | None = key(None, "Column of the patient; records of one patient are drawn together for the intervals.")
    slices: list[str] = key([], "Columns of the gold table or the run to part the figures by, such as [facility,ocr_source].")
    where: dict[str, str] = key({}, "Take the rows of the gold table with these values only, such as {split: test}.")
    text: str | None = key(None, "Column of the gold table with the texts; only needed for spans.")
    spans: dict[str, str] = key(
        {}, "Column with the spans that people marked, for each task; lists of start and end, or as JSON."
    )
    encoding: str = key("utf-8", "Encoding of a gold table in CSV or JSONL.")
    delimiter: str | None = key(None, "What separates columns of CSV; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(DOUBLE, "Quotes in CSV, as in input.quoting of the jobs.", choices=QUOTING)
    escape: str | None = key(None, "Character that makes a quote, delimiter or line end behind it part of a CSV column.")
    model: Model = section(Model)
    storage: Storage = section(Storage)
    rounds: int = key(1000, "Draws for the intervals.", low=10)
    level: float = key(0.95, "Confidence of intervals and bounds.", low=0.5, high=0.999)
    seed: int = key(0, "Seed of the draws.", low=0)
    title: str = key("Evaluation", "Title of the report.")


@job(
    "evaluate",
    Config,
    "Measures a finished run against the right codes: a metrics table with confidence intervals and slices, a table of the wrong "
    "answers by record id, and a self-contained HTML report. None of them holds text of a report.",
    examples=[
        "run=coded gold=labels.csv labels='{site: site_code}' group=patient_id output.path=evaluation",
        "run=coded gold='data/*.parquet' where='{split: test}' slices=[facility,ocr_source] output.path=evaluation",
    ],
)
def main(config: Config) -> None:
    """Measures, writes the tables and the report, prints the main figures."""
    from engine.pipeline import status
    from jobs._evaluate import main_figures, measured, model_of, write, wrong_figures

    use(config.storage)
    summary = status(config.run)
    model = model_of(config.model.path, summary)
    evaluation = measured(config, summary, model)
    table, wrong, report = write(config, summary, evaluation, model)
    print(main_figures(evaluation, summary, config.level))
    print(f"\n{wrong_figures(evaluation)}\nWrong answers by record id: {wrong}\nTable: {table}\nReport: {report}")


if __name__ == "__main__":
    main()
