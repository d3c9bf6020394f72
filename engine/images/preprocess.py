"""Named ways to bring a frame to a model's size, each with the exact way back to the pixels of the file.

Frames are turned upright and resampled by Pillow on eight bits. Coordinates are those of pixel edges: pixel (x, y) is the box
(x, y, x + 1, y + 1), and a box is (x0, y0, x1, y1).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from engine.errors import ConfigError
from engine.images.frames import Frame, steps, turned
from engine.keys import closest

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Placement:
    """Where a frame lies among a model's pixels.

    Args:
        width, height: of the frame as it is stored.
        turn: the frame's, a code of EXIF's Orientation.
        scale_x, scale_y: model pixels for each pixel of the upright frame.
        left, top: the upright frame's corner in model pixels; negative where it is cropped.
    """

    width: float
    height: float
    turn: float
    scale_x: float
    scale_y: float
    left: float
    top: float

    def original(self, box: Sequence[float]) -> Box | None:
        """The part of a box of model pixels that lies in the stored frame, in the frame's pixels; None if there is none."""
        x0, y0, x1, y1 = box
        xs = [(x - self.left) / self.scale_x for x in (x0, x1)]
        ys = [(y - self.top) / self.scale_y for y in (y0, y1)]
        transposes, mirrors, flips = steps(int(self.turn))
        width, height = (self.height, self.width) if transposes else (self.width, self.height)
        xs = [width - x for x in xs] if mirrors else xs
        ys = [height - y for y in ys] if flips else ys
        if transposes:
            xs, ys = ys, xs
        xs, ys = (sorted(min(max(x, 0.0), self.width) for x in xs), sorted(min(max(y, 0.0), self.height) for y in ys))
        return (xs[0], ys[0], xs[1], ys[1]) if xs[0] < xs[1] and ys[0] < ys[1] else None

    def model(self, box: Sequence[float]) -> Box:
        """A box of the stored frame in model pixels; with a cropping fit it may lie outside of what the model sees."""
        x0, y0, x1, y1 = box
        xs, ys = [x0, x1], [y0, y1]
        transposes, mirrors, flips = steps(int(self.turn))
        width, height = self.width, self.height
        if transposes:
            xs, ys, width, height = ys, xs, height, width
        xs = sorted((width - x if mirrors else x) * self.scale_x + self.left for x in xs)
        ys = sorted((height - y if flips else y) * self.scale_y + self.top for y in ys)
        return xs[0], ys[0], xs[1], ys[1]

    def to_list(self) -> list[float]:
        return list(astuple(self))

    @classmethod
    def of(cls, values: Sequence[float]) -> "Placement":
        return cls(*map(float, values))


@dataclass(frozen=True)
class Preprocessing:
    """One way to a model's input.

    Args:
        side: of the square that the model sees, in pixels.
        fit: how a frame comes to be square: black borders, its middle alone (shorter side = `side`), or another aspect ratio.
        resample: a filter of Pillow.
        mean, std: of the three channels, in levels of 0 to 255.
    """

    name: str
    side: int
    fit: Literal["pad", "crop", "stretch"]
    resample: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, frame: Frame) -> tuple[np.ndarray, Placement]:
        """A frame as the model sees it, [side, side] uint8, and where it lies there."""
        upright = Image.fromarray(np.ascontiguousarray(turned(frame.pixels, frame.turn)))
        width, height = upright.size
        size, box = (self.side, self.side), (0.0, 0.0, float(width), float(height))
        if self.fit == "pad":
            longer = max(width, height)
            size = (max(1, round(width * self.side / longer)), max(1, round(height * self.side / longer)))
        elif self.fit == "crop":
            # The square is cut out of the frame before it is resampled: a long narrow frame would grow without limit.
            x, y = (width - min(width, height)) / 2, (height - min(width, height)) / 2
            box = (x, y, width - x, height - y)
        resized = upright.resize(size, Image.Resampling[self.resample.upper()], box)
        left, top = (self.side - size[0]) // 2, (self.side - size[1]) // 2
        pixels = np.zeros((self.side, self.side), np.uint8)
        pixels[top : top + size[1], left : left + size[0]] = resized
        scale_x, scale_y = size[0] / (box[2] - box[0]), size[1] / (box[3] - box[1])
        stored_height, stored_width = frame.pixels.shape
        corner = left - box[0] * scale_x, top - box[1] * scale_y
        return pixels, Placement(float(stored_width), float(stored_height), float(frame.turn), scale_x, scale_y, *corner)

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """uint8 [n, side, side] -> fp32 [n, 3, side, side], on the same device."""
        import torch

        mean, std = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels.to(torch.float32).unsqueeze(1) - mean) / std


def _grey(value: float) -> tuple[float, float, float]:
    return (value, value, value)


# ImageNet's statistics by channel, as torchvision and transformers have them, in levels of 0 to 255.
_IMAGENET = (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)

PREPROCESSINGS = {
    way.name: way
    for way in (
        # EfficientNet-Lite's (pixel - 127) / 128; borders instead of another aspect ratio.
        Preprocessing("lite0-320", 320, "pad", "bicubic", _grey(127.0), _grey(128.0)),
        Preprocessing("small-64", 64, "pad", "bilinear", _grey(127.0), _grey(128.0)),
        # The whole shorter side is seen: ImageNet's usual 256 to 224 would cut the lungs' edges off.
        Preprocessing("imagenet-224", 224, "crop", "bicubic", *_IMAGENET),
        Preprocessing("imagenet-448", 448, "crop", "bicubic", *_IMAGENET),
        # CheXzero's statistics, in levels.
        Preprocessing("cxr-448", 448, "pad", "bicubic", _grey(101.48761), _grey(83.43944)),
        # The processor of microsoft/rad-dino: shorter edge and crop 518, bicubic, mean 0.5307, deviation 0.2583.
        Preprocessing("rad-dino-518", 518, "crop", "bicubic", _grey(0.5307 * 255), _grey(0.2583 * 255)),
    )
}


def preprocessing(name: str) -> Preprocessing:
    """Raises: ConfigError, with the names that there are."""
    if name not in PREPROCESSINGS:
        raise ConfigError(
            f"'{name}' is no preprocessing{closest(name, PREPROCESSINGS)}; there are {', '.join(PREPROCESSINGS)}", "preprocessing"
        )
    return PREPROCESSINGS[name]
