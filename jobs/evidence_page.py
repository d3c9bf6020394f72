"""Writes one self-contained HTML page with reports or image studies of a run and their evidence."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine import sources
from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.records import DECISIONS, FINDINGS, REASONS
from engine.storage import S3Config, storage_for, use_s3
from jobs._finished import RunFolder, check_tables, deciding_of_run, reading_of_run
from jobs._front import job

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.pages.examples import Choice
    from engine.pipeline import Summary

_SHARD_BYTES = 4 * 1024 * 1024


@dataclass
class Input:
    path: str = key(MISSING, "The reports or images that the run read, its input.path.", path=True)


@dataclass
class Page:
    path: str = key(MISSING, "HTML file to write. It will hold the text of reports, or images.", path=True)
    reports: int = key(20, "Number of reports or studies to show; with page.ids, all that it names are shown.", low=1, high=500)
    decision: str | None = key(None, "Show only reports with this decision; null shows all.", choices=DECISIONS)
    reasons: list[str] = key([], "Show only reports with one of these reasons; [] shows all.", choices=REASONS)
    ids: list[str] = key([], "Show the reports with these ids, whatever the other keys say.")
    order: str = key(
        "mixed",
        "Which reports to take if there are too many: mixed takes some of every decision and code, or finding; "
        "least_sure those with the lowest probability, or nearest to a threshold. On the page what is to review comes first, the "
        "least sure at the top.",
        choices=("mixed", "least_sure"),
    )


@dataclass
class Config:
    input: Input = section(Input)
    output: RunFolder = section(RunFolder)
    page: Page = section(Page)
    storage: S3Config = section(S3Config)


@job(
    "evidence_page",
    Config,
    "Writes one self-contained HTML page that shows reports of a run with its codes or entities, and their evidence highlighted, "
    "or image studies with their findings, patches and concepts.",
    examples=[
        "input.path=reports.parquet output.path=coded page.path=evidence.html",
        "input.path=reports.parquet output.path=coded page.path=review.html page.decision=review page.order=least_sure",
        "input.path=reports.parquet output.path=coded page.path=spread.html page.reasons=[metastatic_specimen] page.reports=100",
        "input.path=reports.parquet output.path=coded page.path=these.html page.ids=[r-17,r-25]",
        "input.path=studies.csv output.path=read page.path=evidence.html page.order=least_sure",
    ],
)
def main(config: Config) -> None:
    """Picks rows, reads their texts, writes the page."""
    from engine.pages.examples import Choice
    from engine.pipeline import status

    use_s3(config.storage)
    summary, page = status(config.output.path), config.page
    choice = Choice(page.reports, page.decision, page.reasons, page.ids, page.order)
    # Read as in the run, from where it is now.
    reports = sources.InputConfig(path=config.input.path, **reading_of_run(summary))
    shown = write_page(summary, reports, page.path, choice, "Evidence")
    print(f"{page.path}: {shown} {'studies' if summary.table == FINDINGS else 'reports'} with their evidence")


def write_page(
    summary: "Summary",
    config: sources.InputConfig,
    page: str,
    choice: "Choice",
    title: str,
    entities: Callable[[str], Sequence[Mapping[str, Any]]] | None = None,
) -> int:
    """Writes the page, with the entities that `entities` finds in each text, if given; returns the number of its cards.

    Raises:
        ConfigError: the run has published nothing yet, or no chosen report, or the input is not the one that was coded.
    """
    from engine.evaluation.rows import schema_of
    from engine.pages.evidence import write_evidence_page
    from engine.pages.examples import IN_TURN, join_text, pick_examples
    from engine.pages.findings import write_findings_page
    from engine.pages.pictures import join_images
    from engine.records import tasks_of

    check_tables(summary)
    tasks = tasks_of(schema_of(summary.files))
    rows = pick_examples(summary.files, choice, deciding_of_run(summary, tasks) or tasks, summary.table)
    if not rows and (choice.decision or choice.reasons):
        raise ConfigError("page.decision, page.reasons: the run has no such report; jobs.status counts those that it has")
    counts = summary.decisions
    tiles = {"records": summary.records, **{decision: counts[decision] for decision in IN_TURN if decision in counts}}
    note = f"run {summary.run_id}, model {rows[0]['model_digest'][:12]}" if rows else f"run {summary.run_id}"
    records = _records(config, {row["source"] for row in rows})
    if summary.table == FINDINGS:
        write_findings_page(page, title, join_images(rows, records), tiles, note)
        return len(rows)
    examples = join_text(rows, records)
    if entities is not None:
        examples = [row if row.text is None else replace(row, entities=entities(row.text)) for row in examples]
    write_evidence_page(page, title, examples, tiles, tasks, table=summary.table, note=note)
    return len(rows)


def _records(config: sources.InputConfig, names: set[str]) -> Iterator["pa.Table"]:
    """The records of the sources with these names."""
    storage, base = storage_for(config.path), sources.input_base(config)
    files = [entry for entry in sources.list_files(config, storage) if sources.source_of(entry, base) in names]
    keep = sources.keep_fields(config, storage, files)
    for shard in sources.cut(config, storage, files, _SHARD_BYTES):
        yield sources.read(config, storage, shard, keep)


if __name__ == "__main__":
    main()
