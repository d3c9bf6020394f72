"""A system of findings whose numbers can be worked by hand: what is brightest, and how bright it is on average."""

import io
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from engine.models import checkpoint
from engine.models.findings.system import (
    CALIBRATION,
    FindingCheckpoint,
    FindingSystem,
    calibration_file,
    read_calibration,
)
from engine.records import IMAGES, records_schema

NAMES = ("Bright", "Wide", "No Finding")


@dataclass(frozen=True)
class Config:
    findings: tuple[str, ...] = NAMES
    preprocessing: str = "small-64"


class Seen(FindingSystem):
    @classmethod
    def read(cls, path, options):
        stored = checkpoint.read(path, __name__, (CALIBRATION,), tokenizer=False)
        config = Config(tuple(stored.config["findings"]), stored.config["preprocessing"])
        return FindingCheckpoint(stored.folder, stored.digest, config, read_calibration(stored.values(CALIBRATION)))

    def build(self, dtype):
        from safetensors.torch import load_file

        from tests.toys.seen.network import Network

        network = checkpoint.fill(Network(), load_file(self.checkpoint.folder / checkpoint.MODEL), ":")
        return network.to(dtype)

    def predict(self, features):
        return self.network.head(features.to(self.dtype))


TABLE, READS, Options, load = Seen.table, IMAGES, Seen.Options, Seen.load


def write(folder, calibration=None):
    """A checkpoint with these calibrations by finding."""
    from tests.toys.seen.network import Network

    tensors = Network().state_dict()
    checkpoint.write(folder, __name__, asdict(Config()), tensors, None, calibration_file(calibration or {}), "a card\n")
    return folder


def picture(*squares, size=(64, 64), grey=127):
    """A PNG, grey with squares (x, y, side, level) in it; `size` is its width and height."""
    pixels = np.full(size[::-1], grey, np.uint8)
    for x, y, side, level in squares:
        pixels[y : y + side, x : x + side] = level
    return png(pixels)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def studies(**files):
    """Records of studies from lists of files' bytes."""
    rows = [
        {
            "row": row,
            "record_id": name,
            "source": "s",
            "position": row,
            "images": [
                {"source": f"{name}-{at}.png", "path": None, "size": len(data), "version": None, "data": data}
                for at, data in enumerate(listed)
            ],
            "failure": None,
            "keep": {},
        }
        for row, (name, listed) in enumerate(files.items())
    ]
    return pa.Table.from_pylist(rows, schema=records_schema((), IMAGES))
