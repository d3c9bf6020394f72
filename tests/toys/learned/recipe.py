"""How the line is learned: slope and intercept first, then what a table of their errors leaves to be added.

`DIE` in the environment is a phase and a step of it, or `table` and a part, at which the process whose id is `DRIVER` is killed.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from engine.encoders import encoder_folder
from engine.models import checkpoint
from engine.models.base import ModelSpec, Phase, Say, SideTable, Worker, load, read_tensors
from engine.models.examples import COMMON, Preparation, read_shard

SYSTEM = "tests.toys.learned"
SCHEMA = pa.schema([*COMMON, pa.field("x", pa.float64()), pa.field("y", pa.float64())])
ERRORS = pa.schema([("sum", pa.float64()), ("count", pa.int64())])


@dataclass
class Data:
    path: str = ""


@dataclass
class Settings:
    data: Data = field(default_factory=Data)


@dataclass
class Points:
    """A JSON file: split -> pairs of numbers."""

    settings: Mapping[str, Any]
    given: Any

    def changed(self) -> bool:
        return False

    def lines(self) -> list[str]:
        return [", ".join(f"{len(self.given[split])} {split}" for split in self.given)]

    def preparation(self) -> Preparation:
        return Preparation(["train", "valid"], Rows(self.given), SCHEMA, self.given, {"unit": "metre"})


@dataclass
class Rows:
    points: Mapping[str, Any]

    def __call__(self, split: str) -> pa.Table:
        x, y = zip(*self.points[split], strict=True)
        names = [f"{split}{number}" for number in range(len(x))]
        return pa.table([names, [split] * len(x), [False] * len(x), x, y], schema=SCHEMA)


def corpus(settings: Mapping[str, Any]) -> Points:
    return Points(settings, json.loads(Path(settings["data"]["path"]).read_text()))


def watched(settings: Mapping[str, Any]) -> Sequence[str]:
    return ["error"]


def phases(settings: Mapping[str, Any]) -> Sequence[Phase]:
    errors = SideTable("errors", ERRORS, [0, 1, 2], f"{__name__}:some_errors", f"{__name__}:all_errors")
    return [Phase("slope", f"{__name__}:slope"), Phase("shift", f"{__name__}:shift", loop={"epochs": 2}, needs=(errors,))]


class Learner:
    def __init__(self, name: str, table: pa.Table, trained: Sequence[str], fixed: Mapping[str, float]) -> None:
        self.name, self.steps = name, 0
        self.parts = {split: table.filter(pc.equal(table["split"], split)) for split in ("train", "valid")}
        self.weights = {each: torch.zeros(1, requires_grad=True) for each in trained}
        self.fixed = fixed

    def parameters(self) -> Mapping[str, torch.Tensor]:
        return self.weights

    def order(self, epoch: int) -> list[int]:
        return np.random.default_rng([1, epoch]).permutation(len(self.parts["train"])).tolist()

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, torch.Tensor], int]]:
        self.steps += 1
        die(self.name, self.steps)
        yield {"square": (self.errors("train")[examples] ** 2).sum()}, len(examples)

    def errors(self, split: str) -> torch.Tensor:
        x, y = (torch.tensor(self.parts[split][name].to_pylist()) for name in ("x", "y"))
        every = {**self.fixed, **self.weights}
        return every["w"] * x + every["b"] + every.get("c", 0.0) - y

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        return {"error": float(self.errors("valid").abs().mean())}

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}


def slope(settings: Mapping[str, Any], worker: Worker) -> Learner:
    stored = worker.examples(settings["examples"])
    assert stored.facts["unit"] == "metre"
    return Learner("slope", stored.whole(), ("w", "b"), {})


def shift(settings: Mapping[str, Any], worker: Worker) -> Learner:
    """Begins at the mean error that the table tells, so that it matters what is in it."""
    (row,) = pq.read_table(settings["tables"]["errors"]).to_pylist()
    before = {name: float(value) for name, value in read_tensors(settings["before"]).items()}
    table = worker.examples(settings["examples"]).whole()
    before["b"] -= row["sum"] / row["count"]
    return Learner("shift", table, ("c",), before)


def some_errors(part: int, settings: Mapping[str, Any]) -> pa.Table:
    """Those of every third example of train, under the weights of the phase before."""
    die("table", part)
    found = Learner("", read_shard(settings["examples"], "all"), (), read_tensors(settings["before"])).errors("train")[part::3]
    return pa.table({"sum": [float(found.sum())], "count": [len(found)]}, schema=ERRORS)


def all_errors(tables: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    whole = pa.concat_tables(tables)
    return pa.table({name: [pc.sum(whole[name]).as_py()] for name in ERRORS.names}, schema=ERRORS)


def part(settings: Mapping[str, Any]) -> str:
    return ""


def write(folder: Path, corpus: Points, tensors: Mapping[str, torch.Tensor]) -> ModelSpec:
    tokenizer = encoder_folder("tiny:bert") / checkpoint.TOKENIZER
    checkpoint.write(folder, SYSTEM, {}, tensors, tokenizer, {"settled.json": {"offset": 0.0}}, "not settled yet\n")
    return ModelSpec(SYSTEM, str(folder))


def settle(spec: ModelSpec, corpus: Points, say: Say) -> dict[str, float]:
    say("settling")
    x, y = zip(*corpus.given["valid"], strict=True)
    offset = float(np.mean(np.array(y) - load(spec).scores(x)))
    checkpoint.revise(Path(spec.path), {"settled.json": {"offset": offset}}, "not measured yet\n")
    return {"offset": offset}


def measure(spec: ModelSpec, corpus: Points, settled: Mapping[str, float], say: Say) -> dict[str, Any]:
    x, y = zip(*corpus.given["test"], strict=True)
    return {"error": float(np.abs(np.array(y) - load(spec).run(x)).mean()), **settled}


def card(spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
    return f"# A line\n\n    {command}\n\nOff by {figures['error']:.3f}.\n"


def die(what: str, place: int) -> None:
    if os.environ.get("DIE") == f"{what}:{place}":
        os.kill(int(os.environ["DRIVER"]), signal.SIGKILL)
        time.sleep(60)
