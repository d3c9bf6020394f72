"""The images of the studies that a page shows, read again from the input and reduced."""

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from engine.errors import InputChanged, RowError
from engine.pages import words

SIDE = 480
_GONE = "The input no longer has this image."
_OTHER = "The image is not the one that was read in the run."
_NEVER_READ = "The run could not read this image."
# Loss that no eye sees at this size.
_QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """A reduced image as a data URI, the size of the original in pixels, and how a viewer turns it to show it upright: a code of
    EXIF's Orientation, 1 to 8 (Exif 3.0, 4.6.5)."""

    uri: str
    width: int
    height: int
    turn: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as shown."""
        return (self.height, self.width) if self.turn >= 5 else (self.width, self.height)

    @property
    def matrix(self) -> tuple[int, int, int, int, int, int]:
        """From pixels of the original to those of the upright image, as the six numbers of an SVG transform."""
        width, height = self.upright
        right, down = (-1 if self.turn in turns else 1 for turns in ((2, 3, 6, 7), (3, 4, 7, 8)))
        turned = (0, down, right, 0) if self.turn >= 5 else (right, 0, 0, down)
        return *turned, width if right < 0 else 0, height if down < 0 else 0


@dataclass(frozen=True)
class Study:
    """A row of `findings`, and for each of its `images` a picture, or a sentence that says why there is none."""

    row: Mapping[str, Any]
    pictures: Sequence[Picture | str] = ()


def data_uri(pixels: np.ndarray, side: int = SIDE) -> str:
    """A grey image [height, width] of uint8 as a JPEG of at most `side` pixels each way."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def join_images(rows: Sequence[Mapping[str, Any]], records: Iterable[pa.Table]) -> list[Study]:
    """The rows with their images, by source and position, in the order of the rows.

    An image is only shown if its file still has the digest in the row, so that patches lie where they belong.

    Args:
        records: tables from sources that hold images, one after the other; reading stops when every study is found.
    """
    wanted = {(row["source"], row["position"]): row for row in rows if row["images"]}
    pictures: dict[tuple[str, int], list[Picture | str]] = {}
    for table in records if wanted else ():
        for i, place in enumerate(zip(table["source"].to_pylist(), table["position"].to_pylist(), strict=True)):
            if place in wanted:
                pictures[place] = list(_pictures(wanted[place]["images"], table["images"][i].as_py() or ()))
        if len(pictures) == len(wanted):
            break
    return [Study(row, pictures.get((row["source"], row["position"])) or [_GONE] * len(row["images"] or ())) for row in rows]


def _pictures(images: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]) -> Iterator[Picture | str]:
    by_name = {file["source"]: file for file in files}
    for image in images:
        if image["sha256"] is None:
            yield _NEVER_READ
        elif image["source"] not in by_name:
            yield _GONE
        else:
            yield _picture(image, by_name[image["source"]])


def _picture(image: Mapping[str, Any], file: Mapping[str, Any]) -> Picture | str:
    # The decoders are large, and only pages with images need them.
    from engine.images.decode import Limits, decode
    from engine.sources.images import image_bytes

    try:
        data = image_bytes(file)
        if hashlib.sha256(data).digest() != image["sha256"]:
            return _OTHER
        frames = {frame.number: frame for frame in decode(data, Limits())}
    except InputChanged:
        return _OTHER
    except RowError as error:
        return f"The image could not be read again: {words.FAILURES[error.kind]}"
    frame = frames.get(image["frame"] or 0)
    if frame is None or frame.pixels.shape != (image["height"], image["width"]):
        return _OTHER
    return Picture(data_uri(frame.pixels), image["width"], image["height"], frame.turn)
