"""The summary of a run: the outcome of every record, where the tables are, what to do next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.records import AUTO, CODES, DECISIONS, ENTITIES, EXPLANATIONS, FAILED, FINDINGS, NOT_APPLICABLE, REVIEW
from jobs._progress import duration

if TYPE_CHECKING:
    from engine.pipeline import Summary


@dataclass(frozen=True)
class _Table:
    """The words for a table: what was done to its records, what was found in them, what the decisions mean, and a first look at
    it, in Polars and SQL."""

    look: str
    query: str
    done: str = "read"
    named: str = "Entities by type"
    records: str = "Records:"
    reasons: str = "Of these:"
    outcomes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {word: (word,) for word in DECISIONS})


_DECIDING = {"records": "Records by decision:", "reasons": "Reasons for review:"}
_TABLES = {
    CODES: _Table(
        ".group_by('site_code')",
        "SELECT site_code, count(*) AS reports FROM '{}' GROUP BY ALL ORDER BY reports DESC",
        done="coded",
        **_DECIDING,
    ),
    ENTITIES: _Table(
        ".explode('entities').unnest('entities').group_by('type')",
        "SELECT e.type, count(*) AS found FROM (SELECT unnest(entities) AS e FROM '{}') GROUP BY ALL ORDER BY found DESC",
        outcomes={"read": (AUTO, REVIEW), "failed": (FAILED,)},
    ),
    FINDINGS: _Table(
        ".explode('labels').unnest('labels').group_by('name', 'pred')",
        "SELECT l.name, l.pred, count(*) AS studies FROM (SELECT unnest(labels) AS l FROM '{}') GROUP BY ALL ORDER BY ALL",
        named="Positive findings",
        **_DECIDING,
    ),
    EXPLANATIONS: _Table(
        ".explode('targets').unnest('targets').group_by('target_name', 'status')",
        "SELECT t.target_name, t.status, count(*) AS records FROM (SELECT unnest(targets) AS t FROM '{}') "
        "GROUP BY ALL ORDER BY records DESC",
        outcomes={
            "explained": (AUTO,),
            "explained in part": (REVIEW,),
            "not in the sample": (NOT_APPLICABLE,),
            "failed": (FAILED,),
        },
    ),
}


def closing(summary: "Summary") -> str:
    """For the end of a run."""
    if summary.new_records == 0:
        head = "Nothing new to do: every record of the input has its row."
    else:
        rate = f"{summary.rate:,.1f}/s" if summary.rate >= 1 else f"{summary.seconds / summary.new_records:,.1f} s a record"
        done = _TABLES[summary.table].done
        head = f"{done.capitalize()} {summary.new_records:,} records in {duration(summary.seconds)} ({rate}, start included)."
        if summary.resumed:
            head += f" Earlier runs had {done} {summary.records - summary.new_records:,}."
    return "\n".join([head, "", *_counts(summary), "", f"Tables: {summary.folder}", *_next(summary), *_lost(summary)])


def standing(summary: "Summary") -> str:
    """For `jobs.status`."""
    total = "an unknown number of" if summary.records_total is None else f"{summary.records_total:,}"
    read = "images" if summary.table == FINDINGS else "text"
    share = f" ({summary.bytes / summary.bytes_total:.0%} of the {read})" if summary.bytes_total else ""
    lines = [
        f"Run {summary.run_id} in {summary.output}: {_life(summary)}.",
        f"{summary.records:,} of {total} records{share}, {summary.shards:,} of {summary.shards_total:,} shards; "
        f"{summary.retried:,} shards were tried more than once.",
    ]
    if summary.work_seconds:
        stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in summary.work_seconds.items())
        lines.append(f"Work of all processes: {stages}.")
    lines += ["", *_counts(summary), "", f"Tables: {summary.folder} ({len(summary.files):,} files)"]
    return "\n".join(lines + (_next(summary) if summary.files else []) + _lost(summary))


def _life(summary: "Summary") -> str:
    """Whether the run is finished, running, or abandoned."""
    if summary.finished:
        return "finished"
    sign = "" if summary.last_sign is None else f"last sign of life {duration(summary.last_sign)} ago"
    shard = "" if summary.last_shard is None else f"last shard done {duration(summary.last_shard)} ago"
    if summary.running:
        return "running: " + ", ".join(filter(None, [sign, summary.waits or shard]))
    ages = ", ".join(filter(None, [sign, shard]))
    return f"not finished, and no command is at work on it{f' ({ages})' if ages else ''}: the same command again continues it"


def _counts(summary: "Summary") -> list[str]:
    table = _TABLES[summary.table]
    outcomes = {name: sum(summary.decisions.get(word, 0) for word in words) for name, words in table.outcomes.items()}
    lines = [table.records, *_table(outcomes, summary.records)]
    if summary.entities:
        total = sum(summary.entities.values())
        lines += [f"{table.named}, {total:,} in all:", *_table(_ranked(summary.entities), total)]
    if summary.reasons:
        # Several reasons may share a line.
        limits = dict.fromkeys(line for reason, line in summary.limits.items() if reason in summary.reasons)
        lines += [table.reasons, *_table(_ranked(summary.reasons), summary.records), *(f"  {line}" for line in limits)]
    if summary.failures:
        lines += ["Failed because of:", *_table(_ranked(summary.failures), summary.records)]
    return lines


def _ranked(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _table(counts: Mapping[str, int], total: int) -> list[str]:
    width = max(map(len, counts), default=0)
    return [f"  {word:<{width}}  {count:>11,}  {count / total if total else 0:>6.1%}" for word, count in counts.items()]


_MOST_FILES = 3
_CHECK = {
    "missing_text": "input.text",
    "invalid_encoding": "input.encoding",
    "parse_error": "input.id, input.format, input.delimiter and input.quoting",
    "duplicate_id": "input.id and input.id_scope",
    "too_large": "input.max_bytes",
    "not_coded": "input.path",
    "text_changed": "input.path",
    "missing_image": "input.image",
}
# A file may lack permission; the images of a table are not where it is, unless `input.root` says so.
_CHECK_IMAGES = {**_CHECK, "unreadable_file": "input.image and input.root"}


def _lost(summary: "Summary") -> list[str]:
    """A line for each kind of failure that took all records of a file, the most frequent kind last."""
    lines = []
    for kind, failed in sorted(summary.failures.items(), key=lambda item: item[1]):
        files = [lost for lost in summary.lost if lost.kind == kind]
        records = sum(lost.records for lost in files)
        names = ", ".join(lost.source for lost in files[:_MOST_FILES])
        if len(files) > _MOST_FILES:
            names += f" and {len(files) - _MOST_FILES} more"
        if 1 < summary.records == failed and len(files) != 1:
            records, names = failed, "the run"
        if names:
            keys = (_CHECK_IMAGES if summary.table == FINDINGS else _CHECK).get(kind)
            check = f" (check {keys})" if keys else ""
            lines.append(f"All {records:,} records of {names} failed: {kind}{check}")
    return ["", *lines] if lines else []


def _next(summary: "Summary") -> list[str]:
    table = _TABLES[summary.table]
    if "://" in summary.folder:
        # DuckDB would load an extension from the network first.
        return [
            "To look at them, in Python:",
            "  import polars",
            f"  polars.scan_parquet({summary.folder + '/*.parquet'!r}){table.look}.len().collect()",
        ]
    pattern = f"{summary.folder}/*.parquet".replace("'", "''")
    return ["To look at them, in Python:", "  import duckdb", f'  duckdb.sql("{table.query.format(pattern)}")']
