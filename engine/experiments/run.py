"""An experiment: arms that are measured one by one, each kept when it is done, so that the same command goes on where it stopped.

A folder holds `settings.json`, `arms/<arm>.parquet` with the results of a finished arm, `work/` with what the arms make on their
way (corpora, trained models, runs), and in the end `results.parquet` and `results.md`, the same results for people.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ContractError
from engine.models.base import Say
from engine.storage import whole_file
from engine.storage.claim import Kind, claim

_FOLDER = Kind(
    "experiment",
    "holds an experiment with other settings: {changes}; choose a new folder",
    "{name} ({before} there, {now} here)",
)

SCHEMA = pa.schema(
    [
        pa.field("experiment", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Result:
    """One number of one arm: its 95 % interval where there is one, over how many records, and what a reader must know of it."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Arm:
    """One thing that is measured; its name is a file's name, so letters, digits, `-`, `_` and `.` only."""

    name: str
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", self.name):
            raise ContractError(f"an arm's name is a file's name, not '{self.name}'")


class Experiment(Protocol):
    """What an experiment offers. `name` is that of its file under conf/experiment."""

    name: str

    def settings(self) -> Mapping[str, Any]:
        """Everything that changes a result, as plain values: a folder belongs to one set of these."""

    def arms(self) -> Sequence[Arm]:
        """In the order in which they are to be measured."""

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        """The results of an arm. `work` is a folder that all arms share and that outlives a stop."""


def run(experiment: Experiment, output: Path, command: str, say: Say) -> pa.Table:
    """Measures the arms that are not done yet; returns the results of all.

    Raises:
        ConfigError: the folder holds another experiment, or this one with other settings.
    """
    settings = json.loads(json.dumps({"experiment": experiment.name, **experiment.settings()}))
    claim(str(output), settings, _FOLDER)
    done = output / "arms"
    for folder in (done, output / "work"):
        folder.mkdir(exist_ok=True)
    tables = []
    for arm in experiment.arms():
        file = done / f"{arm.name}.parquet"
        if file.is_file():
            say(f"{arm.name}: done before")
        else:
            say(f"{arm.name}: started")
            start = time.monotonic()
            results = experiment.measure(arm, output / "work", say)
            _write(file, to_table(experiment.name, arm, results))
            say(f"{arm.name}: done in {time.monotonic() - start:,.0f} s")
        tables.append(pq.read_table(file, schema=SCHEMA))
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    _write(output / "results.parquet", table)
    with_settings = f"`{command}`\n\nSettings: `{json.dumps(settings)}`\n\n{markdown(table)}\n"
    (output / "results.md").write_text(with_settings, encoding="utf-8")
    return table


def to_table(name: str, arm: Arm, results: Sequence[Result]) -> pa.Table:
    rows = [{"experiment": name, "arm": arm.name, "seed": arm.seed, **asdict(result)} for result in results]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def markdown(table: pa.Table) -> str:
    """One line an arm, one column a metric, in the order in which they first stand; intervals in brackets, notes underneath.

    A metric of a part, `metric:part`, would make it too wide to read: those stand below, one line each and one column an arm, in
    a table for all arms that have the same ones. `n` is how many records most of an arm's numbers rest on; a number that rests on
    others says so.
    """
    rows = table.to_pylist()
    usual = {arm: _usual([row["n"] for row in rows if row["arm"] == arm]) for arm in dict.fromkeys(row["arm"] for row in rows)}
    arms: dict[str, dict[str, str]] = {arm: {} for arm in usual}
    notes: dict[str, list[str]] = {}
    for row in rows:
        arms[row["arm"]][row["metric"]] = _number(row, usual[row["arm"]])
        if row["note"]:
            notes.setdefault(f"{row['metric']}: {row['note']}", []).append(row["arm"])
    whole = [metric for metric in dict.fromkeys(row["metric"] for row in rows) if ":" not in metric]
    lines = [["arm", "n", *whole]]
    for arm, values in arms.items():
        lines.append([arm, "" if usual[arm] is None else f"{usual[arm]:,}", *(values.get(metric, "") for metric in whole)])
    parts: dict[tuple[str, ...], list[str]] = {}
    for arm, values in arms.items():
        parts.setdefault(tuple(metric for metric in values if ":" in metric), []).append(arm)
    tables = [
        lines,
        *([["metric", *of], *([each, *(arms[arm][each] for arm in of)] for each in own)] for own, of in parts.items() if own),
    ]
    told = [f"* {', '.join(dict.fromkeys(of))}: {note}" for note, of in notes.items()]
    return "\n\n".join([*map(_table, tables), *(["\n".join(told)] if told else [])])


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as Markdown, the first of them its head."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], ["---"] * len(lines[0]), *lines[1:]))


def _usual(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return max(known, key=lambda count: (known.count(count), count)) if known else None


def _number(row: Mapping[str, Any], usual: int | None) -> str:
    if row["value"] is None:
        return "–"
    between = f" ({row['low']:.3f} to {row['high']:.3f})" if row["low"] is not None and row["high"] is not None else ""
    on = f" [n {row['n']:,}]" if row["n"] is not None and row["n"] != usual else ""
    return f"{row['value']:.3f}{between}{on}"


def _write(file: Path, table: pa.Table) -> None:
    """Whole or not at all: a file that is there is a finished arm."""
    with whole_file(file) as part:
        pq.write_table(table, part)
