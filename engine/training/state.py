"""The results of a training: the weights and the curve in its state, and the curve as a table and a page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from engine.pages.training import write_training_page
from engine.storage import storage_for

STATE = "state.safetensors"
_WEIGHT = "weight/"
State = tuple[Mapping[str, Tensor], Sequence[Mapping[str, Any]]]


def read_state(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The trained tensors by name, and the curve."""
    path = folder / STATE
    tensors = {name.removeprefix(_WEIGHT): value for name, value in load_file(path).items() if name.startswith(_WEIGHT)}
    with safe_open(path, "pt") as file:
        return tensors, json.loads(file.metadata()["place"])["curve"]


def write_weights(tensors: Mapping[str, Tensor], path: str) -> None:
    """The trained tensors by name as a safetensors file, on any storage."""
    data = save({name: value.contiguous() for name, value in tensors.items()})
    with storage_for(path).writer(path) as file:
        file.write(data)


def write_curve(folder: Path, curve: Sequence[Mapping[str, Any]]) -> None:
    """Writes `curve.parquet` and `curve.html`. Every figure of any row is a column, null in the rows without it."""
    names = dict.fromkeys(name for row in curve for name in row)
    schema = pa.schema([(name, pa.int64() if name in ("step", "steps") else pa.float64()) for name in names])
    pq.write_table(pa.Table.from_pylist(list(curve), schema=schema), folder / "curve.parquet")
    write_training_page(folder / "curve.html", "How the training went", curve)
