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
    """Writes the examples of a training; what is there already is taken as it is.

    Ray Data makes them where it runs, a piece a task; an input of one piece is not worth starting it.

    Args:
        folder: where they go, on any storage. scratch: a folder on this machine for what is being sorted.
    Raises:
        InputChanged: the input is not what those that are there were made of.
    """
    given = json.loads(json.dumps(plan.given))
    index = read_index(folder)
    if index is not None:
        if index.facts["input"] != given:
            raise InputChanged(
                "data.path: the files have changed since this training began; bring them back, or choose a new folder"
            )
        return index
    far = ray_runs() and len(plan.pieces) > 1
    tables = in_order(plan.pieces, plan.work, processors()) if far else map(plan.work, plan.pieces)
    facts, every = {**plan.facts, "input": given}, chain(tables, plan.further)
    if plan.held:
        return write_shards(every, plan.schema, folder, scratch, shard_rows(plan.held), facts)
    return write_whole(every, plan.schema, folder, facts)


@dataclass(frozen=True)
class Written:
    """See `engine.models.examples.Stored`: the examples in a folder, as a worker with some share of each step reads them."""

    folder: str
    share: Share

    @cached_property
    def index(self) -> Index:
        found = read_index(self.folder)
        if found is None:
            raise ContractError("the examples of a training are not there")
        return found

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
