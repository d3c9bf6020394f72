"""Writes one self-contained HTML page with reports of a run and their evidence."""

from dataclasses import dataclass

from jobs._front import job
from jobs._keys import MISSING, key, section
from jobs._storage import Storage, use


@dataclass
class Input:
    path: str = key(MISSING, "The reports that were coded, as given to jobs.code_reports.", path=True)


@dataclass
class Output:
    path: str = key(MISSING, "Folder of the run.", path=True)


@dataclass
class Page:
    path: str = key(MISSING, "HTML file to write. It will hold the text of reports.", path=True)
    reports: int = key(20, "How many reports to show: coded, to review and failed ones.", low=1, high=500)


@dataclass
class Config:
    input: Input = section(Input)
    output: Output = section(Output)
    page: Page = section(Page)
    storage: Storage = section(Storage)


@job(
    "evidence_page",
    Config,
    "Writes one self-contained HTML page that shows reports of a run with their evidence highlighted.",
    examples=["input.path=reports.parquet output.path=coded page.path=evidence.html"],
)
def main(config: Config) -> None:
    """Picks rows, brings back their texts, writes the page."""
    from engine.pipeline import status
    from jobs._evidence import input_of, write_page

    use(config.storage)
    summary = status(config.output.path)
    shown = write_page(summary, input_of(summary, config.input.path), config.page.path, config.page.reports, "Evidence")
    print(f"{config.page.path}: {shown} reports with their evidence")


if __name__ == "__main__":
    main()
