"""The signs of the findings: each changes an outline of the body or adds to a layer of the drawing, and says where it lies.

They follow what textbooks describe (meniscus, visceral pleural line, air bronchogram, Kerley lines, plate-like lines), drawn
plainly enough to be seen at 64 pixels.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np

from engine.records import seed_of
from engine.sources.synthetic.radiographs.anatomy import HILUM, SIGNS, Body, Chest, Plane
from engine.sources.synthetic.radiographs.study import BOTH, LEFT, RIGHT, Sign

# Name, x0, y0, x1, y1: half-open, in pixels.
Box = tuple[str, int, int, int, int]
_ZONES = {"upper": 0.3, "mid": 0.45, "lower": 0.6}


def shape(body: Body, sign: Sign) -> None:
    """Changes the body's outline, for the signs that are one."""
    if sign.name == "Cardiomegaly":
        body.heart = max(body.heart, 0.55) + 0.06 + 0.07 * sign.size
    elif sign.name == "Enlarged Cardiomediastinum":
        body.mediastinum = 0.1 + 0.03 * sign.size
    elif sign.name == "Fracture":
        rng = _stream(sign)
        rib = rng.choice((3, 4) if sign.zone == "mid" else (5, 6))
        body.fracture = (sign.side, rib, 0.2 + 0.1 * rng.random(), 0.018 + 0.006 * sign.size)


def add(chest: Chest, sign: Sign) -> list[Box]:
    """Draws a sign and gives its boxes: one a side or device."""
    planes = _DRAWN[sign.name](chest, sign, np.random.default_rng(seed_of(sign.seed_id, sign.name, sign.kind)))
    return [(sign.name, *box) for plane in planes if (box := bounds(plane))]


def bounds(plane: Plane, level: float = 0.25) -> tuple[int, int, int, int] | None:
    """The smallest box (x0, y0, x1, y1) around what exceeds a share of the plane's maximum; None for an empty plane."""
    inside = plane > level * plane.max()
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if rows.size else None


def _stream(sign: Sign) -> random.Random:
    return random.Random(seed_of(sign.seed_id, sign.name, sign.kind))


def _sides(sign: Sign) -> tuple[str, ...]:
    return (RIGHT, LEFT) if sign.side == BOTH else (sign.side,)


def _fill(chest: Chest, plane: Plane) -> Plane:
    """Fills lung; what two signs fill is filled once."""
    chest.opacity = 1 - (1 - chest.opacity) * (1 - plane)
    return plane * chest.air


def _blob(chest: Chest, side: str, d: float, v: float, radius: float, soft: float, ragged: Plane | float = 0.0) -> Plane:
    away = np.hypot(chest.d(side) - np.float32(d), (chest.v - np.float32(v)) * np.float32(0.9)) / np.float32(radius)
    return np.clip((1 - away + ragged) / np.float32(soft), 0, 1)


def _beside_heart(sign: Sign) -> float:
    """How much farther out a sign lies where the heart would hide it."""
    return 0.05 if sign.side == LEFT and sign.zone == "lower" else 0.0


def _heart(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    yield chest.heart


def _mediastinum(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    yield chest.wide * ((chest.v > 0.13) & (chest.v < 0.47))


def _opacity(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    d, v = 0.22 + 0.04 * rng.random() + _beside_heart(sign), _ZONES[sign.zone] + 0.03 * rng.random()
    patch = _blob(chest, sign.side, d, v, 0.105 + 0.045 * sign.size, 0.75, 0.25 * chest.cloud(rng, 9))
    yield _fill(chest, 0.62 * patch)


def _pneumonia(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """Several ragged patches that run into each other."""
    ragged, patches = 0.5 * chest.cloud(rng, 17), np.zeros((chest.pixels, chest.pixels), np.float32)
    d, v = 0.21 + 0.03 * rng.random() + _beside_heart(sign), _ZONES[sign.zone] + 0.02 * rng.random()
    for angle in np.arange(5) * 1.257 + rng.random():
        out = 0.062 + 0.02 * rng.random()
        spot = _blob(chest, sign.side, d + out * np.cos(angle), v + out * np.sin(angle), 0.045 + 0.02 * sign.size, 0.8, ragged)
        patches = np.maximum(patches, spot)
    yield _fill(chest, 0.72 * patches)


def _consolidation(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """A lobe up to its fissure, with the air in its bronchi left as dark branches."""
    d, v = chest.d(sign.side), chest.v
    fissure = 0.44 + 0.05 * (sign.size - 0.5) + 0.12 * (d - 0.2) * (1 if sign.zone == "upper" else -1)
    if sign.zone == "upper":
        lobe = chest.soft(fissure - v, 0.006) * np.clip((v - chest.shape.top - 0.03) / 0.08, 0, 1)
    else:
        lobe = chest.soft(v - fissure - 0.06, 0.006)
    lobe = lobe * chest.lungs[sign.side] * np.clip((d - 0.045) / 0.03, 0, 1)
    s, down = SIGNS[sign.side], -1 if sign.zone == "upper" else 1
    hilum, start = HILUM[0] + _beside_heart(sign), HILUM[1]
    branches = np.zeros_like(lobe)
    for angle in (0.35, 0.75, 1.15):
        end = (hilum + 0.2 * np.cos(angle), start + down * 0.24 * np.sin(angle))
        fork = (hilum + 0.11 * np.cos(angle), start + down * 0.14 * np.sin(angle))
        twig = (end[0] - 0.05, end[1] + down * 0.05)
        for a, b in (((hilum, start), fork), (fork, end), (fork, twig)):
            branches = np.maximum(branches, chest.stroke([(s * a[0], a[1]), (s * b[0], b[1])], 0.0055))
    yield _fill(chest, (0.86 + 0.06 * chest.cloud(rng, 9)) * lobe * (1 - 0.55 * branches))


def _lesion(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    d, v = (
        0.2 + 0.07 * rng.random() + _beside_heart(sign),
        _ZONES[sign.zone] + 0.04 * rng.random() - 0.03,
    )
    nodule = _blob(chest, sign.side, d, v, 0.028 + 0.018 * sign.size, 0.3, 0.05 * chest.cloud(rng, 24))
    chest.added += 0.24 * nodule
    yield nodule


def _edema(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """Haze around both hila, and short lines at the lower wall."""
    ragged, strength = 0.3 * chest.cloud(rng, 12), 0.5 + 0.2 * sign.size
    for side in (RIGHT, LEFT):
        haze = _blob(chest, side, HILUM[0] + 0.045, HILUM[1] + 0.04, 0.2 + 0.03 * sign.size, 0.9, ragged)
        lines = np.zeros_like(haze)
        for v in np.arange(5) * 0.026 + chest.shape.domes[side] - 0.1:
            wall = float(np.interp(v, chest.v[:, 0], chest.lateral(side)[:, 0])) - 0.012
            lines = np.maximum(lines, chest.stroke([(SIGNS[side] * (wall - 0.055), v + 0.004), (SIGNS[side] * wall, v)], 0.0022))
        chest.added += 0.09 * lines
        yield np.maximum(_fill(chest, strength * haze), 0.3 * lines)


def _atelectasis(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """One or two plates above the diaphragm, or above the fluid that hides it."""
    s, v = SIGNS[sign.side], chest.shape.domes[sign.side] - (0.2 if sign.kind else 0.045)
    start, tilt = 0.14 + 0.02 * rng.random() + _beside_heart(sign), 0.03 * rng.random() - 0.025
    plates = chest.stroke([(s * start, v), (s * (start + 0.09), v + tilt * 0.7), (s * (start + 0.17), v + tilt)], 0.0085)
    if sign.size > 0.5:
        second = chest.stroke([(s * (start + 0.02), v - 0.035), (s * (start + 0.13), v - 0.035 + tilt)], 0.006)
        plates = np.maximum(plates, second)
    chest.added += 0.24 * plates
    yield plates


def _pneumothorax(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """Air between the wall and the lung, widest at the apex: no vessels in it, and a thin line where the lung ends."""
    lung, kept, lowered = chest.lungs[sign.side], 0.83 - 0.13 * sign.size, 0.06 + 0.05 * sign.size
    shrunken = chest.inside(sign.side, kept, lowered)
    height = np.clip((0.62 - chest.v) / 0.12, 0, 1)
    band = lung * (1 - shrunken) * height * (chest.d(sign.side) > 0.05)
    # The line is where the outline is half: its edge is drawn again, wider.
    wider = chest.inside(sign.side, kept + 0.018, lowered - 0.007)
    chest.opacity, chest.emptied = chest.opacity * (1 - band), np.maximum(chest.emptied, band)
    chest.added += 0.16 * (wider * (1 - shrunken)) * lung * height * (chest.d(sign.side) > 0.07)
    yield band


def _effusion(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """Fluid in the lower corner, its surface rising along the wall."""
    for side in _sides(sign):
        level = chest.shape.domes[side] - 0.02 - 0.09 * sign.size
        q = np.clip(chest.d(side) / np.float32(chest.shape.width), 0, 1)
        surface = level + 0.05 - 0.17 * q**3
        fluid = chest.soft(chest.v - surface, 0.02) * chest.lungs[side]
        yield _fill(chest, np.float32(1.0) * fluid)


def _thickening(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """Plaques along the outer wall."""
    lumps = np.zeros((chest.pixels, 1), np.float32)
    for centre in (0.4, 0.5, 0.59):
        middle, half = centre + 0.015 * rng.random(), 0.05 + 0.012 * rng.random()
        lumps = np.maximum(lumps, np.sqrt(np.clip(1 - ((chest.v - np.float32(middle)) / half) ** 2, 0, 1)))
    thickness = np.float32(0.022 + 0.014 * sign.size) * lumps
    wall = chest.lateral(sign.side) - chest.d(sign.side)
    plaque = chest.soft(thickness - wall, 0.005) * chest.lungs[sign.side] * (lumps > 0)
    chest.added += 0.28 * plaque
    yield plaque


def _fracture(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    side, rib, d, step = chest.shape.fracture
    v = chest.rib_at(side, rib, d) + step / 2
    yield ((np.abs(chest.d(side) - d) < 0.045) & (np.abs(chest.v - v) < 0.04)).astype(np.float32)


def _device(chest: Chest, sign: Sign, rng: np.random.Generator) -> Iterator[Plane]:
    """Metal or a tube with a line that X-rays do not pass."""
    jitter, s = 0.01 * (2 * rng.random() - 1), SIGNS.get(sign.side, 1.0)
    heart, top = chest.shape.domes[LEFT] - 0.07, chest.shape.top
    if sign.kind == "pacemaker":
        box = [(s * (0.25 + jitter), top + 0.13), (s * (0.31 + jitter), top + 0.14)]
        lead = [box[0], (s * 0.16, top + 0.09), (s * 0.05, top + 0.11), (-0.03, 0.3), (-0.04, heart - 0.12), (0.06, heart)]
        case = np.maximum(chest.stroke(box, 0.034), chest.stroke([(0.05, heart - 0.004), (0.065, heart)], 0.006))
        plane, strength = np.maximum(case, chest.stroke(lead, 0.0035)), 0.5
    elif sign.kind == "drain":
        wall = 0.42 * s
        way = [(wall, 0.56 + jitter), (s * 0.33, 0.53 + jitter), (s * 0.27, 0.42), (s * 0.225, 0.3), (s * 0.2, top + 0.09)]
        plane, strength = np.maximum(0.45 * chest.stroke(way, 0.012), chest.stroke(way, 0.003)), 0.4
    elif sign.kind == "line":
        way = [(s * 0.2, 0.02), (s * 0.16, top), (s * 0.07, top + 0.09), (s * 0.04, 0.3), (s * 0.038, 0.42 + jitter)]
        plane, strength = chest.stroke(way, 0.0042), 0.36
    elif sign.kind == "airway":
        way = [(0.002, 0.0), (0.0, 0.15), (0.003 + jitter / 3, 0.29 + jitter)]
        plane, strength = np.maximum(0.4 * chest.stroke(way, 0.011), chest.stroke([(x + 0.008, v) for x, v in way], 0.003)), 0.4
    else:
        way = [(-0.02, 0.0), (-0.016, 0.3), (0.012, 0.6), (0.02, heart + 0.08), (0.09, heart + 0.16), (0.17, heart + 0.18)]
        plane, strength = chest.stroke(way, 0.0042), 0.34
    chest.added += strength * plane
    yield plane


_DRAWN: dict[str, Callable[[Chest, Sign, np.random.Generator], Iterator[Plane]]] = {
    "Enlarged Cardiomediastinum": _mediastinum,
    "Cardiomegaly": _heart,
    "Lung Opacity": _opacity,
    "Lung Lesion": _lesion,
    "Edema": _edema,
    "Consolidation": _consolidation,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Effusion": _effusion,
    "Pleural Other": _thickening,
    "Fracture": _fracture,
    "Support Devices": _device,
}
