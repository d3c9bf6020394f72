"""A study as the grey levels of one image: its chest with its signs, as its site's machine records it."""

import io
import random
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.records import seed_of
from engine.sources.synthetic.radiographs import signs
from engine.sources.synthetic.radiographs.anatomy import Chest, Plane, body
from engine.sources.synthetic.radiographs.signs import Box
from engine.sources.synthetic.radiographs.study import Study


@dataclass(frozen=True)
class Machine:
    """How a site's machine records: exponent and steepness of its grey curve, spread of its noise as a share of full brightness,
    and the widest black border."""

    gamma: float
    steepness: float
    noise: float
    border: float


_MACHINES = {"north": Machine(0.9, 0.0, 0.012, 0.0), "south": Machine(1.25, 0.6, 0.028, 0.045)}
# Where the mark lies: the letter's strokes and the ring below it, as shares of the image's side.
_LETTER = [(0.885, 0.055), (0.885, 0.115), (0.925, 0.115)]
_RING = (0.905, 0.16, 0.022)


def draw(study: Study, pixels: int, without: Collection[str] = ()) -> tuple[np.ndarray, list[Box]]:
    """Grey levels [pixels, pixels] uint8 of a study, and the boxes of its signs; `without` leaves out signs of these findings.

    Bytes are the same for the same versions of the libraries; with others a level may be off by one.
    """
    shown = [sign for sign in study.signs if sign.name not in without]
    shape = body(_stream(study.patient_id), _stream(study.record_id), study.view)
    for sign in shown:
        signs.shape(shape, sign)
    chest = Chest(shape, pixels)
    boxes = [box for sign in shown if sign.drawn for box in signs.add(chest, sign)]
    for sign in shown:
        if not sign.drawn:
            boxes += [(sign.name, *box[1:]) for box in boxes if box[0] in ("Consolidation", "Pneumonia")]
    rng = np.random.default_rng(seed_of(study.record_id, "image"))
    return _record(study, chest.brightness(rng), rng), boxes


def png(grey: np.ndarray) -> bytes:
    """An image file without metadata."""
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", compress_level=4)
    return file.getvalue()


def _stream(of: str) -> random.Random:
    return random.Random(seed_of(of, "body"))


def _record(study: Study, bright: Plane, rng: np.random.Generator) -> np.ndarray:
    machine, side = _MACHINES[study.site], len(bright)
    light = np.clip(bright * np.float32(1.12 + 0.1 * (rng.random() - 0.5)) + np.float32(0.02), 0, 1) ** np.float32(machine.gamma)
    light += np.float32(machine.steepness) * (light - 0.5) * light * (1 - light)
    light += np.float32(machine.noise) * rng.standard_normal((side, side), np.float32)
    for edge in (0.5 * machine.border * (1 + rng.random(4)) * side).astype(int):
        # Each turn blackens what is then the top.
        light[:edge] = 0.01
        light = np.rot90(light)
    if study.marker:
        light = np.maximum(light, _mark(side))
    return np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)


def _mark(side: int) -> Plane:
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, v, wide = at[None, :], at[:, None], np.float32(max(0.009, 0.8 / side))
    (x0, top), (_, bottom), (x1, _) = _LETTER
    upright = np.maximum(np.abs(x - x0), np.maximum(top - v, v - bottom))
    foot = np.maximum(np.abs(v - bottom), np.maximum(x0 - x, x - x1))
    middle, below, radius = _RING
    ring = np.abs(np.hypot(x - middle, v - below) - radius)
    away = np.minimum(np.minimum(upright, foot), ring)
    return np.clip((wide - away) * side + 0.5, 0, 1)
