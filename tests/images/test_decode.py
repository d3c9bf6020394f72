import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import ConfigError, RowError
from engine.images.decode import Limits, check_tag_names, decode, tags
from engine.images.frames import turned
from tests.images.files import dicom, failure, levels, picture

# The room silences these by the library's name, which pytest undoes.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

KINDS = {"not_an_image", "too_many_pixels", "unsupported_pixels"}
GREY = np.array([[0, 10, 20], [100, 200, 255]], np.uint8)
RAMP = np.linspace(0, 255, 40 * 50).astype(np.uint8).reshape(40, 50)
RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], np.uint8)
# 0.299 R + 0.587 G + 0.114 B
LUMA = [[76, 150, 29, 90]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_levels_stay(kind: str) -> None:
    assert levels(picture(GREY, kind)) == GREY.tolist()


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_colour_becomes_luma(kind: str, options: dict) -> None:
    assert levels(picture(RGB, kind, **options)) == LUMA


def test_lossy_formats_are_near() -> None:
    for data in (picture(RAMP, "JPEG", quality=95), picture(RAMP, "WEBP", quality=95)):
        assert np.abs(decode(data, Limits())[0].pixels.astype(int) - RAMP).max() < 12


def test_one_bit() -> None:
    assert levels(picture(Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE), "PNG")) == [[0, 0, 0], [0, 255, 255]]


def test_palette() -> None:
    image = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8)).convert("P")
    image.putpalette(RGB.tobytes())
    assert levels(picture(image, "PNG")) == LUMA


def test_what_is_transparent_is_black() -> None:
    image = Image.fromarray(np.array([[[200, 255], [200, 51], [200, 0]]], np.uint8), "LA")
    assert levels(picture(image, "PNG")) == [[200, 40, 0]]
    assert levels(picture(image.convert("RGBA"), "PNG")) == [[200, 40, 0]]


def test_cmyk() -> None:
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (8, 0, 16, 16))
    pixels = decode(picture(image, "JPEG"), Limits())[0].pixels
    assert pixels[:, 0].max() < 5 and pixels[:, -1].min() > 250


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_run_from_the_smallest_value_to_the_largest(kind: str) -> None:
    assert levels(picture(np.array([[1000, 2000, 5000], [1000, 1000, 3000]], np.uint16), kind)) == [[0, 64, 255], [0, 0, 128]]
    assert levels(picture(np.full((2, 2), 7, np.uint16), kind)) == [[0, 0], [0, 0]]


def test_sixteen_bits_where_white_is_zero() -> None:
    assert levels(picture(np.array([[0, 1000]], np.uint16), "TIFF", tiffinfo={262: 0})) == [[255, 0]]


def test_values_that_are_no_number_are_dark() -> None:
    assert levels(picture(np.array([[np.nan, -1.0, 0.0, 1.0]], np.float32), "TIFF")) == [[0, 0, 128, 255]]
    assert failure(picture(np.full((1, 2), np.nan, np.float32), "TIFF")) == ("unsupported_pixels", "no finite value")


def test_the_pages_of_a_tiff_are_frames_and_others_have_one() -> None:
    pages = [Image.fromarray(np.full((2, 3 + page), page, np.uint8)) for page in range(5)]
    data = picture(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    frames = decode(data, Limits(max_frames=3))
    assert [(frame.number, frame.pixels.shape, int(frame.pixels.max())) for frame in frames] == [
        (0, (2, 3), 0),
        (2, (2, 5), 2),
        (4, (2, 7), 4),
    ]
    assert failure(data, max_pixels=49)[0] == "too_many_pixels" and len(decode(data, Limits(max_pixels=50))) == 5
    for kind in ("PNG", "WEBP"):
        moving = picture(
            Image.new("L", (4, 4), 9), kind, save_all=True, append_images=[Image.new("L", (4, 4), 99)], lossless=True
        )
        assert levels(moving) == [[9] * 4] * 4


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_frames_stay_as_they_are_stored_and_say_how_they_turn(kind: str, turn: int) -> None:
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    (frame,) = decode(picture(RAMP, kind, turn, **options), Limits())
    assert frame.turn == turn and np.abs(frame.pixels.astype(int) - RAMP).max() <= 2


def test_each_page_has_its_own_turn() -> None:
    pages = []
    for turn in (6, 1, 3):
        page = Image.fromarray(RAMP)
        page.encoderinfo = {"tiffinfo": {274: turn}}
        pages.append(page)
    data = picture(pages[0], "TIFF", save_all=True, append_images=pages[1:], tiffinfo={274: 6})
    frames = decode(data, Limits())
    assert [frame.turn for frame in frames] == [6, 1, 3]
    assert all(frame.pixels.tolist() == RAMP.tolist() for frame in frames)
    assert turned(frames[0].pixels, 6).shape == (50, 40)


def test_a_turn_that_cannot_be_read_is_none() -> None:
    for exif in (b"Exif\0\0no exif at all", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"):
        (frame,) = decode(picture(RAMP, "JPEG", exif=exif), Limits())
        assert frame.turn == 1


def test_what_is_no_image() -> None:
    assert failure(b"") == ("not_an_image", "empty")
    assert failure(b"The heart is normal in size.") == ("not_an_image", "none of DICOM, PNG, JPEG, TIFF, BMP, WebP")
    assert failure(b"GIF89a" + b"\0" * 50)[0] == "not_an_image"
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        data = picture(RAMP, kind)
        for size in (len(data) // 2, 20):
            assert failure(data[:size])[0] == "not_an_image", kind


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_bombs_are_refused_by_their_header() -> None:
    side = 60_000
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + _chunk(b"IDAT", b"")
    jpeg = bytearray(picture(RAMP, "JPEG"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
    tiff = bytearray(picture(RAMP, "TIFF"))
    for tag, value in ((256, 50), (257, 40)):
        at = tiff.index(struct.pack("<H", tag), 8)
        assert struct.unpack_from("<H", tiff, at + 8) == (value,)
        struct.pack_into("<H", tiff, at + 8, side)
    bmp = bytearray(picture(RAMP, "BMP"))
    struct.pack_into("<ii", bmp, 18, side, side)
    webp = bytearray(picture(Image.new("RGBA", (40, 50), (9, 9, 9, 9)), "WEBP"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (side - 1).to_bytes(3, "little") * 2
    for data in (png, jpeg, tiff, bmp, webp):
        assert failure(bytes(data))[0] == "too_many_pixels"


def test_the_limit_is_ours_and_not_one_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("PNG", "JPEG", "BMP"):
        assert decode(picture(RAMP, kind), Limits(max_pixels=2000))[0].pixels.shape == (40, 50)
        assert failure(picture(RAMP, kind), max_pixels=1999)[0] == "too_many_pixels"


def test_tags_are_text_and_none_is_made_up(shared_data: Path) -> None:
    data = (shared_data / "dicom" / "chrFren.dcm").read_bytes()
    assert tags(data, ["PatientName", "Modality", "WindowCenter"]) == {
        "PatientName": "Buc^Jérôme",
        "Modality": "OT",
        "WindowCenter": None,
    }
    assert tags(dicom(RAMP, ImageType=["DERIVED", "PRIMARY"]), ["ImageType", "Rows", "TransferSyntaxUID"]) == {
        "ImageType": "DERIVED\\PRIMARY",
        "Rows": "40",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
    }
    assert tags((shared_data / "dicom" / "badVR.dcm").read_bytes(), ["NumberOfFrames", "Modality"]) == {
        "NumberOfFrames": "1A",
        "Modality": "RTDOSE",
    }
    assert tags(picture(RAMP, "PNG"), ["PatientID"]) == {"PatientID": None}
    assert tags(b"", ["PatientID"]) == {"PatientID": None} and tags(dicom(RAMP), []) == {}


def test_names_of_tags_are_checked() -> None:
    check_tag_names(["PatientID", "StudyInstanceUID", "PixelSpacing", "ViewPosition"])
    with pytest.raises(ConfigError, match=r"PatientId.*did you mean 'PatientID'"):
        check_tag_names(["PatientId"])
    with pytest.raises(ConfigError, match="holds neither text nor numbers"):
        check_tag_names(["PixelData"])


def _samples() -> list[bytes]:
    files = [dicom(RAMP), dicom(RAMP.astype(np.uint16) * 200, WindowCenter=9000, WindowWidth=20000), dicom(RGB)]
    for kind, options in (
        ("PNG", {}),
        ("JPEG", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ):
        files.append(picture(RAMP, kind, **options, **({"turn": 6} if kind != "BMP" else {})))
    return files


SAMPLES = _samples()
_SMALL = ("CT_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm")
NAMES = (*_SMALL, "JPEG-lossy", "image_dfl", "reportsi")


# The same files every time: a compressed one that breaks GDCM's C++ would end the whole run of tests.
@settings(max_examples=400, derandomize=True)
@given(data=st.data())
def test_a_file_broken_anywhere_gives_frames_or_its_own_failure(shared_data: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(range(len(SAMPLES) + len(NAMES))))
    file = SAMPLES[name] if name < len(SAMPLES) else (shared_data / f"dicom/{NAMES[name - len(SAMPLES)]}.dcm").read_bytes()
    changed = bytearray(file[: data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))])
    reach = data.draw(st.sampled_from([700, len(file)]))
    for _ in range(data.draw(st.integers(0, 8)) if changed else 0):
        changed[data.draw(st.integers(0, min(len(changed), reach) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames = decode(bytes(changed), Limits(max_pixels=10**6))
    except RowError as error:
        assert error.kind in KINDS
    else:
        assert frames and all(frame.pixels.dtype == np.uint8 and frame.pixels.ndim == 2 for frame in frames)
    assert set(tags(bytes(changed), ["PatientID"])) == {"PatientID"}


def test_threads_give_what_one_gives(shared_data: Path) -> None:
    files = [*SAMPLES, *((shared_data / f"dicom/{name}.dcm").read_bytes() for name in NAMES[:-1])]

    def pixels(data: bytes) -> bytes:
        return b"".join(frame.pixels.tobytes() for frame in decode(data, Limits()))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pixels, files * 8)) == [pixels(data) for data in files] * 8


def test_nothing_of_a_file_reaches_the_log(shared_data: Path, tmp_path: Path) -> None:
    """With every logger and warning on, a process that reads broken headers says nothing of what is in them."""
    (tmp_path / "long.dcm").write_bytes(dicom(RAMP, PatientID="SECRET" * 20, WindowCenter=[1, 2], NumberOfFrames="1"))
    (tmp_path / "bad.dcm").write_bytes(dicom(RAMP, StudyDate="20200101").replace(b"20200101", b"SECRET??"))
    buffer = BytesIO()
    Image.fromarray(RAMP).save(buffer, "TIFF", description="SECRET")
    (tmp_path / "page.tif").write_bytes(buffer.getvalue())
    code = (
        "import logging, sys, warnings; logging.basicConfig(level=logging.DEBUG)\n"
        "from pathlib import Path\n"
        "from engine.errors import RowError\n"
        "from engine.images.decode import Limits, decode, tags\n"
        "for path in sys.argv[1:]:\n"
        "    data = Path(path).read_bytes()\n"
        "    tags(data, ['PatientID', 'StudyDate'])\n"
        "    try:\n"
        "        decode(data, Limits())\n"
        "    except RowError as error:\n"
        "        print(error)\n"
    )
    made = map(str, tmp_path.iterdir())
    files = [str(shared_data / "dicom" / f"{name}.dcm") for name in ("badVR", "MR_truncated", "UN_sequence", "chrKoreanMulti")]
    done = subprocess.run([sys.executable, "-W", "always", "-c", code, *made, *files], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "SECRET" not in done.stdout and "1A" not in done.stdout
