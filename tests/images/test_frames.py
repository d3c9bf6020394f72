import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.errors import RowError
from engine.images.frames import Limits, broken, byte_levels, mapped, stretched, turned, unturned


def test_all_frames_are_read_up_to_the_limit_and_then_an_even_spread() -> None:
    assert Limits(max_frames=16).numbers(3) == [0, 1, 2]
    assert Limits(max_frames=3).numbers(101) == [0, 50, 100]
    assert Limits(max_frames=1).numbers(9) == [0]


@given(st.integers(1, 5000), st.integers(1, 40))
def test_the_spread_has_as_many_frames_as_it_may(frames: int, most: int) -> None:
    numbers = Limits(max_frames=most).numbers(frames)
    assert len(numbers) == min(frames, most) and numbers == sorted(set(numbers)) and 0 <= numbers[0] <= numbers[-1] < frames


def test_pixels_beyond_the_limit_are_refused() -> None:
    Limits(max_pixels=12).check(12)
    with pytest.raises(RowError) as failure:
        Limits(max_pixels=12).check(13)
    assert failure.value.kind == "too_many_pixels"


@pytest.mark.parametrize("turn", range(1, 9))
def test_turns_are_those_of_exif(turn: int) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(stored)
    image.getexif()[274] = turn
    assert turned(stored, turn).tolist() == np.asarray(ImageOps.exif_transpose(image)).tolist()
    assert unturned(turned(stored, turn), turn).tolist() == stored.tolist()


def test_a_quarter_turn_by_hand() -> None:
    """EXIF 6: the first row of the file is the right-hand side of what is shown."""
    assert turned(np.array([[1, 2, 3], [4, 5, 6]]), 6).tolist() == [[4, 1], [5, 2], [6, 3]]


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=30), st.integers(-100, 100), st.integers(1, 300))
def test_the_table_says_what_each_value_says(values: list[int], low: int, width: int) -> None:
    def levels(some: np.ndarray) -> np.ndarray:
        return byte_levels(stretched(some, low, low + width))

    pixels = np.array(values, np.int16)
    assert mapped(pixels, low, low + width, levels).tolist() == levels(np.clip(pixels.astype(float), low, low + width)).tolist()


def test_errors_of_libraries_lose_their_words() -> None:
    with pytest.raises(RowError) as failure, broken("file"):
        raise ValueError("Known^Patient")
    assert (failure.value.kind, failure.value.detail) == ("not_an_image", "broken file (ValueError)")
    with pytest.raises(MemoryError), broken("file"):
        raise MemoryError
