"""An invented study as a row of `findings`, and stand-ins for what reads images."""

import hashlib
import io
import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from PIL import Image

from engine.errors import RowError
from engine.pages.pictures import Picture, Study, data_uri
from engine.records import findings_fields, table_schema

SCHEMA = table_schema(findings_fields())


def label(name, prob, **changed):
    known = {"threshold": 0.5, "lower": 0.4, "upper": 0.6, "pred": int(prob >= 0.5), "clear": not 0.4 <= prob <= 0.6}
    return {"name": name, "prob": prob, "logit": None, "intercept": None, "rest": None, **known, **changed}


def concept(name, number, score, text=None, weight=0.125, cosine=0.0625):
    return {"label": name, "concept": number, "text": text, "score": score, "weight": weight, "cosine": cosine}


def region(name, image, box, score=1.0, weight=0.25):
    return {
        "label": name,
        "image": image,
        **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        "score": score,
        "weight": weight,
    }


def picture(width=40, height=30, turn=1):
    return Picture(data_uri(np.full((height, width), 99, np.uint8)), width, height, turn)


def image(source="a.png", frame=0, width=40, height=30, data=b""):
    digest = hashlib.sha256(data).digest()
    return {"source": source, "frame": frame, "width": width, "height": height, "sha256": digest}


def row(**changed):
    known = {
        "record_id": "s1",
        "decision": "review",
        "reasons": ["near_threshold"],
        "images": [image()],
        "labels": [
            label("Edema", 0.03125),
            label("Fracture", 0.4375),
            label("Cardiomegaly", 0.875, logit=0.5, intercept=-1.0, rest=0.75),
        ],
        "concepts": [
            concept("Cardiomegaly", 7, 1.0, "the heart is large"),
            concept("Cardiomegaly", 8, -0.25, "normal heart size"),
            concept("Edema", 9, 4.0, "never shown, since edema is negative"),
        ],
        "n_concepts": 10,
        "evidence": [region("Cardiomegaly", 0, (10, 5, 20, 15)), region("Cardiomegaly", 0, (0, 0, 10, 5), -0.5, 0.125)],
        "source": "ward/secret-name.dcm",
        "position": 3,
        "run_id": "r",
        "model_digest": "d",
    }
    return dict.fromkeys(SCHEMA.names) | known | changed


def study(pictures=None, **changed):
    of = row(**changed)
    return Study(of, [picture() for _ in of["images"] or ()] if pictures is None else pictures)


@dataclass(frozen=True)
class Frame:
    pixels: np.ndarray
    number: int
    turn: int = 1


def readers(monkeypatch):
    """Stand-ins: a file's `data` are its bytes, and those are an image as Pillow reads it."""

    def decode(data, limits):
        if not data.startswith(b"\x89PNG"):
            raise RowError("not_an_image", "none")
        return [Frame(np.array(Image.open(io.BytesIO(data))), 0)]

    for name, values in {
        "engine.images": {},
        "engine.images.decode": {"decode": decode, "Limits": object},
        "engine.sources.images": {"image_bytes": lambda file: file["data"]},
    }.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)


def png(width=40, height=30, level=99):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), level, np.uint8)).save(file, "PNG")
    return file.getvalue()
