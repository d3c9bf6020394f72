"""Small image files made in memory, and what becomes of them."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from engine.errors import RowError
from engine.images.decode import Limits, decode


def picture(pixels: np.ndarray | Image.Image, kind: str, turn: int | None = None, **options: Any) -> bytes:
    """An image file of one of Pillow's formats."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if turn is not None:
        exif = Image.Exif()
        exif[274] = turn
        options["exif"] = exif
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def dicom(pixels: np.ndarray | None, syntax: str = ExplicitVRLittleEndian, data: bytes | None = None, **tags: Any) -> bytes:
    """A DICOM file of [height, width], [frames, height, width] or [..., 3]; `tags` go over what follows from the array."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID, file.PatientID = meta.MediaStorageSOPClassUID, "1.2.3", "Known^Patient"
    if pixels is not None:
        is_colour = pixels.ndim > 2 and pixels.shape[-1] == 3
        height, width = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
        bits = 8 * pixels.dtype.itemsize
        file.Rows, file.Columns, file.NumberOfFrames = height, width, pixels.size // (height * width * (3 if is_colour else 1))
        file.SamplesPerPixel = 3 if is_colour else 1
        file.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
        if is_colour:
            file.PlanarConfiguration = 0
        file.BitsAllocated, file.BitsStored = bits, tags.pop("BitsStored", bits)
        file.HighBit = file.BitsStored - 1
        file.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
        raw = pixels.tobytes() if data is None else data
        file.PixelData = raw + b"\0" * (len(raw) % 2)
        file["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in tags.items():
        setattr(file, name, value)
    if UID(syntax).is_encapsulated:
        file["PixelData"].is_undefined_length = True
    buffer = BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def levels(data: bytes, **limits: int) -> list[list[int]]:
    """The grey levels of a file's one frame."""
    (frame,) = decode(data, Limits(**limits))
    assert frame.pixels.dtype == np.uint8 and frame.number == 0
    return frame.pixels.tolist()


def failure(data: bytes, **limits: int) -> tuple[str, str]:
    """How a file fails: kind and detail."""
    with pytest.raises(RowError) as error:
        decode(data, Limits(**limits))
    return error.value.kind, error.value.detail
