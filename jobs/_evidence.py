"""From a run's output and its input to the page that shows evidence in the reports themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine import sources
from engine.errors import ConfigError
from engine.storage import storage_for

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.pipeline import Summary

_SHARD_BYTES = 4 * 1024 * 1024


def input_of(summary: "Summary", path: str) -> sources.InputConfig:
    """How the run read its input, which now lies at `path`."""
    settings = {key.removeprefix("input."): value for key, value in summary.settings.items() if key.startswith("input.")}
    return sources.InputConfig(path=path, **settings)


def write_page(
    summary: "Summary",
    config: sources.InputConfig,
    page: str,
    reports: int,
    title: str,
    entities: Callable[[str], Sequence[Mapping[str, Any]]] | None = None,
) -> int:
    """Writes the page, with the entities of each text if they are asked for; returns the number of reports on it.

    Raises:
        ConfigError: the run has published nothing yet, or the input is not the one that was coded.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from engine.pages.evidence import write_evidence_page
    from engine.pages.examples import join_text, pick_examples, tasks_of

    if not summary.files:
        raise ConfigError(f"{summary.output} has no tables yet; let the run finish first")
    tables = []
    for path in summary.files:
        with storage_for(path).open(path) as file:
            tables.append(pq.ParquetFile(file).read())
    codes = pa.concat_tables(tables)
    rows = pick_examples(codes, reports)
    examples = join_text(rows, _records(config, {row["source"] for row in rows}))
    if entities is not None:
        examples = [each if each.text is None else replace(each, entities=entities(each.text)) for each in examples]
    tiles = {"records": summary.records, **summary.decisions}
    note = f"run {summary.run_id}, model {rows[0]['model_digest'][:12]}" if rows else f"run {summary.run_id}"
    write_evidence_page(page, title, examples, tiles, tasks_of(codes.schema), note=note)
    return len(examples)


def _records(config: sources.InputConfig, wanted: set[str]) -> Iterator["pa.Table"]:
    storage, base = storage_for(config.path), sources.input_base(config)
    files = [entry for entry in sources.list_files(config, storage) if sources.source_of(entry, base) in wanted]
    keep = sources.keep_fields(config, storage, files)
    for shard in sources.cut(config, storage, files, _SHARD_BYTES):
        yield sources.read(config, storage, shard, keep)
