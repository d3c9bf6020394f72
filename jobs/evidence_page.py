"""Writes one self-contained HTML page with reports of a run and their evidence."""

from dataclasses import dataclass

from engine.keys import MISSING, key, section
from engine.records import DECISIONS, REASONS
from jobs._front import job
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
    reports: int = key(20, "How many reports to show; all of page.ids where these are given.", low=1, high=500)
    decision: str | None = key(None, "Show reports with this decision only; null is all.", choices=DECISIONS)
    reasons: list[str] = key([], "Show reports with one of these reasons only; [] is all.", choices=REASONS)
    ids: list[str] = key([], "Show the reports with these ids, whatever else is chosen by.")
    order: str = key(
        "mixed",
        "Which reports where there are more: mixed is some of every decision and code, least_sure those with the lowest "
        "probability. Those to review stand first on the page, the least sure before the others.",
        choices=("mixed", "least_sure"),
    )


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
    examples=[
        "input.path=reports.parquet output.path=coded page.path=evidence.html",
        "input.path=reports.parquet output.path=coded page.path=review.html page.decision=review page.order=least_sure",
        "input.path=reports.parquet output.path=coded page.path=spread.html page.reasons=[metastatic_specimen] page.reports=100",
        "input.path=reports.parquet output.path=coded page.path=these.html page.ids=[r-17,r-25]",
    ],
)
def main(config: Config) -> None:
    """Picks rows, brings back their texts, writes the page."""
    from engine.pages.examples import Choice
    from engine.pipeline import status
    from jobs._evidence import input_of, write_page

    use(config.storage)
    summary, page = status(config.output.path), config.page
    choice = Choice(page.reports, page.decision, page.reasons, page.ids, page.order)
    shown = write_page(summary, input_of(summary, config.input.path), page.path, choice, "Evidence")
    print(f"{page.path}: {shown} reports with their evidence")


if __name__ == "__main__":
    main()
