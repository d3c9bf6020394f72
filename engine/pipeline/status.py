"""The state of a run, from its plan, receipts, manifests and tables alone: no model, no input, no Ray."""

import posixpath
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.models.rows import add
from engine.pipeline import fingerprint, plan, published
from engine.pipeline.alive import Sign, age, last_sign
from engine.pipeline.commit import Receipt, receipts
from engine.pipeline.layout import Layout
from engine.storage import Storage, storage_for


@dataclass(frozen=True)
class Lost:
    """A file whose records all failed for one reason, which is rather a wrong setting than broken records."""

    source: str
    kind: str
    records: int


@dataclass(frozen=True)
class Summary:
    """The state of a run. Records with a receipt count; `decisions`, `failures`, `reasons` and `entities` (by
    type; of findings those that are positive) map a word to a count.

    `records_total` is None where the input's format does not tell before reading. `files` are the published tables, `lost` the
    files with several records that all failed alike, the largest first. `work_seconds` sums the stages over all shards, `limits`
    are the system's. `seconds` and `new_records` are those of this call, 0 in a status.

    In a status, `running` tells whether a driver has given a sign of life lately. `last_sign` is its age in seconds, None where
    there is none: a driver removes its sign when it ends, unless it is killed. `waits` is the phase in which it waited then, None
    while shards came in. `last_shard` is the time since the last finished shard, in seconds.
    """

    output: str
    run_id: str
    table: str
    records: int
    records_total: int | None
    decisions: dict[str, int]
    failures: dict[str, int]
    reasons: dict[str, int]
    shards: int
    shards_total: int
    bytes: int
    bytes_total: int
    generations: int
    files: tuple[str, ...]
    retried: int
    work_seconds: dict[str, float]
    settings: dict[str, object] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    entities: dict[str, int] = field(default_factory=dict)
    lost: tuple[Lost, ...] = ()
    new_records: int = 0
    seconds: float = 0.0
    running: bool = False
    last_sign: float | None = None
    waits: str | None = None
    last_shard: float | None = None

    @property
    def folder(self) -> str:
        """Where the tables are."""
        return Layout(self.output).table(self.table)

    @property
    def finished(self) -> bool:
        return self.shards == self.shards_total and self.generations > 0

    @property
    def resumed(self) -> bool:
        """Whether earlier calls did a part of the work."""
        return self.records > self.new_records

    @property
    def failed_share(self) -> float:
        return self.decisions.get("failed", 0) / self.records if self.records else 0.0

    @property
    def rate(self) -> float:
        """Records per second of this call, start-up included."""
        return self.new_records / self.seconds if self.seconds else 0.0


def status(output: str) -> Summary:
    """The state of the run in an output folder.

    Raises:
        ConfigError: there is no run there.
    """
    storage, layout = storage_for(output), Layout(output)
    note = fingerprint.read(layout)
    if note is None:
        raise ConfigError(f"{output} holds no run; give the output.path of one")
    # Before the receipts: a driver that ends in between has written all of its own by then.
    sign = last_sign(storage, layout)
    return summary(storage, layout, note, plan.read(storage, layout), sign=sign)


def summary(
    storage: Storage,
    layout: Layout,
    note: dict,
    planned: plan.Plan,
    new_records: int = 0,
    started: float | None = None,
    sign: Sign | None = None,
) -> Summary:
    """The summary of a run; `note` is the content of its `_run.json`."""
    manifests = published.manifests(storage, layout)
    done = published.used_receipts(storage, layout, manifests)
    unpublished = [receipt for name, receipt in receipts(storage, layout).items() if name not in done]
    counts: dict = reduce(add, [*manifests, *unpublished], {})
    every = [*done.values(), *unpublished]
    table = note["settings"]["table"]
    files = tuple(posixpath.join(layout.table(table), file["name"]) for manifest in manifests for file in manifest["files"])
    return Summary(
        output=layout.output,
        run_id=note["run_id"],
        table=table,
        records=counts.get("rows", 0),
        records_total=planned.rows,
        decisions=counts.get("decisions", {}),
        failures=counts.get("failures", {}),
        reasons=counts.get("reasons", {}),
        shards=len(every),
        shards_total=len(planned.shards),
        bytes=sum(receipt["bytes"] for receipt in every),
        bytes_total=planned.bytes,
        generations=len(manifests),
        files=files,
        retried=sum(max(receipt.get("attempts", {}).values(), default=1) > 1 for receipt in every),
        work_seconds=_seconds(every),
        settings=note["settings"],
        limits=note["limits"],
        entities=counts.get("entities", {}),
        lost=_lost(storage, layout, manifests, planned),
        new_records=new_records,
        seconds=0.0 if started is None else time.monotonic() - started,
        running=sign is not None and sign.alive,
        last_sign=sign and round(sign.age, 1),
        waits=sign and sign.waits,
        last_shard=round(age(max(receipt["at"] for receipt in every)), 1) if every else None,
    )


def _lost(storage: Storage, layout: Layout, manifests: Sequence[published.Manifest], planned: plan.Plan) -> tuple[Lost, ...]:
    """The files of several records that all failed for one reason, the largest first."""
    failed: Counter[tuple[str, str]] = Counter()
    for manifest in manifests:
        for file in manifest["files"] if manifest["failures"] else ():
            path = posixpath.join(layout.table(manifest["table"]), file["name"])
            # A driver that died right after the manifest has not moved it there.
            if storage.stat(path) is not None:
                with storage.open(path) as stream:
                    _count_failed(pq.ParquetFile(stream), failed)
    rows: Counter[str] = Counter()
    for shard in planned.shards if failed else ():
        for piece in shard.shard.slices:
            rows[piece.source] += piece.rows
    lost = [Lost(source, kind, count) for (source, kind), count in failed.items() if 1 < count == rows[source]]
    return tuple(sorted(lost, key=lambda file: (-file.records, file.source)))


def _count_failed(table: pq.ParquetFile, failed: Counter[tuple[str, str]]) -> None:
    """Counts failed rows by source and kind."""
    for batch in table.iter_batches(columns=["source", "failure.kind"]):
        rows = pa.table({"source": batch.column("source"), "kind": pc.struct_field(batch.column("failure"), "kind")})
        counts = rows.filter(rows["kind"].is_valid()).group_by(["source", "kind"]).aggregate([([], "count_all")])
        for count in counts.to_pylist():
            failed[count["source"], count["kind"]] += count["count_all"]


def _seconds(every: Iterable[Receipt]) -> dict[str, float]:
    """Seconds of work by stage."""
    total: dict[str, float] = {}
    for receipt in every:
        for stage, seconds in receipt.get("seconds", {}).items():
            total[stage] = round(total.get(stage, 0.0) + seconds, 3)
    return total
