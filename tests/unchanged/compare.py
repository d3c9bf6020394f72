"""Two folders of results, value by value: tables by the ids of their rows, figures, tensors by a digest, pages line by line."""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

# They name a run or a checkpoint and hold its settings, or tell how fast this machine was.
NAMES = frozenset({"run_id", "coded_run", "model_digest", "digest", "base", "revision_of"})
SPEEDS = frozenset({"tokens_per_second", "steps_per_second", "cost"})
# Columns that tell the rows of a table apart, the first that do.
KEYS = (("record_id",), ("record_id", "task"), ("task", "metric", "slice", "params"))
TYPES = "types of columns"
OLD, NEW = "only before", "only now"
_DIGEST = re.compile(r"\b[0-9a-f]{12,64}\b")
_COST = re.compile(r"(\| (?:valid|test) \|.*)\| [\d.]+ \|")
_PART = re.compile(r"([a-z]+-)?\d+(-\d+)*")
_UNREAD = ("digest.json", "curve.html")
_PAGES = (".md", ".html", ".txt")

_NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}

Items = Mapping[Any, Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor as a file holds it."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    def distance(self, other: "Tensor") -> float | None:
        """Largest absolute difference; None where there is none to tell."""
        if (self.dtype, self.shape) != (other.dtype, other.shape) or self.dtype not in _NUMPY:
            return None
        a, b = (np.frombuffer(each.content, _NUMPY[self.dtype]).astype(np.float64) for each in (self, other))
        return float(np.abs(a - b).max())


@dataclass(frozen=True)
class Difference:
    """What differs (a column, a figure, a tensor), in how many rows, by how much at most, and the first of the rows.

    `largest` is None where a value is no number or is missing on one side.
    """

    what: str
    rows: int
    largest: float | None
    first: str


def folders(old: Path, new: Path) -> Iterator[tuple[str, int, list[Difference]]]:
    """Name, rows and differences of every table and file of two folders; what begins with `_` or `.` is an engine's own."""
    before, now = _contents(old), _contents(new)
    for name in sorted({*before, *now}):
        if name not in before or name not in now:
            yield name, 0, [Difference(NEW if name not in before else OLD, 0, None, "")]
        elif name.endswith(_PAGES):
            yield name, *pages(*((root / name).read_text("utf-8") for root in (old, new)))
        else:
            a, b = (_read(root, name, files) for root, files in ((old, before[name]), (new, now[name])))
            yield name, max(len(each.keys() - {TYPES}) for each in (a, b)), differences(a, b)


def differences(old: Items, new: Items) -> list[Difference]:
    """What differs between two mappings from a row's key to its value, summed up by the place within the value."""
    found: dict[str, dict[str, float | None]] = {}
    for key in {**old, **new}:
        if key not in old or key not in new:
            pairs: Iterator[tuple[str, float | None]] = iter([(f"row {NEW if key not in old else OLD}", None)])
        else:
            pairs = _walk(old[key], new[key], "")
        for place, distance in pairs:
            rows = found.setdefault(place, {})
            known = rows.get(str(key), 0.0)
            rows[str(key)] = None if known is None or distance is None else max(known, distance)
    return [
        Difference(place or "value", len(rows), None if None in rows.values() else max(rows.values()), next(iter(rows)))
        for place, rows in found.items()
    ]


def pages(old: str, new: str) -> tuple[int, list[Difference]]:
    """The lines of two pages, and each line that stands in one of them alone or in another place."""
    before, now = (masked(text).splitlines() for text in (old, new))
    changed = [line for line in difflib.unified_diff(before, now, n=0, lineterm="") if line[0] in "-+"][2:]
    found = [Difference(f"{line[1:]} ({OLD if line[0] == '-' else NEW})", 1, None, "") for line in changed]
    return max(len(before), len(now)), found


def _walk(old: Any, new: Any, place: str) -> Iterator[tuple[str, float | None]]:
    """The places where two values differ, with the distance of numbers; all items of a list are one place."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            here = f"{place}.{name}" if place else str(name)
            if name in NAMES | SPEEDS:
                continue
            if name not in old or name not in new:
                value = new[name] if name not in old else old[name]
                yield f"{here} ({NEW if name not in old else OLD}{', null' if value is None else ''})", None
            else:
                yield from _walk(old[name], new[name], here)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if len(old) != len(new):
            yield f"{place}.* (number of items)", abs(len(old) - len(new))
        for a, b in zip(old, new, strict=False):
            yield from _walk(a, b, f"{place}.*")
    elif _is_number(old) and _is_number(new):
        if old != new and not (math.isnan(old) and math.isnan(new)):
            yield place, abs(old - new)
    elif type(old) is not type(new) or old != new:
        yield place, old.distance(new) if isinstance(old, Tensor) and isinstance(new, Tensor) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _contents(folder: Path) -> dict[str, list[Path]]:
    """What a folder publishes: its files by name, those of a table that has a folder of its own under the folder's."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if not path.is_file() or path.name in _UNREAD or any(part.startswith(("_", ".")) for part in within.parts):
            continue
        is_part = path.suffix == ".parquet" and _PART.fullmatch(path.stem)
        found.setdefault(str(within.parent / "*.parquet") if is_part else str(within), []).append(path)
    return found


def _read(root: Path, name: str, files: list[Path]) -> Items:
    suffix = files[0].suffix
    if suffix == ".parquet":
        return table(pq.ParquetDataset(files).read())
    if suffix == ".safetensors":
        return tensors(files[0])
    if suffix == ".json" and files[0].name != "tokenizer.json":
        return {name: json.loads(files[0].read_text("utf-8"))}
    return {name: hashlib.sha256(files[0].read_bytes()).hexdigest()}


def table(content: Any) -> Items:
    """The rows of an Arrow table by their key, by their order where nothing tells them apart, and the types of its columns."""
    content = content.drop_columns([name for name in content.column_names if name in NAMES])
    rows = content.to_pylist()
    found: dict[Any, Any] = {TYPES: {field.name: str(field.type) for field in content.schema}}
    for names in KEYS:
        if set(names) <= set(content.column_names):
            keys = [tuple(row[name] for name in names) for row in rows]
            if len(set(keys)) == len(rows):
                return found | {key[0] if len(key) == 1 else key: row for key, row in zip(keys, rows, strict=True)}
    return found | dict(enumerate(rows))


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read as they stand there."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    return {
        name: Tensor(told["dtype"], tuple(told["shape"]), content[slice(*(begin + at for at in told["data_offsets"]))])
        for name, told in sorted(header.items())
        if name != "__metadata__"
    }


def digest(content: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, whatever their order in a file."""
    found = hashlib.sha256()
    for name, tensor in sorted(content.items()):
        found.update(json.dumps([name, tensor.dtype, tensor.shape, len(tensor.content)]).encode() + tensor.content)
    return found.hexdigest()


def masked(text: str) -> str:
    """A page without digests and measured costs, which differ between runs of the same code."""
    return _COST.sub(r"\1| |", _DIGEST.sub("#", text))
