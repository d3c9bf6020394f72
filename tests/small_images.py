"""Small image files for tests."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def png(grey: int, side: int = 4) -> bytes:
    """A PNG file of one grey level."""
    data = io.BytesIO()
    Image.new("L", (side, side), grey).save(data, "PNG")
    return data.getvalue()


def dicom(grey: int = 100, **tags: str) -> bytes:
    """A DICOM file of 2 x 2 pixels of one grey level, with values of its header."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.Rows = data.Columns = 2
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelData = np.full((2, 2), grey, np.uint8).tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def put(folder: Path, **files: bytes) -> Path:
    """Writes files into a folder; two underscores in a name stand for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder
