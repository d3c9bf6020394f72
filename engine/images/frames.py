"""What every reader of images gives and obeys: frames, limits, and the failures of a file that cannot be read."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from engine.errors import RowError

# Both libraries quote values of a file in warnings and logs. The filters of `warnings.catch_warnings` belong to the whole process
# and not to a thread, so they are silenced once and by name.
for _name in ("pydicom", "PIL"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False
    warnings.filterwarnings("ignore", module=rf"{_name}(\.|$)")

# Distinct stored values up to which they are mapped by a table, which is exact and costs one look-up a pixel.
_TABLE = 2**16
_UNTURNED = {6: 8, 8: 6}


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a file, in grey, on the file's own grid: what is bright in it is bright on a viewer's screen.

    Args:
        pixels: [height, width] uint8.
        number: its place among the frames of the file, from 0.
        turn: how a viewer turns it to show it upright, as a code of EXIF's Orientation, 1 to 8; 1 is as it is.
    """

    pixels: np.ndarray
    number: int
    turn: int = 1


@dataclass(frozen=True)
class Limits:
    """What a file may hold: pixels of all its frames together by its header, and frames that are read of it."""

    max_pixels: int = 64_000_000
    max_frames: int = 16

    def check(self, pixels: int) -> None:
        """Raises: RowError `too_many_pixels`."""
        if pixels > self.max_pixels:
            raise RowError("too_many_pixels", f"{pixels} pixels, at most {self.max_pixels} are read")

    def numbers(self, frames: int) -> list[int]:
        """Which of so many frames are read: all, or else `max_frames`, evenly spread from the first to the last."""
        return np.unique(np.linspace(0, frames - 1, min(frames, self.max_frames)).round().astype(int)).tolist()


@contextmanager
def broken(what: str) -> Iterator[None]:
    """Turns any error of a library that reads a file into RowError `not_an_image`, in our words, as theirs quote the file."""
    try:
        yield
    except (RowError, MemoryError):
        raise
    except Exception as error:
        raise RowError("not_an_image", f"broken {what} ({type(error).__name__})") from None


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """A view of an array [height, width, ...] as a viewer shows it: turned by a code of EXIF's Orientation (Exif 3.0, 4.6.5)."""
    transposes, mirrors, flips = steps(turn)
    pixels = pixels.swapaxes(0, 1) if transposes else pixels
    return pixels[:: -1 if flips else 1, :: -1 if mirrors else 1]


def unturned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """The inverse of `turned`."""
    return turned(pixels, _UNTURNED.get(turn, turn))


def steps(turn: int) -> tuple[bool, bool, bool]:
    """A turn as its steps, in this order: whether it transposes, whether left becomes right, whether top becomes bottom."""
    return turn >= 5, turn in (2, 3, 6, 7), turn in (3, 4, 7, 8)


def mapped(pixels: np.ndarray, low: float, high: float, levels: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`levels` of an array clipped to low .. high; of whole numbers it is worked out once for each."""
    pixels = np.clip(pixels, low, high)
    if np.issubdtype(pixels.dtype, np.integer) and high - low < _TABLE:
        return levels(np.arange(low, high + 1))[pixels.astype(np.int64) - low]
    return levels(pixels)


def byte_levels(shares: np.ndarray) -> np.ndarray:
    """Shares of full brightness, 0 to 1, as uint8; what lies outside is clipped."""
    return np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Shares of the range from low to high, in fp64; 0 where it is empty."""
    return (np.asarray(values, dtype=np.float64) - low) / ((high - low) or 1.0)
