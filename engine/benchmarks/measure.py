"""What every benchmark shares: interleaved timing, one row a claim, and the table that says whether each was met."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from engine.errors import ContractError
from engine.machine import processors
from engine.storage import storage_for

AT_LEAST, AT_MOST = "at least", "at most"

SCHEMA = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("measured", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("figure", pa.float64(), nullable=False),
        pa.field("rival", pa.string(), nullable=False),
        pa.field("rival_figure", pa.float64(), nullable=False),
        pa.field("ratio", pa.float64(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("target", pa.float64()),
        pa.field("met", pa.bool_()),
        pa.field("repeats", pa.int32(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),
        pa.field("machine", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Measurement:
    """One comparison: our figure, the rival's, both in `unit`, and their ratio against a target.

    `kind` and `target` say what the ratio (ours over the rival's) must be, None where the comparison is only for information.
    """

    part: str
    measured: str
    unit: str
    figure: float
    rival: str
    rival_figure: float
    repeats: int
    setting: str = ""
    kind: str | None = None
    target: float | None = None

    @property
    def ratio(self) -> float:
        return self.figure / self.rival_figure

    @property
    def met(self) -> bool | None:
        if self.kind is None or self.target is None:
            return None
        return self.ratio >= self.target if self.kind == AT_LEAST else self.ratio <= self.target


def interleave(
    contenders: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each contender, measured in turns so that a slow spell of the machine meets them all.

    Each runs once before, unmeasured.
    """
    if repeats < 1:
        raise ContractError("a benchmark of no repetitions")
    for run in contenders.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _, name in turns(list(contenders), repeats):
        start = clock()
        contenders[name]()
        taken[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def turns(names: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Number of the turn and name of who runs, `repeats` times each; the order is turned round in every second turn."""
    for turn in range(repeats):
        for name in names[:: -1 if turn % 2 else 1]:
            yield turn, name


def machine() -> str:
    """Cores, processor and torch, without a host's name."""
    import torch

    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processors()} cores, {model}{device}, torch {torch.__version__}"


def to_table(benchmark: str, rows: Sequence[Measurement]) -> pa.Table:
    """The measurements as a table of `SCHEMA`."""
    where = machine()
    plain = [asdict(r) | {"benchmark": benchmark, "ratio": r.ratio, "met": r.met, "machine": where} for r in rows]
    return pa.Table.from_pylist(plain, schema=SCHEMA)


def write(path: str, table: pa.Table) -> None:
    """The table as one Parquet file, whole or not at all."""
    with storage_for(path).writer(path) as file:
        pq.write_table(table, file, compression="zstd")


def show(table: pa.Table, console: Console | None = None) -> None:
    """Prints the table for a person."""
    # Without a terminal rich assumes 80 columns, too few for this table.
    console = console or Console(width=None if sys.stdout.isatty() else 160)
    shown = Table(title=f"benchmark {table['benchmark'][0]}" if table.num_rows else "benchmark")
    for name in ("part", "measured", "figure", "rival", "its figure", "ratio", "target", "met"):
        shown.add_column(name, justify="right" if name in ("figure", "its figure", "ratio") else "left", overflow="fold")
    for row in table.to_pylist():
        told = {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[row["met"]]
        target = f"{row['kind']} {row['target']:g}" if row["kind"] else ""
        figures = [f"{row[name]:,.4g} {row['unit']}" for name in ("figure", "rival_figure")]
        shown.add_row(row["part"], row["measured"], figures[0], row["rival"], figures[1], f"{row['ratio']:.3f}", target, told)
    console.print(shown)
    if table.num_rows:
        console.print(f"{table['machine'][0]}; medians of interleaved repetitions", style="dim", highlight=False)
