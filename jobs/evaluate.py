"""Measures a finished run against labels: `python -m jobs.evaluate run=coded gold=labels.csv output.path=evaluation`."""

from dataclasses import dataclass, fields

from engine.errors import ConfigError
from engine.keys import MISSING, key, same, section
from engine.models.code_columns import CodeData
from engine.storage import S3Config, storage_for, use_s3
from jobs._finished import deciding_of_run, system_at_hand
from jobs._front import job


@dataclass
class Output:
    path: str = key(
        MISSING,
        "Folder for metrics/metrics.parquet, wrong/wrong.parquet and report.html, without an earlier evaluation.",
        path=True,
    )


@dataclass
class Model:
    path: str | None = key(
        None,
        "Checkpoint of the run, used to show which codes and types it does not know, or never gives without a "
        "person; null tries the included model.",
        path=True,
    )


@dataclass
class Config:
    run: str = key(
        MISSING, "Folder of the run, the output.path of jobs.code_reports, jobs.extract_entities or jobs.read_images.", path=True
    )
    gold: str = key(
        MISSING,
        "The right answers. For codes and findings a table: a Parquet, CSV or JSONL file, a folder or a glob. For entities "
        "marked texts: BRAT, IOB2, GENIA, Parquet with text and spans or tokens and tags, or CSV or JSONL with text and spans.",
        path=True,
    )
    output: Output = section(Output)
    id: str | None = key(None, "Column of the gold table with the records' ids; null takes the run's input.id.")
    id_scope: str | None = key(
        None, "'file' puts the gold file's name in front of its ids; null does the same as the run.", choices=("input", "file")
    )
    source: str | None = key(
        None, "Column of the gold table whose value, with a colon, goes in front of the id, such as the file's name."
    )
    labels: dict[str, str] = key(
        {},
        "Column with the right code for each task, such as {site: icdo3_site}, or with the state of each finding; {} takes the "
        "names of tasks or findings.",
    )
    findings: str | None = key(
        None,
        "For findings: column with a list of name and state (1 positive, 0 negative, -1 uncertain) for each study; labels is for "
        "a column a finding.",
    )
    types: dict[str, str] = key(
        {},
        "For entities: new names of types, so that gold and run agree, such as {Disorder: Disease}. Types with the same new "
        "name count as one.",
    )
    group: str | None = key(None, "Column with the patient; for the intervals, all records of a patient are resampled together.")
    slices: list[str] = key(
        [],
        "Columns of the gold table or the run; figures are also given for each of their values, such as [facility,ocr_source].",
    )
    where: dict[str, str] = key({}, "Take only the rows of the gold table with these values, such as {split: test}.")
    text: str | None = key(None, "Column of the gold table with the texts; needed only for spans.")
    spans: dict[str, str] = key(
        {}, "Column with the spans that people marked, for each task: lists of start and end, or the same as JSON."
    )
    encoding: str = key("utf-8", "Encoding of a gold table in CSV or JSONL.")
    delimiter: str | None = same(CodeData, "delimiter")
    quoting: str = same(CodeData, "quoting")
    escape: str | None = same(CodeData, "escape")
    model: Model = section(Model)
    storage: S3Config = section(S3Config)
    rounds: int = key(1000, "Resamples for the intervals.", low=10)
    level: float = key(0.95, "Confidence of intervals and bounds.", low=0.5, high=0.999)
    seed: int = key(0, "Seed of the resamples.", low=0)
    title: str = key("Evaluation", "Title of the report.")


@job(
    "evaluate",
    Config,
    "Measures a finished run against the right codes, or against entities that people marked: a metrics table with confidence "
    "intervals and slices, a table of the wrong answers by record id, and a self-contained HTML report. None of them holds text "
    "of a report.",
    examples=[
        "run=coded gold=labels.csv labels='{site: site_code}' group=patient_id output.path=evaluation",
        "run=coded gold='data/*.parquet' where='{split: test}' slices=[facility,ocr_source] output.path=evaluation",
        "run=found gold=annotated/ types='{Disorder: Disease}' output.path=evaluation",
    ],
)
def main(config: Config) -> None:
    """Measures, writes the tables and the report, prints the main figures."""
    from engine.evaluation.evaluate import evaluate
    from engine.evaluation.evaluation import METRICS_FILE, WRONG_FILE, write_tables
    from engine.evaluation.gold import GoldConfig
    from engine.evaluation.metrics import Rounds
    from engine.pages.evaluation import write_evaluation_page
    from engine.pipeline import status
    from jobs._figures import main_figures, wrong_figures

    use_s3(config.storage)
    summary, folder = status(config.run), config.output.path.rstrip("/")
    system = system_at_hand(summary, config.model.path)
    if not summary.files:
        raise ConfigError(f"run: {summary.output} has no tables yet; let the run finish first")
    report = f"{folder}/report.html"
    for name in (f"{folder}/{METRICS_FILE}", f"{folder}/{WRONG_FILE}", report):
        if storage_for(name).stat(name) is not None:
            raise ConfigError(f"output.path: {name} exists; name a new folder")
    settings = {each.name: getattr(config, each.name) for each in fields(GoldConfig) if hasattr(config, each.name)}
    settings["findings"] = config.findings or {}
    gold = GoldConfig(config.gold, **settings, names={"path": "gold"})
    rounds = Rounds(config.rounds, config.level, config.seed)
    labels = None if system is None else system.known()
    evaluation = evaluate(summary.table, summary.files, summary.settings, gold, labels, rounds)
    digest = str(summary.settings["model.digest"])
    metrics, wrong = write_tables(folder, evaluation, summary.run_id, digest)
    deciding = deciding_of_run(summary, evaluation.tasks)
    write_evaluation_page(
        report,
        config.title,
        evaluation,
        deciding=deciding,
        level=config.level,
        auto=None if system is None else system.auto(),
        note=f"run {summary.run_id}, model {digest[:12]}{'' if summary.finished else '; the run is not finished'}",
    )
    print(main_figures(evaluation, deciding, config.level))
    print(f"\n{wrong_figures(evaluation)}\nWrong answers by record id: {wrong}\nTable: {metrics}\nReport: {report}")


if __name__ == "__main__":
    main()
