import struct
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from engine.images.decode import Limits, decode
from tests.images.files import dicom, failure, levels


def test_a_window_by_hand() -> None:
    values = np.array([[-100, 0, 50, 100, 200]], np.int16)
    # Centre 50, width 101: from -0.5 to 99.5 about 49.5, both ends whole numbers away (PS3.3, C.11.2.1.2.1).
    assert levels(dicom(values, WindowCenter=50.5, WindowWidth=101)) == [[0, 0, 128, 255, 255]]
    assert levels(dicom(values, WindowCenter=50, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")) == [[0, 0, 128, 255, 255]]
    # 1 / (1 + exp(-4 (x - 50) / 100)): 0.0025, 0.1192, 0.5, 0.8808, 0.9975.
    assert levels(dicom(values, WindowCenter=50, WindowWidth=100, VOILUTFunction="SIGMOID")) == [[1, 30, 128, 225, 254]]
    assert levels(dicom(values, WindowCenter=[50.5, 0], WindowWidth=[101, 10])) == [[0, 0, 128, 255, 255]]


def test_a_window_that_says_nothing_is_none() -> None:
    values = np.array([[0, 1000]], np.uint16)
    for window in ({"WindowCenter": None, "WindowWidth": None}, {"WindowCenter": 3, "WindowWidth": 0}, {"WindowCenter": 3}):
        assert levels(dicom(values, **window)) == [[0, 255]]


def test_rescale_comes_before_the_window() -> None:
    values = np.array([[0, 100, 200]], np.uint16)
    assert levels(dicom(values, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=100.5, WindowWidth=401)) == [[0, 128, 255]]
    # A falling slope makes small values bright.
    assert levels(dicom(values, RescaleSlope=-1, RescaleIntercept=0)) == [[255, 128, 0]]
    assert levels(dicom(values, RescaleSlope=None, RescaleIntercept=None)) == [[0, 128, 255]]


def test_monochrome_1_is_turned_round_after_the_window() -> None:
    values = np.array([[0, 25, 100]], np.uint16)
    dark = dicom(values, WindowCenter=50.5, WindowWidth=101, PhotometricInterpretation="MONOCHROME1")
    assert levels(dark) == [[255, 191, 0]]
    # The Presentation LUT Shape of such a file says the same once more.
    assert levels(dicom(values, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")) == [[255, 191, 0]]


@pytest.mark.parametrize(
    ("values", "stored", "expected"),
    [
        (np.array([[0, 51, 255]], np.uint8), 8, [0, 51, 255]),
        (np.array([[0, 3, 15]], np.uint8), 4, [0, 51, 255]),
        (np.array([[-128, 0, 127]], np.int8), 8, [0, 128, 255]),
        (np.array([[100, 200, 1100]], np.uint16), 12, [0, 26, 255]),
        (np.array([[-1000, 0, 1000]], np.int16), 16, [0, 128, 255]),
        (np.array([[0, 2**31, 2**32 - 1]], np.uint32), 32, [0, 128, 255]),
        (np.array([[7, 7]], np.uint16), 16, [0, 0]),
    ],
)
def test_depths_without_a_window(values: np.ndarray, stored: int, expected: list[int]) -> None:
    assert levels(dicom(values, BitsStored=stored)) == [expected]


def test_one_bit() -> None:
    bits = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], np.uint8)
    data = np.packbits(bits.ravel(), bitorder="little").tobytes()
    assert levels(dicom(bits, data=data, BitsAllocated=1, BitsStored=1, HighBit=0)) == (bits * 255).tolist()


def _lut(first: int, entries: list[int], bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], struct.pack(f"<{len(entries)}H", *entries)
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


def test_lookup_tables_by_hand() -> None:
    values = np.array([[0, 10, 11, 12, 99]], np.uint16)
    # Values below the table take its first entry, values above its last.
    assert levels(dicom(values, VOILUTSequence=_lut(10, [15, 0, 3], 4))) == [[255, 255, 0, 51, 51]]
    # The modality LUT makes 300, 500, 700 of 10, 11, 12; the window takes it from there, and goes before the range.
    table = _lut(10, [300, 500, 700], 16)
    assert levels(dicom(values, ModalityLUTSequence=table)) == [[0, 0, 128, 255, 255]]
    window = {"WindowCenter": 500.5, "WindowWidth": 1001}
    assert levels(dicom(values, ModalityLUTSequence=table, **window)) == [[76, 76, 128, 178, 178]]
    # A VOI LUT goes before a window.
    assert levels(dicom(values, VOILUTSequence=_lut(10, [15, 0, 3], 4), **window)) == [[255, 255, 0, 51, 51]]
    assert failure(dicom(values, VOILUTSequence=_lut(10, [15, 0, 3], 0))) == ("not_an_image", "broken LUT")


def test_padding_is_black_and_no_part_of_the_range() -> None:
    values = np.array([[-2000, 0, 500, 1000]], np.int16)
    assert levels(dicom(values, PixelPaddingValue=-2000)) == [[0, 0, 128, 255]]
    both = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": 0, "PhotometricInterpretation": "MONOCHROME1"}
    assert levels(dicom(values, **both)) == [[0, 0, 255, 0]]
    assert levels(dicom(np.full((1, 2), -2000, np.int16), PixelPaddingValue=-2000)) == [[0, 0]]


RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], np.uint8)
LUMA = [[76, 150, 29, 90]]


def test_colour() -> None:
    assert levels(dicom(RGB)) == LUMA
    assert levels(dicom(RGB, PlanarConfiguration=1, data=RGB.transpose(2, 0, 1).tobytes())) == LUMA
    assert levels(dicom(RGB.astype(np.uint16) * 257)) == LUMA
    # Y, Cb, Cr of a grey pixel and of a green one.
    ybr = np.array([[[90, 128, 128], [150, 44, 21]]], np.uint8)
    assert np.abs(np.array(levels(dicom(ybr, PhotometricInterpretation="YBR_FULL"))) - [[90, 150]]).max() <= 2


def test_a_palette_of_eight_and_sixteen_bits() -> None:
    indices = np.array([[0, 1, 2, 3]], np.uint8)
    for bits, kind in ((8, np.uint8), (16, np.uint16)):
        tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
        for channel, name in enumerate(("Red", "Green", "Blue")):
            entries = RGB[0, :, channel].astype(kind) * (257 if bits == 16 else 1)
            tags[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
            tags[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
        assert levels(dicom(indices, **tags)) == LUMA


def test_a_functional_group_speaks_for_its_frame() -> None:
    """Frame 0 has a window of its own, frame 1 the shared one; the slope is shared."""

    def group(name: str, **values: Any) -> Dataset:
        item, outer = Dataset(), Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(outer, name, Sequence([item]))
        return outer

    shared = group("FrameVOILUTSequence", WindowCenter=50.5, WindowWidth=101)
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=10, RescaleIntercept=0))
    own = [group("FrameVOILUTSequence", WindowCenter=100.5, WindowWidth=201), Dataset()]
    data = dicom(
        np.array([[[5]], [[5]]], np.uint16),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(own),
    )
    assert [frame.pixels.tolist() for frame in decode(data, Limits())] == [[[64]], [[128]]]
