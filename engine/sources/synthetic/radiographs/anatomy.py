"""A normal chest as a radiograph shows it: lungs, heart, mediastinum, diaphragm, bones and vessels, drawn with soft edges.

Coordinates are shares of the image's side: `x` from the midline, positive towards the patient's left, which is on the image's
right; `v` from the top. `d` is the distance from the midline within one half. Brightness runs from 0 (air) to 1 (metal).
Everything is a function of these coordinates, so that a chest is the same at any number of pixels.
"""

import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from engine.sources.synthetic.radiographs.study import LEFT, RIGHT

Plane = np.ndarray  # [pixels, pixels] float32, unless said otherwise
SIGNS = {RIGHT: -1.0, LEFT: 1.0}
_APEX = 0.145
HILUM = (0.085, 0.43)
_RIBS = 9


@dataclass
class Body:
    """Shape of a chest: the patient's, moved a little from study to study. Signs that change an outline change it here.

    `heart` is the heart's width as a share of the chest's, `mediastinum` the half width above it, `domes` the diaphragm's height
    on both sides, `fracture` the side, rib number, distance and step of a broken rib.
    """

    midline: float
    top: float
    width: float
    domes: dict[str, float]
    heart: float
    mediastinum: float
    phases: tuple[float, ...]
    fracture: tuple[str, int, float, float] | None = None

    @property
    def rib_spacing(self) -> float:
        return (self.domes[RIGHT] + 0.02 - self.top) / _RIBS


def body(patient: random.Random, now: random.Random, view: str) -> Body:
    """A chest from the patient's stream, changed a little by this day's. Who lies breathes in less, with a larger heart."""

    def about(centre: float, spread: float, drift: float) -> float:
        return centre + spread * (2 * patient.random() - 1) + drift * (2 * now.random() - 1)

    lying = view == "AP"
    dome = about(0.72, 0.025, 0.012) - 0.045 * lying
    return Body(
        midline=about(0.5, 0, 0.015),
        top=about(0.115, 0.015, 0.008),
        width=about(0.375, 0.018, 0.004),
        domes={RIGHT: dome, LEFT: dome + about(0.02, 0.01, 0)},
        heart=about(0.43, 0.03, 0.006) + 0.03 * lying,
        mediastinum=about(0.054, 0.004, 0.002) + 0.004 * lying,
        phases=tuple(patient.random() for _ in range(8)),
    )


class Chest:
    """A drawing in the making: the body's outlines as planes, and layers to which signs add.

    `air` is the share of lung in each place; `opacity` what fills it, `markings` the vessels, `emptied` where there are none;
    `added` is brightness over everything.
    """

    def __init__(self, shape: Body, pixels: int) -> None:
        self.shape, self.pixels = shape, pixels
        at = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
        self.x, self.v = at[None, :] - np.float32(shape.midline), at[:, None]
        self.heart, self.wide = self._heart(), self._mediastinum()
        self.lungs = {side: self._lung(side) for side in SIGNS}
        self.middle = np.maximum(self.heart, self.wide)
        self.lung = self.lungs[RIGHT] + self.lungs[LEFT]
        self.air = self.lung * (1 - 0.94 * self.middle)
        self.opacity, self.emptied, self.added = (np.zeros((pixels, pixels), np.float32) for _ in range(3))

    def d(self, side: str) -> Plane:
        """Distance from the midline into a side [1, pixels]; negative in the other."""
        return self.x * np.float32(SIGNS[side])

    def soft(self, depth: Plane, edge: float = 0.006) -> Plane:
        """0 to 1 over an edge of this width, at least one pixel, around depth 0."""
        return np.clip(depth / np.float32(max(edge, 1 / self.pixels)) + 0.5, 0, 1)

    def lateral(self, side: str, shrunk: float = 1.0, lowered: float = 0.0) -> Plane:
        """The lung's outer border [pixels, 1], also of a lung that shrank away from the wall."""
        top, width = self.shape.top + lowered, self.shape.width * shrunk
        t = np.clip((self.v - top) / (0.62 * (self.shape.domes[side] - top)), 0, 1)
        return _APEX + (width - _APEX) * np.sqrt(1 - (1 - t) ** 2.3)

    def diaphragm(self, side: str) -> Plane:
        """Height of the diaphragm [1, pixels], lowest in the outer corner."""
        from_top = self.d(side) - np.float32(0.17)
        outer = from_top > 0
        q = np.abs(from_top) / (0.17 + np.float32(self.shape.width - 0.34) * outer)
        return self.shape.domes[side] + (0.03 + np.float32(0.075) * outer) * q**2.4

    def inside(self, side: str, shrunk: float = 1.0, lowered: float = 0.0) -> Plane:
        """The outline of a lung that may have shrunk, open to the diaphragm and the heart."""
        top = self.shape.top + lowered
        t = np.clip((self.v - top) / 0.075, 0, 1)
        medial = _APEX - (_APEX - 0.035) * np.sqrt(1 - (1 - t) ** 2)
        d = self.d(side)
        return self.soft(self.lateral(side, shrunk, lowered) - d) * self.soft(d - medial) * self.soft(self.v - top)

    def stroke(self, points: list[tuple[float, float]], half_width: float) -> Plane:
        """A line of this thickness through points (x, v)."""
        plane, reach = np.zeros((self.pixels, self.pixels), np.float32), max(half_width, 0.6 / self.pixels)
        for (x0, v0), (x1, v1) in pairwise(points):
            rows = self._slice(min(v0, v1) - 2 * reach, max(v0, v1) + 2 * reach)
            columns = self._slice(*(edge + self.shape.midline for edge in (min(x0, x1) - 2 * reach, max(x0, x1) + 2 * reach)))
            x, v = self.x[:, columns] - np.float32(x0), self.v[rows] - np.float32(v0)
            dx, dv = np.float32(x1 - x0), np.float32(v1 - v0)
            along = np.clip((x * dx + v * dv) / max(dx * dx + dv * dv, np.float32(1e-9)), 0, 1)
            away = np.hypot(x - along * dx, v - along * dv)
            plane[rows, columns] = np.maximum(plane[rows, columns], self.soft(reach - away, min(0.8 * reach, 0.008)))
        return plane

    def cloud(self, rng: np.random.Generator, cells: int) -> Plane:
        """Smooth noise between about -1 and 1 with this many cells a side."""
        grid = (2 * rng.random((cells, cells), np.float32) - 1).astype(np.float32)
        return np.asarray(Image.fromarray(grid).resize((self.pixels, self.pixels), Image.Resampling.BICUBIC))

    def vessels(self, density: float = 1.0) -> Plane:
        """Vessels that fan out from both hila, fork, and thin out."""
        plane = np.zeros((self.pixels, self.pixels), np.float32)
        for side, turn in zip(SIGNS, self.shape.phases, strict=False):
            across, down = self.d(side) - np.float32(HILUM[0]), self.v - np.float32(HILUM[1])
            r = np.hypot(across, down)
            angle = np.arctan2(down, across) + np.float32(0.35) * np.sin(9 * r + np.float32(6 * turn))
            for count, start, width, stop in ((13, 0.02, 0.0085, 0.3), (29, 0.09, 0.005, 0.34)):
                spacing = np.float32(2 * np.pi / count)
                place = angle / spacing + np.float32(turn * 7) + np.float32(0.3) * np.sin(angle * 5)
                away = np.abs(place - np.rint(place)) * spacing * r
                thickness = np.float32(width * density) * np.clip(1 - r / np.float32(stop), 0, 1)
                reach = np.maximum(thickness, np.float32(0.4 / self.pixels))
                line = np.clip(1.3 - away / reach, 0, 1) * np.clip((r - start) / 0.02, 0, 1) * (thickness / np.float32(width))
                plane = np.maximum(plane, line * (self.d(side) > 0))
        return plane

    def bones(self) -> Plane:
        """Ribs, clavicles and spine, as brightness."""
        bright = np.zeros((self.pixels, self.pixels), np.float32)
        spacing = np.float32(self.shape.rib_spacing)
        for side in SIGNS:
            d = self.d(side)
            q = np.clip(d / np.float32(self.shape.width), 0, 1.15)
            wall = self.soft(self.lateral(side) + 0.022 - d) * (d > 0.025)
            bright += self._ribs(side, 0.15 * q**2.2 - 0.035 * q, spacing, 1.0) * wall
            fading = np.clip((d - 0.13) / 0.05, 0, 1)
            bright += self._ribs(side, 0.115 + 0.21 * (1 - q), spacing, 0.55) * wall * fading
            s, up = SIGNS[side], self.shape.top
            clavicle = [(0.035, 0.09), (0.1, 0.085), (0.18, 0.06), (0.26, 0.03), (0.34, 0.015), (0.41, 0.01)]
            bright += np.float32(0.11) * self.stroke([(s * d, up + v) for d, v in clavicle], 0.013)
        disc = np.abs(np.mod(self.v * 15, 1) - 0.5) > 0.4
        return bright + (0.05 - np.float32(0.025) * disc) * self.soft(0.036 - np.abs(self.x), 0.012)

    def rib_at(self, side: str, rib: int, d: float) -> float:
        """Height of the middle of a posterior rib at a distance from the midline."""
        q = d / self.shape.width
        return self.shape.top + 0.045 + rib * self.shape.rib_spacing + 0.15 * q**2.2 - 0.035 * q

    def _ribs(self, side: str, course: Plane, spacing: np.float32, strength: float) -> Plane:
        """All ribs of a side at once: each place belongs to the nearest of evenly spaced ones."""
        place = (self.v - np.float32(self.shape.top + 0.045) - course) / spacing
        rib = np.rint(place)
        away, strengths = (place - rib) * spacing, np.float32(strength)
        if self.shape.fracture and self.shape.fracture[0] == side and strength == 1:
            _, broken, at, step = self.shape.fracture
            d, this = self.d(side), rib == broken
            away = away - np.where(this & (d > at), np.float32(step), 0)
            gap = self.soft(np.abs(d - np.float32(at) - 0.25 * away) - 0.007, 0.004)
            near = self.soft(0.12 - np.abs(d - np.float32(at)), 0.08)
            strengths = np.where(this, gap * (1 + 2 * near), strengths)
        away, half = np.abs(away), np.float32(0.0135)
        profile = 0.06 * self.soft(half - away) + 0.035 * np.clip(1 - np.abs(away - half) / 0.006, 0, 1)
        return profile * strengths * ((rib >= 0) & (rib < _RIBS))

    def _lung(self, side: str) -> Plane:
        return self.inside(side) * self.soft(self.diaphragm(side) - self.v, 0.008)

    def _heart(self) -> Plane:
        span = np.float32(self.shape.heart * 2 * self.shape.width)
        across, down = np.float32(0.5) * span, np.float32(0.105 + 0.26 * span)
        x, v = self.x - np.float32(0.15) * span, self.v - np.float32(self.shape.domes[LEFT] + 0.035) + np.float32(0.72) * down
        # The apex points to the lower left.
        tilted = v - np.float32(0.22) * x
        away = np.sqrt((x / across) ** 2 + (tilted / down) ** 2)
        return self.soft((1 - away) * across, 0.012)

    def _mediastinum(self) -> Plane:
        half, v = np.float32(self.shape.mediastinum), self.v
        # Beyond the usual width it bulges on both sides.
        bulge = max(self.shape.mediastinum - 0.06, 0) * np.clip(1 - ((v - 0.3) / 0.17) ** 2, 0, 1)
        knob = np.float32(0.022) * np.clip(1 - ((v - 0.285) / 0.045) ** 2, 0, 1)
        # It opens towards the heart.
        flare = 0.04 * np.clip((v - 0.28) / 0.2, 0, 1) ** 1.5
        edge = np.minimum(half, np.float32(0.062)) + flare + bulge * 1.6
        return self.soft(edge + knob * (self.x > 0) - np.abs(self.x), 0.016) * self.soft(v - 0.02, 0.05)

    def _slice(self, low: float, high: float) -> slice:
        return slice(max(0, int(low * self.pixels) - 1), max(0, min(self.pixels, int(high * self.pixels) + 2)))

    def brightness(self, rng: np.random.Generator) -> Plane:
        """The picture: soft tissue, less the air in it, then vessels, bones and what was added."""
        x, v = np.abs(self.x), self.v
        trunk = 0.13 + 0.345 * np.clip((v - 0.02) / 0.14, 0, 1) ** 1.4 + 0.01 * np.clip((v - 0.5) / 0.5, 0, 1)
        tissue = self.soft(trunk - x, 0.012) * (0.5 + 0.06 * v) * (1 - 0.35 * np.clip(x / trunk, 0, 1) ** 6)
        below = {side: self.soft(v - self.diaphragm(side), 0.01) * (self.d(side) > 0) for side in SIGNS}
        tissue += 0.12 * (below[RIGHT] + below[LEFT]) * self.soft(trunk - x, 0.012)
        bubble = 1 - np.sqrt(((self.x - 0.15) / 0.06) ** 2 + ((v - self.shape.domes[LEFT] - 0.055) / 0.03) ** 2)
        tissue -= 0.16 * np.clip(bubble * 2.5, 0, 1)
        tissue += 0.13 * self.middle * (1 - 0.75 * (below[RIGHT] + below[LEFT]))
        trachea = self.soft(0.017 - x, 0.012) * self.soft(0.37 - v, 0.05)
        tissue -= 0.09 * trachea
        hila = sum(np.clip(1 - ((self.d(side) - HILUM[0]) / 0.04) ** 2 - ((v - HILUM[1]) / 0.065) ** 2, 0, 1) for side in SIGNS)
        texture = 0.02 * self.cloud(rng, 7) + 0.012 * self.cloud(rng, 23)
        filled = np.clip(self.opacity, 0, 1)
        dark = 0.4 * self.air * (1 - 0.85 * filled)
        marks = (0.16 * self.vessels() + 0.12 * hila) * self.air * (1 - 0.75 * filled) * (1 - self.emptied)
        dark += 0.055 * self.emptied * self.air
        return tissue - dark + marks + self.bones() + texture * tissue * 2 + self.added
