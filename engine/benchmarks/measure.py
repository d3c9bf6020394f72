"""Shared by all benchmarks: interleaved timing, one row for each claim, and the table that says whether it was met."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from engine.benchmarks.gpu_check import device_name
from engine.errors import ContractError
from engine.machine import processors
from engine.storage import storage_for

AT_LEAST, AT_MOST = "at least", "at most"

_TEXT, _NUMBER = pa.string(), pa.float64()
_COLUMNS = {
    **dict.fromkeys(("benchmark", "part", "measured", "unit"), _TEXT),
    **{"figure": _NUMBER, "rival": _TEXT, "rival_figure": _NUMBER, "ratio": _NUMBER},
    **{"kind": _TEXT, "target": _NUMBER, "met": pa.bool_()},
    **{"repeats": pa.int32(), "setting": _TEXT, "machine": _TEXT},
}
SCHEMA = pa.schema([pa.field(name, kind, name in ("kind", "target", "met")) for name, kind in _COLUMNS.items()])


@dataclass(frozen=True)
class Measurement:
    """One comparison: our figure and the rival's, both in `unit`, and the target of their ratio.

    `kind` and `target` say what the ratio (ours over the rival's) must be; None where the comparison is for information only.
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
    """Median seconds of each contender, after one run without timing; in turns, so that a slow spell of the machine hits all."""
    if repeats < 1:
        raise ContractError("a benchmark of no repetitions")
    for run in contenders.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _, name in turns(list(contenders), repeats):
        start = clock()
        contenders[name]()
        times[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def turns(names: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """The number of the turn and the name of the contender, `repeats` times each; every second turn is in reverse order."""
    return ((turn, name) for turn in range(repeats) for name in names[:: -1 if turn % 2 else 1])


def machine() -> str:
    """Cores, processor, GPU and torch, without a host's name."""
    import torch

    devices = [device_name("cpu"), *([device_name("cuda")] if torch.cuda.is_available() else [])]
    return f"{processors()} cores, {', '.join(devices)}, torch {torch.__version__}"


def to_table(benchmark: str, rows: Sequence[Measurement]) -> pa.Table:
    """The measurements as a table of `SCHEMA`."""
    where = machine()
    plain = [asdict(r) | {"benchmark": benchmark, "ratio": r.ratio, "met": r.met, "machine": where} for r in rows]
    return pa.Table.from_pylist(plain, schema=SCHEMA)


def write(path: str, table: pa.Table) -> None:
    """Writes the table as one Parquet file, whole or not at all."""
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
        verdict = {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[row["met"]]
        target = f"{row['kind']} {row['target']:g}" if row["kind"] else ""
        figures = [f"{row[name]:,.4g} {row['unit']}" for name in ("figure", "rival_figure")]
        shown.add_row(row["part"], row["measured"], figures[0], row["rival"], figures[1], f"{row['ratio']:.3f}", target, verdict)
    console.print(shown)
    if table.num_rows:
        console.print(f"{table['machine'][0]}; medians of interleaved repetitions", style="dim", highlight=False)
