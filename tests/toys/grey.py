"""A system of images without a model: a study's mean grey is its answer, and above half it has the finding `bright`.

A study with an image that is one black pixel kills its process, in `prepare`.
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from engine.errors import RowError
from engine.models.base import ModelSpec
from engine.models.options import SystemOptions
from engine.records import FAILURE, FINDINGS, IMAGE, IMAGES, findings_fields
from engine.sources.images import image_bytes

TABLE, READS, LABEL = FINDINGS, IMAGES, "bright"


@dataclass(frozen=True)
class Options(SystemOptions):
    pass


class Grey:
    table, reads = TABLE, READS

    def __init__(self, spec: ModelSpec) -> None:
        self.digest = hashlib.sha256(b"grey").hexdigest()

    def fields(self) -> list[pa.Field]:
        return findings_fields()

    def limits(self) -> dict[str, str]:
        return {}

    def known(self) -> dict[str, list[str]]:
        return {"findings": [LABEL]}

    def auto(self) -> dict[str, list[str]]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        rows = [self._prepared(files) for files in records[IMAGES].to_pylist()]
        columns = {"failure": FAILURE, "images": pa.list_(IMAGE), "pixels": pa.list_(pa.binary())}
        return pa.table(
            {
                **{name: records[name] for name in ("row", "record_id")},
                **{name: pa.array([row.get(name) for row in rows], kind) for name, kind in columns.items()},
            }
        ).take(list(range(len(rows)))[::-1])

    def run(self, prepared: pa.Table) -> pa.Table:
        rows = []
        for row, images, pixels in zip(*(prepared[name].to_pylist() for name in ("row", "images", "pixels")), strict=True):
            mean = float(np.mean([np.frombuffer(each, np.uint8).mean() for each in pixels])) / 255
            label = {"name": LABEL, "prob": mean, "threshold": 0.5, "pred": int(mean > 0.5), "clear": True}
            rows.append({"row": row, "decision": "auto", "reasons": [], "images": images, "labels": [label]})
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        return pa.Table.from_pylist(rows, schema=schema)

    def _prepared(self, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        images, pixels = [], []
        try:
            for file in files:
                data = image_bytes(file)
                image = _decoded(data)
                if image.shape == (1, 1) and image.max() == 0:
                    os._exit(9)
                facts = {"frame": 0, "width": image.shape[1], "height": image.shape[0], "sha256": hashlib.sha256(data).digest()}
                images.append({"source": file["source"], **facts})
                pixels.append(image.tobytes())
        except RowError as error:
            return {"failure": {"kind": error.kind, "detail": error.detail}}
        return {"images": images, "pixels": pixels}


def _decoded(data: bytes) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    except UnidentifiedImageError:
        raise RowError("not_an_image") from None


def load(spec: ModelSpec) -> Grey:
    return Grey(spec)
