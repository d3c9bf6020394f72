import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.images.frames import Frame, turned
from engine.images.preprocess import PREPROCESSINGS, Placement, Preprocessing, preprocessing

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SIDES = st.integers(1, 300)
TURNS = st.integers(1, 8)
FITS = st.sampled_from(["pad", "crop", "stretch"])
FILTERS = st.sampled_from(["bilinear", "bicubic"])


def way(fit: str, side: int = 32, resample: str = "bicubic") -> Preprocessing:
    return Preprocessing("test", side, fit, resample, ZERO, ONE)


def test_padding_by_hand() -> None:
    """20 x 10 pixels on 32: scaled by 1.6, with 8 rows of border above and below."""
    pixels, placement = way("pad").apply(Frame(np.full((10, 20), 200, np.uint8), 0))
    assert pixels.shape == (32, 32) and pixels.dtype == np.uint8
    assert pixels[8:24].min() == pixels[8:24].max() == 200 and pixels[:8].max() == pixels[24:].max() == 0
    assert placement == Placement(20.0, 10.0, 1.0, 1.6, 1.6, 0.0, 8.0)
    assert placement.original((0, 0, 32, 32)) == (0, 0, 20, 10)
    assert placement.original((16, 8, 32, 16)) == (10, 0, 20, 5)
    assert placement.original((0, 0, 32, 8)) is None
    assert placement.model((0, 0, 20, 10)) == (0, 8, 32, 24)


def test_cropping_by_hand() -> None:
    """The middle of 20 x 10 pixels: columns 5 to 15, scaled by 3.2."""
    ramp = np.repeat(np.arange(20, dtype=np.uint8)[None] * 10, 10, axis=0)
    pixels, placement = way("crop").apply(Frame(ramp, 0))
    assert pixels[0, 0] in range(45, 56) and pixels[0, -1] in range(139, 151)
    assert placement.original((0, 0, 32, 32)) == (5, 0, 15, 10)
    assert placement.model((0, 0, 5, 10)) == (-16, 0, 0, 32)


def test_stretching_by_hand() -> None:
    _, placement = way("stretch").apply(Frame(np.zeros((64, 16), np.uint8), 0))
    assert placement.original((8, 8, 16, 16)) == (4, 16, 8, 32)


def test_a_turned_frame_by_hand() -> None:
    """EXIF 6: the left column of the file is the top row of what is shown, the first row its right-hand side."""
    stored = np.zeros((10, 20), np.uint8)
    stored[:5] = 255
    pixels, placement = way("stretch", 20, "bilinear").apply(Frame(stored, 0, 6))
    assert pixels[:, 12:].min() == 255 and pixels[:, :8].max() == 0
    assert placement.model((0, 0, 20, 5)) == (10, 0, 20, 20)
    assert placement.original((10, 0, 20, 10)) == (0, 0, 10, 5)


@given(SIDES, SIDES, TURNS, FITS, st.integers(1, 64), st.data())
def test_the_way_there_and_back(width: int, height: int, turn: int, fit: str, side: int, data: st.DataObject) -> None:
    frame = Frame(np.zeros((height, width), np.uint8), 0, turn)
    pixels, placement = way(fit, side).apply(frame)
    assert pixels.shape == (side, side)
    assert Placement.of(placement.to_list()) == placement and all(isinstance(value, float) for value in placement.to_list())
    x0, x1 = sorted(data.draw(st.tuples(*[st.floats(0, width)] * 2)))
    y0, y1 = sorted(data.draw(st.tuples(*[st.floats(0, height)] * 2)))
    assume(x1 - x0 > 1e-6 and y1 - y0 > 1e-6)
    there = placement.model((x0, y0, x1, y1))
    assert there[0] <= there[2] and there[1] <= there[3]
    back = placement.original(there)
    assert back is not None and back == pytest.approx((x0, y0, x1, y1), abs=1e-6)
    # From the model's side: a box of its pixels within the image.
    inside = placement.original((0, 0, side, side))
    assert inside is not None and 0 <= inside[0] < inside[2] <= width and 0 <= inside[1] < inside[3] <= height
    box = placement.model(inside)
    u, v, w, z = data.draw(st.tuples(*[st.floats(0, 1)] * 4))
    part = (
        box[0] + min(u, v) * (box[2] - box[0]),
        box[1] + min(w, z) * (box[3] - box[1]),
        box[0] + max(u, v) * (box[2] - box[0]),
        box[1] + max(w, z) * (box[3] - box[1]),
    )
    assume(part[2] - part[0] > 1e-5 and part[3] - part[1] > 1e-5)
    original = placement.original(part)
    assert original is not None and placement.model(original) == pytest.approx(part, abs=1e-6)


@given(SIDES, SIDES, TURNS, FITS, FILTERS, st.data())
def test_a_white_pixel_lands_where_its_box_says(
    width: int, height: int, turn: int, fit: str, resample: str, data: st.DataObject
) -> None:
    side = 64
    # Resampled to less than a fifth of its size, a single pixel is no longer seen.
    assume(max(width, height) <= 5 * side and max(width, height) / min(width, height) <= 5)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    stored = np.zeros((height, width), np.uint8)
    stored[y, x] = 255
    pixels, placement = way(fit, side, resample).apply(Frame(stored, 0, turn))
    x0, y0, x1, y1 = placement.model((x, y, x + 1, y + 1))
    assume(x0 >= 0 and y0 >= 0 and x1 <= side and y1 <= side)
    assert pixels.max() > 0
    rows, columns = np.nonzero(pixels == pixels.max())
    # The brightest model pixels touch the box.
    assert all(x0 - 1e-6 <= column + 1 and column <= x1 + 1e-6 for column in columns)
    assert all(y0 - 1e-6 <= row + 1 and row <= y1 + 1e-6 for row in rows)


@given(SIDES, SIDES, TURNS)
def test_a_turn_changes_nothing_but_the_turn(width: int, height: int, turn: int) -> None:
    stored = np.random.default_rng(width * 301 + height).integers(0, 256, (height, width), dtype=np.uint8)
    pixels, _ = way("pad").apply(Frame(stored, 0, turn))
    upright, _ = way("pad").apply(Frame(np.ascontiguousarray(turned(stored, turn)), 0))
    assert (pixels == upright).all()


def test_a_long_narrow_frame_does_not_grow() -> None:
    for fit in ("pad", "crop", "stretch"):
        pixels, placement = way(fit, 448).apply(Frame(np.full((1, 60_000), 9, np.uint8), 0))
        assert pixels.shape == (448, 448) and pixels.max() == 9 and placement.original((0, 0, 448, 448)) is not None


def test_levels_become_the_models_scale() -> None:
    pixels = torch.tensor([[[0, 127], [255, 127]]], dtype=torch.uint8)
    scaled = preprocessing("lite0-320").normalize(pixels)
    assert scaled.shape == (1, 3, 2, 2) and scaled.dtype == torch.float32
    assert scaled[0, 2].tolist() == [[-127 / 128, 0.0], [1.0, 0.0]]
    imagenet = preprocessing("imagenet-224").normalize(pixels)[0, :, 1, 0]
    assert imagenet.tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], abs=1e-5)
    assert preprocessing("cxr-448").normalize(pixels)[0, 0, 0, 0].item() == pytest.approx(-101.48761 / 83.43944, abs=1e-6)
    assert preprocessing("rad-dino-518").normalize(pixels)[0, 0, 1, 0].item() == pytest.approx((1 - 0.5307) / 0.2583, abs=1e-5)


def test_names() -> None:
    assert {name: (way.side, way.fit) for name, way in PREPROCESSINGS.items()} == {
        "lite0-320": (320, "pad"),
        "small-64": (64, "pad"),
        "imagenet-224": (224, "crop"),
        "imagenet-448": (448, "crop"),
        "cxr-448": (448, "pad"),
        "rad-dino-518": (518, "crop"),
    }
    with pytest.raises(ConfigError, match=r"did you mean 'cxr-448'.*small-64"):
        preprocessing("cxr448")
