import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from engine.images.decode import Limits, decode
from engine.images.frames import turned
from tests.images.files import dicom, failure, levels, picture

# The room silences these by the library's name, which pytest undoes.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NO_PIXELS = ("unsupported_pixels", "no pixel data")
TRUNCATED = ("not_an_image", "truncated")
# (127 - 599.5) / 1599 + 0.5 = 0.2045 of 255 is 52; 2145 is above the window 600 / 1600.
MR = ((64, 64), 52, 255, 113.07)
SQUARES = ((32, 32), 0, 255, 138.44)
# File -> size, smallest, largest and mean level; or how it fails.
OUTCOMES: dict[str, Any] = {
    # No window: from 128 to 2191, and so is the mean: (904.926 - 128) / 2063 * 255.
    "CT_small.dcm": ((128, 128), 0, 255, 96.04),
    "DICOMDIR-empty.dcm": NO_PIXELS,
    "ExplVR_BigEnd.dcm": ((60, 80), 123, 255, 222.50),
    "ExplVR_BigEndNoMeta.dcm": NO_PIXELS,
    "ExplVR_LitEndNoMeta.dcm": NO_PIXELS,
    "JPEG-lossy.dcm": ((1024, 256), 0, 255, 13.89),
    "JPEG2000-embedded-sequence-delimiter.dcm": ("not_an_image", "compressed image of another shape"),
    # From -30 to 245: (13.458 + 30) / 275 * 255.
    "JPEG2000.dcm": ((1024, 256), 0, 255, 40.37),
    "MR_small.dcm": MR,
    "MR_small_RLE.dcm": MR,
    "MR_small_bigendian.dcm": MR,
    "MR_small_jp2klossless.dcm": MR,
    "MR_small_jpeg_ls_lossless.dcm": MR,
    "MR_truncated.dcm": TRUNCATED,
    # Window 0 .. 29999, turned round: 803 is 255 - 7 and 26512 is 255 - 225.
    "RG1_J2KI.dcm": ((1955, 1841), 30, 248, 192.17),
    # Window 38 .. 1061, turned round: 1023 is 255 - 246.
    "RG3_J2KI.dcm": ((1760, 1760), 9, 255, 177.50),
    "SC_rgb_jpeg_gdcm.dcm": ((100, 100), 0, 255, 127.70),
    "UN_sequence.dcm": NO_PIXELS,
    "badVR.dcm": ("not_an_image", "broken DICOM header (ValueError)"),
    "chrFren.dcm": SQUARES,
    "chrJapMulti.dcm": NO_PIXELS,
    "chrKoreanMulti.dcm": NO_PIXELS,
    "chrX1.dcm": SQUARES,
    "chrX2.dcm": SQUARES,
    "empty_charset_LEI.dcm": NO_PIXELS,
    "emri_small_jpeg_2k_lossless_too_short.dcm": TRUNCATED,
    # From -1024 to 1186: (1024 - 670.957) / 2210 * 255.
    "explicit_VR-UN.dcm": ((512, 512), 0, 255, 40.74),
    # Eight bits without a window stay: 127.116 is the mean of what is stored.
    "image_dfl.dcm": ((512, 512), 0, 255, 127.12),
    "meta_missing_tsyntax.dcm": ("not_an_image", "broken DICOM header (AttributeError)"),
    "mlut_18.dcm": ((512, 512), 0, 255, 128.83),
    # Begins with a blank before its first element.
    "no_meta.dcm": ("not_an_image", "none of DICOM, PNG, JPEG, TIFF, BMP, WebP"),
    "no_meta_group_length.dcm": NO_PIXELS,
    "reportsi.dcm": NO_PIXELS,
    "reportsi_with_empty_number_tags.dcm": NO_PIXELS,
    "rtplan_truncated.dcm": TRUNCATED,
    "test-SR.dcm": NO_PIXELS,
    "vlut_04.dcm": ((512, 512), 0, 255, 128.83),
}


def read(shared_data: Path, name: str) -> np.ndarray:
    return decode((shared_data / "dicom" / name).read_bytes(), Limits())[0].pixels


def test_every_file_has_an_outcome(shared_data: Path) -> None:
    assert sorted(path.name for path in (shared_data / "dicom").glob("*.dcm")) == sorted(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_outcome_of_a_file(shared_data: Path, name: str) -> None:
    data = (shared_data / "dicom" / name).read_bytes()
    if isinstance(OUTCOMES[name][0], str):
        assert failure(data) == OUTCOMES[name]
    else:
        (frame,) = decode(data, Limits())
        shown = frame.pixels
        size, low, high, mean = OUTCOMES[name]
        assert (shown.shape, shown.min(), shown.max()) == (size, low, high)
        assert shown.mean() == pytest.approx(mean, abs=0.01)


def test_the_chest_radiograph_is_turned_round(shared_data: Path) -> None:
    """By eye on the image itself: spine and diaphragm are bright, lungs and the air above the shoulders are dark."""
    chest = read(shared_data, "RG1_J2KI.dcm")
    spine, right_lung, left_lung = chest[900:1100, 850:950], chest[300:450, 400:600], chest[480:560, 1080:1200]
    air, liver = chest[60:140, 20:120], chest[1600:1700, 200:500]
    assert min(spine.mean(), liver.mean()) > 215
    assert max(right_lung.mean(), left_lung.mean()) < 160 and air.mean() < 100
    (frame,) = decode((shared_data / "dicom" / "RG1_J2KI.dcm").read_bytes(), Limits())
    assert frame.turn == 1


def test_a_mirrored_radiograph_says_so(shared_data: Path) -> None:
    """Its Patient Orientation is R, F; the side marker on the film can be read only once it is mirrored."""
    (frame,) = decode((shared_data / "dicom" / "RG3_J2KI.dcm").read_bytes(), Limits())
    assert frame.turn == 2


def test_twelve_bit_jpeg_is_read_to_the_value(shared_data: Path) -> None:
    """Stored values that pydicom's tests took from a viewer: 244 at (420, 140), 95 at (230, 120); of 0 to 264."""
    shown = read(shared_data, "JPEG-lossy.dcm")
    assert shown[420, 140] == round(244 / 264 * 255) and shown[230, 120] == round(95 / 264 * 255)


def test_lossless_syntaxes_agree_to_the_pixel(shared_data: Path) -> None:
    plain = read(shared_data, "MR_small.dcm")
    for name in ("RLE", "bigendian", "jp2klossless", "jpeg_ls_lossless"):
        assert (read(shared_data, f"MR_small_{name}.dcm") == plain).all()


def test_frames_are_spread_and_share_a_range() -> None:
    stack = np.arange(0, 1001, 100, dtype=np.uint16).reshape(11, 1, 1)
    frames = decode(dicom(stack), Limits(max_frames=3))
    assert [(frame.number, int(frame.pixels[0, 0])) for frame in frames] == [(0, 0), (5, 128), (10, 255)]
    assert len(decode(dicom(stack), Limits())) == 11


@pytest.mark.parametrize(
    ("words", "turn"),
    [
        *((["L", "F"], 1), (["R", "F"], 2), (["R", "H"], 3), (["L", "H"], 4)),
        *((["F", "L"], 5), (["FL", "R"], 6), (["H", "R"], 7), (["H", "L"], 8)),
        *((["A", "F"], 1), (["L", "P"], 1), (None, 1)),
    ],
)
def test_patient_orientation_is_a_turn(words: list[str] | None, turn: int) -> None:
    values = np.zeros((1, 2), np.uint8)
    assert decode(dicom(values, PatientOrientation=words), Limits())[0].turn == turn


def test_a_turned_patient_stands_upright() -> None:
    """Each pixel of what is shown: head above feet, the patient's right on the left."""
    shown = np.array([["right head", "left head"], ["right feet", "left feet"]])
    directions = {"L": (0, 1), "R": (0, -1), "F": (1, 0), "H": (-1, 0)}
    for row, column in (("L", "F"), ("R", "F"), ("R", "H"), ("L", "H"), ("F", "L"), ("F", "R"), ("H", "R"), ("H", "L")):
        step = np.array([directions[column], directions[row]])
        start = np.array([max(0, -step[:, 0].sum()), max(0, -step[:, 1].sum())])
        stored = np.array([[shown[tuple(start + y * step[0] + x * step[1])] for x in (0, 1)] for y in (0, 1)])
        (frame,) = decode(dicom(np.zeros((2, 2), np.uint8), PatientOrientation=[row, column]), Limits())
        assert turned(stored, frame.turn).tolist() == shown.tolist(), (row, column)


def test_a_file_without_preamble_and_meta_information() -> None:
    values = np.array([[1, 2], [3, 250]], np.uint8)
    whole = dicom(values)
    at = whole.index(b"\x08\0\x16\0UI")
    assert levels(whole[at:]) == values.tolist()
    assert failure(whole[at:-3]) == TRUNCATED


def test_headers_that_promise_too_much() -> None:
    values = np.zeros((4, 5), np.uint8)
    assert failure(dicom(values, NumberOfFrames=100_000_000))[0] == "too_many_pixels"
    assert failure(dicom(values, Rows=60_000, Columns=60_000))[0] == "too_many_pixels"
    assert failure(dicom(values), max_pixels=19)[0] == "too_many_pixels"
    assert failure(dicom(values, NumberOfFrames=2)) == TRUNCATED
    assert failure(dicom(values, Rows=5)) == TRUNCATED
    assert failure(dicom(values, Rows=0)) == ("not_an_image", "no rows, columns or frames")
    assert failure(dicom(values, NumberOfFrames=-1)) == ("not_an_image", "no rows, columns or frames")


def test_forms_that_are_not_read() -> None:
    values = np.zeros((4, 4), np.uint8)
    assert failure(dicom(values, PhotometricInterpretation="HSV")) == ("unsupported_pixels", "photometric interpretation")
    assert failure(dicom(values.astype(np.uint16), BitsStored=12, HighBit=15))[0] == "unsupported_pixels"
    video = dicom(values, "1.2.840.10008.1.2.4.102", encapsulate([b"\0" * 16]))
    assert failure(video)[0] == "unsupported_pixels" and "MPEG-4" in failure(video)[1]
    private = dicom(values).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0")
    assert failure(private) == ("unsupported_pixels", "transfer syntax that is private")
    assert failure(dicom(None)) == NO_PIXELS
    assert failure(dicom(values, SamplesPerPixel=3, PlanarConfiguration=0, data=b"\0" * 48))[0] == "not_an_image"


def test_a_compressed_image_of_another_shape_is_not_decoded() -> None:
    image = np.zeros((32, 32), np.uint8)
    for syntax, kind in (("1.2.840.10008.1.2.4.50", "JPEG"), ("1.2.840.10008.1.2.4.90", "JPEG2000")):
        coded = encapsulate([picture(image, kind)])
        assert levels(dicom(image, syntax, coded)) == image.tolist()
        for size in ({"Rows": 16}, {"Columns": 33}):
            assert failure(dicom(image, syntax, coded, **size)) == ("not_an_image", "compressed image of another shape")


def test_a_marker_may_stand_behind_filling() -> None:
    image = np.zeros((32, 32), np.uint8)
    coded = picture(image, "JPEG")
    filled = encapsulate([coded[:2] + b"\xff\xff" + coded[2:]])
    assert levels(dicom(image, "1.2.840.10008.1.2.4.50", filled)) == image.tolist()


def test_headers_that_end_the_process_in_gdcm_are_broken(shared_data: Path) -> None:
    """Precision of 56 bits, an unknown colour transform of Adobe, a second frame, bytes between segments."""
    file = (shared_data / "dicom" / "SC_rgb_jpeg_gdcm.dcm").read_bytes()
    frame = file.index(b"\xff\xc3")
    length = int.from_bytes(file[frame + 2 : frame + 4], "big")
    assert file[frame + 4] == 8

    def changed(at: int, data: bytes) -> bytes:
        return file[:at] + data + file[at + len(data) :]

    assert failure(changed(frame + 4, b"\x38")) == ("not_an_image", "compressed image of another shape")
    for segment in (b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\xa1", file[frame : frame + 2 + length], b"\x12\x34\0\x02"):
        start = file.index(b"\xff\xd8") + 2
        coded = file[start - 2 : start] + segment + file[start : file.rindex(b"\xff\xd9") + 2]
        built = dicom(np.zeros((100, 100, 3), np.uint8), "1.2.840.10008.1.2.4.70", encapsulate([coded]))
        assert failure(built) == ("not_an_image", "broken compressed image")


def test_compressed_frames_are_told_apart() -> None:
    stack = np.stack([np.full((16, 16), level, np.uint8) for level in (0, 60, 120, 180, 240)])
    coded = encapsulate([picture(frame, "JPEG2000") for frame in stack])
    frames = decode(dicom(stack, "1.2.840.10008.1.2.4.90", coded), Limits(max_frames=3))
    assert [(frame.number, int(frame.pixels[0, 0])) for frame in frames] == [(0, 0), (2, 120), (4, 240)]


def test_a_deflated_file_unpacks_to_a_limit() -> None:
    values = np.array([[1, 2], [3, 250]], np.uint8)
    deflated = dicom(values, "1.2.840.10008.1.2.1.99")
    assert levels(deflated) == values.tolist()
    assert failure(deflated[:-6]) == TRUNCATED
    plain = dicom(values, "1.2.840.10008.1.2.1.99", ImageComments="")
    head = plain[: 144 + struct.unpack_from("<I", plain, 140)[0]]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = head + packer.compress(b"\x08\0\x05\0CS\0\0" + b"\0" * 40_000_000) + packer.flush()
    assert len(bomb) < 50_000 and failure(bomb, max_pixels=1_000_000) == ("too_many_pixels", "deflated file")
