"""Images of the shown studies, read again and checked against the rows."""

import base64
import io
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageOps

from engine.errors import InputChanged
from engine.pages.pictures import SIDE, Picture, data_uri, join_images
from engine.records import IMAGES, records_schema
from tests.pages.studies import image, picture, png, readers, row


def _pixels(uri):
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def _records(*studies):
    """Tables of one study each: (position, files), a file being its name and bytes."""
    for position, files in studies:
        images = [{"source": name, "path": name, "size": len(data), "version": "", "data": data} for name, data in files]
        values = {"row": 0, "record_id": "x", "source": "ward/secret-name.dcm", "position": position, IMAGES: images, "keep": {}}
        yield pa.Table.from_pylist([values], schema=records_schema(payload=IMAGES))


def test_a_large_image_is_reduced_and_keeps_its_shape():
    pixels = _pixels(data_uri(np.full((1000, 2000), 77, np.uint8)))
    assert pixels.shape == (SIDE // 2, SIDE) and abs(int(pixels[0, 0]) - 77) <= 1
    assert _pixels(data_uri(np.zeros((3, 5), np.uint8))).shape == (3, 5)


def test_every_image_of_a_study_and_nothing_behind_the_last_study(monkeypatch):
    readers(monkeypatch)
    small, large = png(), png(50, 20, 200)
    images = [image("b.png", 0, 50, 20, large), image("a.png", 0, 40, 30, small)]

    def records():
        yield from _records((0, [("other.png", png())]), (3, [("a.png", small), ("b.png", large)]))
        pytest.fail("read on")

    (study,) = join_images([row(images=images)], records())
    assert [(p.width, p.height) for p in study.pictures] == [(50, 20), (40, 30)]
    assert abs(int(_pixels(study.pictures[0].uri)[0, 0]) - 200) <= 1


def test_why_an_image_is_not_shown(monkeypatch):
    readers(monkeypatch)
    data = png()
    cases = {
        "not the one that was read": [image(data=b"other")],
        "no longer has this image": [image("gone.png", data=data)],
        "could not read this image": [image() | {"sha256": None}],
        "The file is not an image, or is broken.": [image("text.png", data=b"text")],
        "is not the one": [image(data=data, frame=4)],
        "The image is not": [image(data=data, width=41)],
    }
    for why, images in cases.items():
        (study,) = join_images([row(images=images)], _records((3, [("a.png", data), ("text.png", b"text")])))
        assert why in study.pictures[0]
    (study,) = join_images([row(images=[image(data=data)])], _records((4, [("a.png", data)])))
    assert study.pictures == ["The input no longer has this image."]

    def changed(file):
        raise InputChanged("a.png")

    monkeypatch.setattr(sys.modules["engine.sources.images"], "image_bytes", changed)
    (study,) = join_images([row(images=[image(data=data)])], _records((3, [("a.png", data)])))
    assert study.pictures == ["The image is not the one that was read in the run."]


def test_failed_rows_need_no_input():
    failed = row(decision="failed", images=None)
    assert join_images([failed], (pytest.fail("read") for _ in range(1)))[0].pictures == []


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_image_is_shown_as_pillow_turns_it(turn):
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[274] = turn
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "PNG", exif=exif)
    upright = np.array(ImageOps.exif_transpose(Image.open(file)))
    shown = Picture("", 3, 2, turn)
    assert shown.upright == upright.shape[::-1]
    a, b, c, d, e, f = shown.matrix
    for y, x in np.ndindex(2, 3):
        across, down = x + 0.5, y + 0.5
        assert upright[int(b * across + d * down + f), int(a * across + c * down + e)] == stored[y, x]


def test_a_picture_is_as_it_was_unless_turned():
    assert picture().matrix == (1, 0, 0, 1, 0, 0)
