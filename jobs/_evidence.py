"""From a run's output and its input to the page that shows evidence in the reports themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine import sources
from engine.errors import ConfigError
from engine.storage import storage_for
from jobs._finished import reading_of_run

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.pages.examples import Choice
    from engine.pipeline import Summary

_SHARD_BYTES = 4 * 1024 * 1024


def input_of(summary: "Summary", path: str) -> sources.InputConfig:
    """How the run read its input, which now lies at `path`."""
    return sources.InputConfig(path=path, **reading_of_run(summary))


def write_page(
    summary: "Summary",
    config: sources.InputConfig,
    page: str,
    choice: "Choice",
    title: str,
    entities: Callable[[str], Sequence[Mapping[str, Any]]] | None = None,
) -> int:
    """Writes the page, with the entities of each text if they are asked for; returns the number of reports on it.

    Raises:
        ConfigError: the run has published nothing yet or nothing that was chosen, or the input is not the one that was coded.
    """
    import pyarrow.parquet as pq

    from engine.pages.evidence import write_evidence_page
    from engine.pages.examples import IN_TURN, join_text, pick_examples, tasks_of

    if not summary.files:
        raise ConfigError(f"{summary.output} has no tables yet; let the run finish first")
    with storage_for(summary.files[0]).open(summary.files[0]) as file:
        tasks = tasks_of(pq.read_schema(file))
    if not tasks:
        raise ConfigError(
            f"output.path: the tables of {summary.output} hold no codes; give the folder of a run that coded reports"
        )
    named = summary.settings.get("model.options.tasks")
    rows = pick_examples(summary.files, choice, named if isinstance(named, list) and named else tasks)
    if not rows and (choice.decision or choice.reasons):
        raise ConfigError("page.decision, page.reasons: the run has no such report; jobs.status counts those that it has")
    examples = join_text(rows, _records(config, {row["source"] for row in rows}))
    if entities is not None:
        examples = [each if each.text is None else replace(each, entities=entities(each.text)) for each in examples]
    counts = summary.decisions
    tiles = {"records": summary.records, **{decision: counts[decision] for decision in IN_TURN if decision in counts}}
    note = f"run {summary.run_id}, model {rows[0]['model_digest'][:12]}" if rows else f"run {summary.run_id}"
    write_evidence_page(page, title, examples, tiles, tasks, note=note)
    return len(examples)


def _records(config: sources.InputConfig, wanted: set[str]) -> Iterator["pa.Table"]:
    storage, base = storage_for(config.path), sources.input_base(config)
    files = [entry for entry in sources.list_files(config, storage) if sources.source_of(entry, base) in wanted]
    keep = sources.keep_fields(config, storage, files)
    for shard in sources.cut(config, storage, files, _SHARD_BYTES):
        yield sources.read(config, storage, shard, keep)
