"""The examples of a training: written into a folder before it begins, and read there by its workers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import ContractError, InputChanged
from engine.machine import processors
from engine.models.examples import Index, Preparation, Source, read_index, read_shard
from engine.pipeline.flow import in_order, ray_runs
from engine.storage import s3_config
from engine.training.shards import shard_rows, write_shards, write_whole
from engine.training.stream import Share, Stream


def write_examples(plan: Preparation, folder: str, scratch: Path) -> Index:
    """Writes the examples of a training, or finds them written already.

    Where Ray runs, Ray Data makes them, one task a piece; a single piece is not worth starting it.

    Args:
        folder: where they go, on any storage. scratch: a folder on this machine for sorting.
    Raises:
        InputChanged: the folder holds the examples of another input.
    """
    source = json.loads(json.dumps(plan.given))
    index = read_index(folder)
    if index is not None:
        if index.facts["input"] != source:
            raise InputChanged(
                "data.path: the files have changed since this training began; bring them back, or choose a new folder"
            )
        return index
    through_ray = ray_runs() and len(plan.pieces) > 1
    tables = in_order(plan.pieces, plan.work, processors()) if through_ray else map(plan.work, plan.pieces)
    facts, tables = {**plan.facts, "input": source}, chain(tables, plan.further)
    if plan.held:
        return write_shards(tables, plan.schema, folder, scratch, shard_rows(plan.held), facts)
    return write_whole(tables, plan.schema, folder, facts)


@dataclass(frozen=True)
class Written:
    """`engine.models.examples.Stored`: the examples in a folder, as a worker with its share of each step reads them."""

    folder: str
    share: Share

    @cached_property
    def index(self) -> Index:
        index = read_index(self.folder)
        if index is None:
            raise ContractError("the examples of a training are missing")
        return index

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.index.facts

    def whole(self) -> pa.Table:
        return read_shard(self.folder, "all")

    def stream(self, decode: Callable[[pa.Table], Any], held: int) -> Source:
        window = max(1, held // shard_rows(held))
        ahead = {"flow": in_order} if ray_runs() and len(self.index.reports) > window else {}
        s3 = replace(s3_config(), proven=True)
        return Stream(self.folder, self.index, decode, window=window, share=self.share, s3=s3, **ahead)
