"""DICOM files to grey frames, by pydicom; `shades` says what a level means.

A file without preamble or meta information is read as what its first elements look like. Patient Orientation of a frontal view
says how a frame is turned to stand upright with the patient's left on the right.
"""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_preamble
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.pixels.utils import get_expected_length
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    RLELossless,
    UID_dictionary,
)

from engine.errors import RowError
from engine.images.frames import Frame, Limits, broken
from engine.images.shades import lumas, shades

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_INDEXED = (*_MONOCHROME, "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Bytes that a deflated file may unpack to, beside eight for each pixel that is allowed.
_HEADER_BYTES = 2**24
# Markers of JPEG (ITU-T T.81, table B.1) and JPEG-LS (T.87, table C.1): of frames, of a scan, and all up to the first scan.
_JPEG_FRAMES = {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_JPEG_MARKERS = {*_JPEG_FRAMES, _JPEG_SCAN, 0xC4, 0xCC, 0xDB, 0xDD, 0xF8, 0xFE, *range(0xE0, 0xF0)}
_NOT_TEXT = {"SQ", "UN", "OB", "OD", "OF", "OL", "OV", "OW", "OB or OW", "US or OW"}
# Patient Orientation (direction of rows, of columns) -> EXIF's code. Left, Right, Head, Feet: PS3.3, C.7.6.1.1.1.
_TURNS = {"LF": 1, "RF": 2, "RH": 3, "LH": 4, "FL": 5, "FR": 6, "HR": 7, "HL": 8}


class _Source(BytesIO):
    """Bytes that remember whether more of them were asked for than there are."""

    short = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        # The end of a file is found by a read that gives nothing.
        self.short |= size is not None and 0 < len(data) < size
        return data


def is_keyword(name: str) -> bool:
    return tag_for_keyword(name) is not None


def is_text(name: str) -> bool:
    return dictionary_VR(name) not in _NOT_TEXT


def keywords() -> list[str]:
    return [entry[4] for entry in DicomDictionary.values() if entry[4]]


def tags(data: bytes, names: Sequence[str]) -> dict[str, str | None]:
    """See `engine.images.decode.tags`."""
    try:
        dataset, _ = _read(data, Limits())
    except RowError:
        # The same file is read for its pixels, and fails there.
        return dict.fromkeys(names)
    return {name: _text(dataset, name) for name in names}


def frames(data: bytes, limits: Limits) -> list[Frame]:
    """See `engine.images.decode.decode`."""
    dataset, is_short = _read(data, limits)
    with broken("DICOM header"):
        if "PixelData" not in dataset:
            if is_short or not len(dataset):
                raise RowError("not_an_image", "truncated")
            raise RowError("unsupported_pixels", "no pixel data")
        count = int(dataset.get("NumberOfFrames") or 1)
        if min(count, dataset.Rows, dataset.Columns) < 1:
            raise RowError("not_an_image", "no rows, columns or frames")
        limits.check(count * dataset.Rows * dataset.Columns)
        _check_form(dataset)
        numbers = limits.numbers(count)
        turn = _turn(dataset)
    with broken("pixel data"):
        _check_data(dataset, numbers, count)
        stack = np.stack(list(iter_pixels(dataset, indices=numbers, decoding_plugin=_plugin(dataset))))
        channels = () if _photometric(dataset) in _INDEXED else (3,)
        if stack.shape != (len(numbers), dataset.Rows, dataset.Columns, *channels):
            raise RowError("not_an_image", "pixel data of another shape")
        levels = shades(stack, dataset, numbers) if _photometric(dataset) in _MONOCHROME else lumas(stack, dataset)
    return [Frame(pixels, number, turn) for number, pixels in zip(numbers, levels, strict=True)]


def _read(data: bytes, limits: Limits) -> tuple[Dataset, bool]:
    """The file, with a transfer syntax in its meta information, and whether it ends within an element."""
    source = _Source(data)
    with broken("DICOM header"):
        read_preamble(source, force=True)
        meta = read_dataset(source, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _inflate(data[source.tell() :], limits)
        source.seek(0)
        dataset = dcmread(source, force=True)
        if not dataset.file_meta.get("TransferSyntaxUID"):
            is_implicit, is_little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
        return dataset, source.short


def _inflate(data: bytes, limits: Limits) -> tuple[Dataset, bool]:
    """What pydicom would unpack without a limit."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    source = _Source(stream.decompress(data, 8 * limits.max_pixels + _HEADER_BYTES))
    if stream.unconsumed_tail:
        raise RowError("too_many_pixels", "deflated file")
    if not stream.eof:
        raise RowError("not_an_image", "truncated")
    dataset = read_dataset(source, False, True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset, source.short


def _photometric(dataset: Dataset) -> str:
    return str(dataset.get("PhotometricInterpretation"))


def _check_form(dataset: Dataset) -> None:
    """RowError `unsupported_pixels` for what cannot be decoded here, however whole the file is."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not _is_decodable(syntax):
        raise RowError("unsupported_pixels", f"transfer syntax {syntax.name if syntax in UID_dictionary else 'that is private'}")
    if _photometric(dataset) not in (*_INDEXED, *_COLOUR):
        raise RowError("unsupported_pixels", "photometric interpretation")
    if not syntax.is_encapsulated and dataset.get("HighBit", dataset.BitsStored - 1) != dataset.BitsStored - 1:
        raise RowError("unsupported_pixels", "values that are not in the lowest bits")
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
        # GDCM goes by the data and reads 12 bits right, which pydicom doubts: it refuses them under this name alone.
        dataset.file_meta.TransferSyntaxUID = JPEGLossless


def _is_decodable(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _plugin(dataset: Dataset) -> str:
    """The one decoder that pydicom may use. Broken JPEG 2000 ends the process in GDCM, so Pillow reads what it can."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    if syntax == RLELossless:
        return "pydicom"
    is_pillows = syntax in (JPEGBaseline8Bit, JPEGExtended12Bit, *JPEG2000TransferSyntaxes)
    return "pillow" if is_pillows and dataset.BitsStored <= (16 if dataset.SamplesPerPixel == 1 else 8) else "gdcm"


def _check_data(dataset: Dataset, numbers: Sequence[int], count: int) -> None:
    """RowError if there is less data than the header promises, or compressed images are not of its size."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        if len(dataset.PixelData) < get_expected_length(dataset):
            raise RowError("not_an_image", "truncated")
    elif syntax != RLELossless:
        for number in numbers:
            coded = get_frame(dataset.PixelData, number, number_of_frames=count)
            bits, *shape = _coded_form(coded, syntax in JPEG2000TransferSyntaxes)
            if shape != [dataset.Rows, dataset.Columns, dataset.SamplesPerPixel] or not 2 <= bits <= dataset.BitsAllocated:
                raise RowError("not_an_image", "compressed image of another shape")


def _coded_form(coded: bytes, is_jpeg_2000: bool) -> tuple[int, int, int, int]:
    """Bits, height, width and components by a compressed image's own header.

    Of JPEG and JPEG-LS (ITU-T T.81, B.2.2), or JPEG 2000 (ITU-T T.800, A.5.1). GDCM ends the process over some headers that its
    JPEG library would skip or repair: such an image is broken here.
    """
    if is_jpeg_2000:
        at = coded.index(b"\xff\x4f\xff\x51")
        right, bottom, left, top = struct.unpack_from(">4I", coded, at + 8)
        components, depth = struct.unpack_from(">HB", coded, at + 40)
        return (depth & 0x7F) + 1, bottom - top, right - left, components
    at, form = 2, None
    while True:
        start, marker, length = struct.unpack_from(">BBH", coded, at)
        if start == marker == 0xFF:
            # Filled up to where a marker shall stand.
            at += 1
            continue
        odd_colour = marker == 0xEE and coded[at + 4 : at + 9] == b"Adobe" and coded[at + 15] > 2
        if start != 0xFF or marker not in _JPEG_MARKERS or odd_colour or (form and marker in _JPEG_FRAMES):
            raise RowError("not_an_image", "broken compressed image")
        if marker in _JPEG_FRAMES:
            form = struct.unpack_from(">BHHB", coded, at + 4)
        if marker == _JPEG_SCAN:
            return form
        at += 2 + length


def _turn(dataset: Dataset) -> int:
    directions = dataset.get("PatientOrientation")
    return _TURNS.get("".join(str(word)[:1] for word in directions), 1) if isinstance(directions, MultiValue) else 1


def _text(dataset: Dataset, name: str) -> str | None:
    try:
        with broken("DICOM element"):
            tag = Tag(tag_for_keyword(name))
            value = (dataset.file_meta if tag.group == 2 else dataset).get(name)
            return ("\\".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value)) or None
    except RowError:
        return None
