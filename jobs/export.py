"""Writes the table of a run as CSV for a spreadsheet."""

from dataclasses import dataclass

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.pages.sheet import ALL, DELIMITERS, ROWS
from engine.storage import S3Config, use_s3
from jobs._finished import RunFolder, check_tables
from jobs._front import job

MOST_LINES = 1_048_575


@dataclass
class Export:
    path: str = key(MISSING, "CSV file to write; it replaces an earlier export, but no other file.", path=True)
    delimiter: str = key(
        ",",
        "Character between cells. Use a semicolon where Excel writes numbers with a decimal comma, as in most of "
        "Europe; the numbers in the file then have a decimal comma too.",
        choices=DELIMITERS,
    )


@dataclass
class Config:
    output: RunFolder = section(RunFolder)
    export: Export = section(Export)
    storage: S3Config = section(S3Config)
    rows: str = key(ALL, "Which rows to write, by decision.", choices=ROWS)


@job(
    "export",
    Config,
    "Writes the table of a run as CSV for Excel and other spreadsheets: one line for each report, entity or finding. "
    "The file holds no text of a report. If the run is unfinished, the file has the rows published so far.",
    examples=[
        "output.path=coded export.path=coded.csv",
        "output.path=coded export.path=review.csv rows=review",
        "output.path=coded export.path=coded.csv 'export.delimiter=;'",
    ],
)
def main(config: Config) -> None:
    """Writes the file and prints its number of lines."""
    from engine.pages.sheet import write_sheet
    from engine.pipeline import status
    from engine.storage import inside

    use_s3(config.storage)
    summary, path = status(config.output.path), config.export.path
    check_tables(summary)
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
