"""Where things lie in an output folder.

    _run.json                         the fingerprint, and what the model never does
    _plan/part-0000.jsonl             files and shards, one part for each time that new files came
    _attempts/<shard>.<stage>-<n>     one empty-handed marker a try
    _shards/<shard>-<attempt>.parquet rows of one try
    _receipts/<shard>.json            which try counts
    _drivers/<driver>.json            a running driver's sign of life, written again and again
    _publish/<generation>-<x>/        tables on their way out
    _manifests/0001.json              what a generation published, 0001.receipts.jsonl the receipts it used up
    codes/0001-0000.parquet           the result, named as the system's table

A shard is named `<part>-<number>`, so that names sort in plan order.
"""

import posixpath
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    output: str

    @property
    def run(self) -> str:
        return self._path("_run.json")

    @property
    def plan(self) -> str:
        return self._path("_plan")

    @property
    def attempts(self) -> str:
        return self._path("_attempts")

    @property
    def drivers(self) -> str:
        return self._path("_drivers")

    @property
    def shards(self) -> str:
        return self._path("_shards")

    @property
    def receipts(self) -> str:
        return self._path("_receipts")

    @property
    def staging(self) -> str:
        return self._path("_publish")

    @property
    def manifests(self) -> str:
        return self._path("_manifests")

    def part(self, number: int) -> str:
        return posixpath.join(self.plan, f"part-{number:04d}.jsonl")

    def attempt(self, shard: str, stage: str, number: int) -> str:
        return posixpath.join(self.attempts, f"{shard}.{stage}-{number}")

    def driver(self, driver: str) -> str:
        return posixpath.join(self.drivers, f"{driver}.json")

    def shard(self, shard: str, attempt: int) -> str:
        return posixpath.join(self.shards, f"{shard}-{attempt}.parquet")

    def receipt(self, shard: str) -> str:
        return posixpath.join(self.receipts, f"{shard}.json")

    def manifest(self, generation: int) -> str:
        return posixpath.join(self.manifests, f"{generation:04d}.json")

    def folded(self, generation: int) -> str:
        return posixpath.join(self.manifests, f"{generation:04d}.receipts.jsonl")

    def table(self, table: str) -> str:
        return self._path(table)

    def _path(self, name: str) -> str:
        return posixpath.join(self.output, name)


def shard_name(part: int, number: int) -> str:
    return f"{part:04d}-{number:06d}"


def shard_of(path: str) -> str:
    """The shard that a file in `_attempts`, `_shards` or `_receipts` belongs to."""
    return posixpath.basename(path)[:11]
