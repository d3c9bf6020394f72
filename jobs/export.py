"""Writes the table of a run as CSV for a spreadsheet."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.pages.sheet import ALL, DELIMITERS, ROWS
from engine.storage import S3Config, use_s3
from jobs._front import job

MOST_LINES = 1_048_575


@dataclass
class Output:
    path: str = key(MISSING, "Folder of the run, as given to jobs.code_reports or jobs.extract_entities.", path=True)


@dataclass
class Export:
    path: str = key(MISSING, "CSV file to write; an earlier export that is there is replaced, and no other file.", path=True)
    delimiter: str = key(
        ",",
        "What stands between cells: a semicolon where Excel writes numbers with a comma, as in most of Europe; "
        "numbers then have one too.",
        choices=DELIMITERS,
    )


@dataclass
class Config:
    output: Output = section(Output)
    export: Export = section(Export)
    storage: S3Config = section(S3Config)
    rows: str = key(ALL, "Which rows, by their decision.", choices=ROWS)


@job(
    "export",
    Config,
    "Writes the table of a run as CSV for Excel and other spreadsheets: one line a report, or an entity. It holds no text of a "
    "report. Of a run that is not finished it has what is published.",
    examples=[
        "output.path=coded export.path=coded.csv",
        "output.path=coded export.path=review.csv rows=review",
        "output.path=coded export.path=coded.csv 'export.delimiter=;'",
    ],
)
def main(config: Config) -> None:
    """Writes the file and tells how many lines it has."""
    from engine.pages.sheet import write_sheet
    from engine.pipeline import status
    from engine.storage import inside

    use_s3(config.storage)
    summary, path = status(config.output.path), config.export.path
    if not summary.files:
        raise ConfigError(f"{summary.output} has no tables yet; let the run finish first")
    if inside(path, summary.folder):
        raise ConfigError(f"export.path: {summary.folder} holds the run's tables; name another folder")
    lines = write_sheet(path, summary.files, config.rows, config.export.delimiter)
    print(f"{path}: {lines:,} lines and a header")
    if not summary.finished:
        print("The run is not finished: the file has what is published so far, and jobs.status tells how far the run is.")
    if lines > MOST_LINES:
        print(f"Excel opens the first {MOST_LINES:,} only: choose fewer by rows=..., or read the Parquet files.")


if __name__ == "__main__":
    main()
