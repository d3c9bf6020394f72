"""Corpora that a study makes itself, and models trained on them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.storage import whole_file
from engine.studies import whole
from engine.studies.run import Task

SPLITS = ("train", "valid", "test")


def fit_on(table: pa.Table, task: Task, data: Mapping[str, Any], aside: Sequence[str]) -> whole.Fitted:
    """A model trained as `engine.studies.whole` does it, on a table of labelled texts.

    Args:
        data: settings that say which column holds what. aside: parts of the arm's settings that do not concern the training;
            those of its measures never do.
    """
    settings = {name: value for name, value in task.settings.items() if name.partition(".")[0] not in aside} | dict(data)
    return whole.fit(replace(task, corpus=str(written(table, task.models / "corpora")), settings=settings, identity=settings))


def written(table: pa.Table, folder: Path) -> Path:
    """The table as a Parquet file, called by the digest of its bytes and written once: a training goes on only from the very file
    that it began with."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    data = buffer.getvalue().to_pybytes()
    file = folder / f"{hashlib.sha256(data).hexdigest()[:24]}.parquet"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_bytes(data)
    return file
