"""Where things lie in an output folder.

    _run.json                         the fingerprint, and what the model never does
    _plan/part-0000.jsonl             files and shards; one part for each time that new files came
    _attempts/<shard>.<stage>-<n>     one marker for each try
    _shards/<shard>-<attempt>.parquet the rows of one try
    _receipts/<shard>.json            which try counts
    _drivers/<driver>.json            a running driver's sign of life, rewritten every few seconds
    _publish/<generation>-<x>/        tables that are being published
    _manifests/0001.json              what a generation published, 0001.receipts.jsonl the receipts that it used up
    codes/0001-0000.parquet           the result, named after the system's table

A shard is named `<part>-<number>`, so that names sort in plan order.
"""

import posixpath
from posixpath import join


class Layout:
    """The paths in an output folder."""

    def __init__(self, output: str) -> None:
        self.output, self.run = output, join(output, "_run.json")
        self.plan, self.attempts, self.drivers = (join(output, name) for name in ("_plan", "_attempts", "_drivers"))
        self.shards, self.receipts = join(output, "_shards"), join(output, "_receipts")
        self.staging, self.manifests = join(output, "_publish"), join(output, "_manifests")

    def part(self, number: int) -> str:
        return join(self.plan, f"part-{number:04d}.jsonl")

    def attempt(self, shard: str, stage: str, number: int) -> str:
        return join(self.attempts, f"{shard}.{stage}-{number}")

    def driver(self, driver: str) -> str:
        return join(self.drivers, f"{driver}.json")

    def shard(self, shard: str, attempt: int) -> str:
        return join(self.shards, f"{shard}-{attempt}.parquet")

    def receipt(self, shard: str) -> str:
        return join(self.receipts, f"{shard}.json")

    def manifest(self, generation: int) -> str:
        return join(self.manifests, f"{generation:04d}.json")

    def used_receipts(self, generation: int) -> str:
        """The receipts of a published generation."""
        return join(self.manifests, f"{generation:04d}.receipts.jsonl")

    def staged_receipts(self, stage: str) -> str:
        """The same, before the generation's files have their final names."""
        return join(self.staging, stage, "receipts.jsonl")

    def table(self, table: str) -> str:
        return join(self.output, table)


def shard_name(part: int, number: int) -> str:
    return f"{part:04d}-{number:06d}"


def shard_of(path: str) -> str:
    """The shard that a file in `_attempts`, `_shards` or `_receipts` belongs to."""
    return posixpath.basename(path)[:11]
