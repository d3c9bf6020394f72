"""The base class of systems that read images, the twin of `engine.models.token_system`.

It decodes the files of image studies, brings each image to the model's size with the way back to its own pixels, groups images
into batches, and joins the features of a study's images.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from engine.encoders import set_threads
from engine.errors import RowError
from engine.images.decode import Limits, decode
from engine.images.preprocess import Placement, Preprocessing, preprocessing
from engine.models.checkpoint_system import CheckpointSystem
from engine.models.options import ImageOptions
from engine.records import FAILURE, IMAGE, IMAGES
from engine.sources.images import image_bytes
from engine.vision.encoders import images_per_forward

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# An image as it is prepared: `pixels` are side x side bytes, `place` is that of `Placement`.
PREPARED = pa.struct([pa.field("pixels", pa.large_binary()), pa.field("place", pa.list_(pa.float64())), *IMAGE])


class ImageSystem(CheckpointSystem):
    """See `engine.models.base.System`.

    The config of the checkpoint has `preprocessing`, the name of one. The network has `encoder`, an `engine.vision.ImageEncoder`,
    unless a subclass overrides `grid`, `cells`, `blank` and `pooled`. An image is a grid of cells; the features of a study are
    the mean of those of its images, unless a subclass overrides `joined`.
    """

    reads = IMAGES
    Options: ClassVar[type[ImageOptions]]

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        self._batch_images = runtime.get("batch_images")

    @cached_property
    def batch_images(self) -> int:
        """Images in one forward pass."""
        if self.options.deterministic:
            return 1
        if self._batch_images:
            return int(self._batch_images)
        import torch

        set_threads(self.threads)
        return images_per_forward(self.preprocessing.side, self.device, torch.get_num_threads())

    @cached_property
    def preprocessing(self) -> Preprocessing:
        return preprocessing(self.config.preprocessing)

    @property
    def dtype(self) -> "torch.dtype":
        return next(self.network.encoder.parameters()).dtype

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells of an image."""
        return self.network.encoder.grid(self.preprocessing.side)

    def cells(self, pixels: "Tensor") -> "Tensor":
        """Cells [n, rows * columns, c] of normalized images [n, 3, side, side]."""
        return self.network.encoder.cells(pixels.to(self.dtype))

    def blank(self) -> "Tensor":
        """The cells [rows * columns, c] of a mid-grey image."""
        return self.network.encoder.blank(self.preprocessing.side)

    def pooled(self, cells: "Tensor") -> "Tensor":
        """Features [n, width] of images from their cells."""
        return self.network.encoder.pooled(cells.to(self.dtype), self.preprocessing.side)

    def joined(self, images: "Tensor", counts: Sequence[int]) -> "Tensor":
        """Features [studies, width] in fp32 of studies from those of their images [n, width], `counts` of them in each; the sum
        is in 64 bits."""
        import torch

        return torch.stack([part.double().mean(0) for part in torch.split(images, list(counts))]).float()

    def prepare(self, records: pa.Table) -> pa.Table:
        """Decodes the files of each study, one at a time.

        A file that cannot be decoded is left out and counted in `unread`; a study without a readable file fails as its first
        file does.

        Returns:
            `row`, `record_id`, `failure`, `unread`, and `images`, lists of `PREPARED`.
        Raises:
            InputChanged: a file is not the planned one.
        """
        studies = [self._study(files.values) for files in records[IMAGES]]
        images, unread, failures = zip(*studies, strict=True) if studies else ([], [], [])
        columns = {
            "row": records["row"],
            "record_id": records["record_id"],
            "failure": pa.array(failures, FAILURE),
            "unread": pa.array(unread, pa.int32()),
            IMAGES: pa.array(images, pa.list_(PREPARED)),
        }
        return pa.table(columns)

    def _study(self, files: pa.Array) -> tuple[list[dict[str, Any]] | None, int, dict[str, str] | None]:
        """The images of a study, the number of files that cannot be decoded, and its failure."""
        images, errors = [], [RowError("missing_image")] if not len(files) else []
        for file in files:
            try:
                images += self._images(file.as_py())
            except RowError as error:
                errors.append(error)
        if images:
            return images, len(errors), None
        return None, len(errors), {"kind": errors[0].kind, "detail": errors[0].detail}

    def _images(self, file: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The frames of a file, as `PREPARED`."""
        data = image_bytes(file)
        about, images = {"source": file["source"], "sha256": hashlib.sha256(data).digest()}, []
        for frame in decode(data, Limits(self.options.max_pixels, self.options.max_frames)):
            pixels, place = self.preprocessing.apply(frame)
            height, width = frame.pixels.shape
            size = {"frame": frame.number, "width": width, "height": height}
            images.append({"pixels": pixels.tobytes(), "place": place.to_list(), **about, **size})
        return images

    def batches(self, images: pa.Array) -> "Iterator[Tensor]":
        """Normalized pixels [n, 3, side, side] of prepared images, in their order."""
        import torch

        side, pixels = self.preprocessing.side, images.field("pixels")
        for start in range(0, len(images), self.batch_images):
            part = b"".join(pixels.slice(start, self.batch_images).to_pylist())
            grey = torch.frombuffer(bytearray(part), dtype=torch.uint8).reshape(-1, side, side).to(self.device)
            yield self.preprocessing.normalize(grey)

    def features(self, prepared: pa.Table) -> "Tensor":
        """Features [studies, width] of the prepared rows, in their order."""
        import torch

        images, counts = flat_images(prepared)
        with torch.inference_mode():
            parts = [self.pooled(self.cells(pixels)).float() for pixels in self.batches(images)]
            return self.joined(torch.cat(parts), counts) if parts else torch.zeros(0, 0)


def flat_images(prepared: pa.Table) -> tuple[pa.StructArray, list[int]]:
    """All images of the prepared rows in one array, and the number of those of each row."""
    lists = prepared[IMAGES].combine_chunks()
    return lists.flatten(), lists.value_lengths().to_pylist()


def cell_boxes(image: Mapping[str, Any], side: int, grid: tuple[int, int]) -> np.ndarray:
    """The cells of a prepared image [rows * columns, 4] in pixels of the original, left, top, right and bottom; NaN for a cell
    that lies outside of it."""
    place, (rows, columns) = Placement.of(image["place"]), grid
    down, right = side / rows, side / columns
    boxes = np.full((rows * columns, 4), np.nan)
    for cell in range(rows * columns):
        y, x = divmod(cell, columns)
        box = place.original((x * right, y * down, (x + 1) * right, (y + 1) * down))
        if box is not None:
            boxes[cell] = box
    return boxes
