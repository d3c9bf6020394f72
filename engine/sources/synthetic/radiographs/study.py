"""What a study shows before anything is drawn or written: its patient, site and view, its findings and where their signs are.

Shares are invented, in the order of magnitude of hospital sets. What lasts (a large heart, a nodule, a pacemaker) is drawn from
the patient's id, what comes and goes from the record's.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from engine.records import in_share, seed_of
from engine.text.chest import FINDINGS

SITES = ("north", "south")
RIGHT, LEFT, BOTH = "right", "left", "bilateral"
# Records among which patients are divided, so that any stretch can be made alone; the last patient of each gets what remains.
_TURN = 1000


@dataclass(frozen=True)
class Sign:
    """A visible sign of a finding. `size` runs from 0 to 1, `kind` tells devices apart, `seed_id` seeds its drawing.

    An opacity that is a consolidation or a pneumonia is not `drawn` beside it.
    """

    name: str
    side: str = ""
    zone: str = ""
    size: float = 0.5
    kind: str = ""
    seed_id: str = ""
    drawn: bool = True


@dataclass(frozen=True)
class Study:
    """One study: one image, one report. `view` is PA or AP."""

    record_id: str
    patient_id: str
    site: str
    view: str
    signs: tuple[Sign, ...]
    marker: bool

    @property
    def states(self) -> dict[str, int]:
        """1 or 0 for each of the 14 findings. As in CheXpert, No Finding goes with or without Support Devices."""
        shown = {sign.name for sign in self.signs}
        return {name: int(name in shown) for name in FINDINGS[:-1]} | {FINDINGS[-1]: int(shown <= {"Support Devices"})}


@dataclass(frozen=True)
class Shares:
    """The settings that decide what studies show."""

    studies: float
    prevalence: float
    marker: str | None
    marker_positives: float
    marker_negatives: float


def patient_of(seed: int, number: int, studies: float) -> tuple[int, int]:
    """The first record of the patient of record `number`, and how many the patient has, `studies` on average."""
    return next((first, count) for first, count in _patients(seed, number // _TURN, studies) if first <= number < first + count)


@lru_cache(maxsize=8)
def _patients(seed: int, turn: int, studies: float) -> list[tuple[int, int]]:
    rng, first, stop = random.Random(seed_of(f"rad-{seed}", "patients", turn)), turn * _TURN, (turn + 1) * _TURN
    patients = []
    while first < stop:
        # Geometric: after each study the same chance of another one.
        more = int(math.log(1 - rng.random()) / math.log(1 - 1 / studies)) if studies > 1 else 0
        count = min(1 + more, stop - first)
        patients.append((first, count))
        first += count
    return patients


def study(seed: int, number: int, shares: Shares) -> Study:
    """Study `number` of a corpus."""
    record_id = f"rad-{seed}-{number:08d}"
    patient_id = f"rad-pat-{seed}-{patient_of(seed, number, shares.studies)[0]:08d}"
    site = SITES[in_share(patient_id, 0.45, "site")]
    view = "AP" if in_share(record_id, 0.5 if site == "south" else 0.3, "view") else "PA"
    signs = tuple(_signs(patient_id, record_id, view, shares.prevalence))
    positive = any(sign.name == shares.marker for sign in signs) or (shares.marker == "No Finding" and not _findings(signs))
    share = shares.marker_positives if positive else shares.marker_negatives
    return Study(record_id, patient_id, site, view, signs, bool(shares.marker) and in_share(record_id, share, "marker"))


def _findings(signs: tuple[Sign, ...]) -> set[str]:
    return {sign.name for sign in signs} - {"Support Devices"}


class _Draw:
    """Draws signs from the stream of one id; `factor` multiplies every share that depends on no other finding."""

    def __init__(self, of: str, factor: float) -> None:
        self.of, self.factor, self.rng = of, factor, random.Random(seed_of(of, "findings"))

    def chance(self, share: float, given: float = 0.0) -> bool:
        return self.rng.random() < min(0.95, share * self.factor + given)

    def pick(self, *options: str) -> str:
        return options[int(self.rng.random() * len(options))]

    def sign(self, name: str, side: str = "", zone: str = "", kind: str = "") -> Sign:
        return Sign(name, side, zone, self.rng.random(), kind, self.of)


def _signs(patient_id: str, record_id: str, view: str, factor: float) -> list[Sign]:
    lasting, now = _Draw(patient_id, factor), _Draw(record_id, factor)
    # Patients who are X-rayed in bed are sicker.
    sick = 1.5 if view == "AP" else 0.75
    signs: list[Sign] = []
    heart = lasting.chance(0.15)
    if lasting.chance(0.05):
        signs.append(lasting.sign("Enlarged Cardiomediastinum"))
    if heart:
        signs.append(lasting.sign("Cardiomegaly"))
    signs += _in_the_lung(now, sick)
    if lasting.chance(0.05):
        signs.append(lasting.sign("Lung Lesion", lasting.pick(RIGHT, LEFT), lasting.pick("upper", "mid", "lower")))
    edema = now.chance(0.04 * sick, 0.25 if heart else 0)
    if edema:
        signs.append(now.sign("Edema", BOTH))
    effusion = ""
    if now.chance(0.09 * sick, 0.4 if edema else 0):
        effusion = BOTH if edema and now.chance(0, 0.6) else now.pick(RIGHT, LEFT)
    if now.chance(0.07 * sick, 0.2 if effusion else 0):
        # Beside the fluid rather than in it.
        free = [side for side in (RIGHT, LEFT) if effusion not in (side, BOTH)]
        signs.append(now.sign("Atelectasis", now.pick(*free) if free else now.pick(RIGHT, LEFT), "lower", "above" * (not free)))
    collapsed = now.pick(RIGHT, LEFT) if now.chance(0.04 * sick) else ""
    if collapsed:
        signs.append(now.sign("Pneumothorax", collapsed, "upper"))
    if effusion:
        signs.append(now.sign("Pleural Effusion", effusion, "lower"))
    if lasting.chance(0.035):
        signs.append(lasting.sign("Pleural Other", lasting.pick(RIGHT, LEFT), "mid"))
    if now.chance(0.03, 0.1 if collapsed else 0):
        signs.append(now.sign("Fracture", collapsed or now.pick(RIGHT, LEFT), now.pick("mid", "lower")))
    return signs + _devices(lasting, now, view, heart, collapsed)


def _in_the_lung(now: _Draw, sick: float) -> list[Sign]:
    """Opacities: consolidation and pneumonia are ones, so they bring that finding along."""
    consolidation, pneumonia = now.chance(0.045 * sick), now.chance(0.05 * sick)
    pneumonia = pneumonia or (consolidation and now.chance(0, 0.35))
    side, zone = now.pick(RIGHT, LEFT), now.pick("upper", "lower", "lower")
    if not (consolidation or pneumonia):
        zone = now.pick("upper", "mid", "lower")
        return [now.sign("Lung Opacity", side, zone)] if now.chance(0.07) else []
    kinds = ["Consolidation"] * consolidation + ["Pneumonia"] * pneumonia
    opacity = Sign("Lung Opacity", side, zone, seed_id=now.of, drawn=False)
    # Pneumonia beside a consolidation is the other lung's patches, so that each sign can be seen.
    other = LEFT if side == RIGHT else RIGHT
    sides = {"Consolidation": side, "Pneumonia": other if consolidation else side}
    return [opacity, *(now.sign(kind, sides[kind], zone) for kind in kinds)]


def _devices(lasting: _Draw, now: _Draw, view: str, heart: bool, collapsed: str) -> list[Sign]:
    kinds = []
    if lasting.chance(0.03, 0.12 if heart else 0):
        kinds.append(("pacemaker", LEFT))
    if collapsed and now.chance(0, 0.4):
        kinds.append(("drain", collapsed))
    if now.chance(0.2 if view == "AP" else 0.03):
        kinds.append(("line", RIGHT))
    if view == "AP" and now.chance(0.15):
        kinds += [("airway", ""), ("gastric", "")]
    return [(lasting if kind == "pacemaker" else now).sign("Support Devices", side, kind=kind) for kind, side in kinds]
