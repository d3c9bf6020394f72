"""Image files to grey frames: PNG, JPEG, TIFF, BMP, WebP and DICOM. The content decides which it is, not the name.

Images of eight bits keep their levels. Deeper ones are mapped in fp64 and rounded to eight bits: DICOM by its own window, others
from their smallest value (0) to their largest (255). Colour becomes luma (ITU-R BT.601), and what is transparent is black. A TIFF
has a frame a page, other formats one: the first image of an animation.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageChops
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from engine.errors import ConfigError, RowError
from engine.images.frames import Frame, Limits, broken, byte_levels, mapped, stretched, unturned
from engine.keys import closest

# By class, as `Image.open` refuses what is larger than a limit of the whole process; ours is checked here.
_READERS: dict[bytes, tuple[str, type[ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": ("PNG", PngImageFile),
    b"\xff\xd8\xff": ("JPEG", JpegImageFile),
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), ("TIFF", TiffImageFile)),
    b"BM": ("BMP", BmpImageFile),
    b"RIFF": ("WebP", WebPImageFile),
}
_DICOM, _DICOM_AT = b"DICM", 128
# How a DICOM file without preamble begins: group 0002 or 0008, or 0008 in big-endian order.
_DICOM_STARTS = (b"\x02\0", b"\x08\0", b"\0\x08")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION, _PHOTOMETRIC, _WHITE_IS_ZERO = 274, 262, 0


def decode(data: bytes, limits: Limits) -> list[Frame]:
    """The frames of an image file, in order.

    Raises:
        RowError: `not_an_image` (of no format that is read, broken, truncated), `too_many_pixels` (by its header, before anything
            is decoded), `unsupported_pixels` (a DICOM file without pixels, or pixels in a form that is not read).
    """
    if _is_dicom(data):
        # Here, as other files are also read on machines without pydicom.
        from engine.images import dicom

        return dicom.frames(data, limits)
    name, reader = next((known for magic, known in _READERS.items() if data.startswith(magic)), (None, None))
    if reader is None:
        raise RowError("not_an_image", "empty" if not data else "none of DICOM, PNG, JPEG, TIFF, BMP, WebP")
    with broken(f"{name} file"):
        try:
            return _frames(reader(BytesIO(data), ""), limits)
        except Image.DecompressionBombError:
            # WebP's canvas and a TIFF's tiles are limited by Pillow, before there is a size to check.
            raise RowError("too_many_pixels", f"{name} file") from None


def tags(data: bytes, names: Sequence[str]) -> dict[str, str | None]:
    """The values of DICOM keywords in a file, as text; several of one keyword are joined by a backslash, as DICOM does.

    None where a file lacks one, or it cannot be read, or the file is none of DICOM.
    """
    if not names or not _is_dicom(data):
        return dict.fromkeys(names)
    from engine.images import dicom

    return dicom.tags(data, names)


def check_tag_names(names: Sequence[str]) -> None:
    """Raises: ConfigError for a name that is no keyword of DICOM, or one whose value is no text or number."""
    from engine.images import dicom

    for name in names:
        if not dicom.is_keyword(name):
            raise ConfigError(f"'{name}' is no keyword of DICOM{closest(name, dicom.keywords())}; they are like PatientID")
        if not dicom.is_text(name):
            raise ConfigError(f"the DICOM keyword '{name}' holds neither text nor numbers; leave it out")


def _is_dicom(data: bytes) -> bool:
    return data[_DICOM_AT : _DICOM_AT + len(_DICOM)] == _DICOM or data.startswith(_DICOM_STARTS)


def _frames(image: ImageFile, limits: Limits) -> list[Frame]:
    pages = getattr(image, "n_frames", 1) if isinstance(image, TiffImageFile) else 1
    total = 0
    for page in range(pages):
        image.seek(page)
        total += image.width * image.height
        limits.check(total)
    return [_frame(image, page) for page in limits.numbers(pages)]


def _frame(image: ImageFile, page: int) -> Frame:
    image.seek(page)
    turn = _turn(image)
    pixels = _grey(image)
    # Pillow turns a TIFF when it loads it, and no other format.
    return Frame(unturned(pixels, turn) if isinstance(image, TiffImageFile) else pixels, page, turn)


def _turn(image: ImageFile) -> int:
    turn: Any = image.getexif().get(_ORIENTATION)
    return turn if turn in range(1, 9) else 1


def _grey(image: ImageFile) -> np.ndarray:
    """[height, width] uint8."""
    if image.mode in _DEEP:
        white_is_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        levels = _deep(np.asarray(image))
        return 255 - levels if white_is_zero else levels
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return np.array(ImageChops.multiply(shown.convert("L"), shown.getchannel("A")))
    return np.array((image if image.mode in ("1", "L", "RGB") else image.convert("RGB")).convert("L"))


def _deep(pixels: np.ndarray) -> np.ndarray:
    finite = np.isfinite(pixels)
    if not finite.any():
        raise RowError("unsupported_pixels", "no finite value")
    low, high = pixels[finite].min(), pixels[finite].max()
    return mapped(np.nan_to_num(pixels, nan=low), low, high, lambda values: byte_levels(stretched(values, low, high)))
