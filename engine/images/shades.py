"""Stored values of a DICOM file to grey levels of a screen.

A value goes through the modality LUT or rescale, then the VOI LUT or the first window (DICOM PS3.3, C.11.1 and C.11.2), and is
turned round for MONOCHROME1. Without LUT and window, data of up to eight bits keep the range of their type, and deeper data run
from their smallest value to their largest, over all frames that are read. Pixel Padding is black. A functional group goes before
the header. Colour becomes luma.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut

from engine.errors import RowError
from engine.images.frames import byte_levels, mapped, stretched


def shades(stack: np.ndarray, dataset: Dataset, numbers: Sequence[int]) -> list[np.ndarray]:
    """Monochrome frames [frames, height, width] as uint8."""
    padding = _padding(stack, dataset)
    shown = stack if padding is None else stack[~padding]
    low, high = (int(shown.min()), int(shown.max())) if shown.size else (0, 0)
    frames = []
    for at, number in enumerate(numbers):
        pixels = mapped(stack[at], low, high, _Shade(dataset, number, low, high))
        frames.append(pixels if padding is None else np.where(padding[at], np.uint8(0), pixels))
    return frames


def _padding(stack: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Where a frame is filled up to a rectangle."""
    ends = [int(value) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit") if (value := dataset.get(name)) is not None]
    return (stack >= min(ends)) & (stack <= max(ends)) if ends else None


class _Shade:
    """Stored values -> uint8, for one frame; `low` and `high` are the ends of what is stored."""

    def __init__(self, dataset: Dataset, number: int, low: int, high: int) -> None:
        self.dataset = dataset
        self.rescale = _group(dataset, number, "PixelValueTransformationSequence")
        self.voi = _group(dataset, number, "FrameVOILUTSequence")
        self.stored = np.array([low, high])
        if dataset.BitsStored <= 8:
            bottom = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
            self.stored = np.arange(bottom, bottom + 2**dataset.BitsStored)

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        levels = byte_levels(self._shares(self._modality(stored)))
        return 255 - levels if self.dataset.PhotometricInterpretation == "MONOCHROME1" else levels

    def _modality(self, stored: np.ndarray) -> np.ndarray:
        if luts := self.dataset.get("ModalityLUTSequence"):
            return self._looked_up(luts[0], stored)[0]
        slope, intercept = _number(self.rescale, "RescaleSlope"), _number(self.rescale, "RescaleIntercept")
        return stored * (slope or 1.0) + (intercept or 0.0)

    def _shares(self, values: np.ndarray) -> np.ndarray:
        if luts := self.voi.get("VOILUTSequence"):
            levels, bits = self._looked_up(luts[0], values)
            return levels / (2**bits - 1)
        centre, width = _number(self.voi, "WindowCenter"), _number(self.voi, "WindowWidth")
        function = str(self.voi.get("VOILUTFunction") or "LINEAR")
        if centre is not None and width is not None and width > 0:
            if function == "SIGMOID":
                # 1 / (1 + exp(-4 (x - c) / w)), without its overflow.
                return 0.5 + 0.5 * np.tanh(2.0 * (values - centre) / width)
            if function == "LINEAR_EXACT":
                return stretched(values, centre - width / 2, centre + width / 2)
            if width > 1:
                return stretched(values, centre - width / 2, centre + width / 2 - 1)
        ends = self._modality(self.stored)
        return stretched(values, ends.min(), ends.max())

    def _looked_up(self, lut: Dataset, values: np.ndarray) -> tuple[np.ndarray, int]:
        """Values through a LUT, and the bits of its entries (PS3.3, C.11.1.1.1)."""
        _, first, bits = map(int, lut.LUTDescriptor)
        entries = lut.LUTData
        if isinstance(entries, bytes):
            entries = np.frombuffer(entries, "<u2" if self.dataset.file_meta.TransferSyntaxUID.is_little_endian else ">u2")
        if not 1 <= bits <= 16:
            raise RowError("not_an_image", "broken LUT")
        entries = np.atleast_1d(entries).astype(np.float64)
        return entries[np.clip(np.floor(values) - first, 0, len(entries) - 1).astype(np.int64)], bits


def _group(dataset: Dataset, number: int, name: str) -> Dataset:
    """The part of the header that says something of a frame: its functional group, the shared one, or the header itself."""
    for groups, at in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if at < len(items) and (inner := items[at].get(name)):
            return inner[0]
    return dataset


def _number(dataset: Dataset, name: str) -> float | None:
    """A number of the header, the first of several; None if it is missing, empty or not finite."""
    value = dataset.get(name)
    value = (value[0] if len(value) else None) if isinstance(value, MultiValue) else value
    return float(value) if value not in (None, "") and np.isfinite(float(value)) else None


def lumas(stack: np.ndarray, dataset: Dataset) -> list[np.ndarray]:
    """Colour frames [frames, height, width, 3], or indices of a palette without the last axis, as uint8."""
    top = 2**dataset.BitsStored - 1
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stack = apply_color_lut(stack, dataset)[..., :3]
        top = 2 ** int(dataset.RedPaletteColorLookupTableDescriptor[2]) - 1
    frames = (frame if top == 255 and frame.dtype == np.uint8 else byte_levels(frame / top) for frame in stack)
    return [np.array(Image.fromarray(np.ascontiguousarray(frame)).convert("L")) for frame in frames]
