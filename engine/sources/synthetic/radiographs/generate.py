"""Synthetic frontal chest radiographs with known signs of the 14 CheXpert findings, their boxes, and reports.

Record i of seed s depends on (s, i) and the settings alone: every draw is seeded from the id of the record or of its patient. No
real person is behind any of it, and nothing can be learned from it about real radiographs but whether a machine works.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from engine.keys import check_keys, key, same
from engine.records import in_share
from engine.sources.synthetic.generate import Settings
from engine.sources.synthetic.radiographs import reports
from engine.sources.synthetic.radiographs.film import draw, png
from engine.sources.synthetic.radiographs.study import Shares, Study, patient_of, study
from engine.text.chest import FINDINGS

# Raised whenever the same settings give different records.
EDITION = 1
_BOX = {"name": pa.string(), **dict.fromkeys(("x0", "y0", "x1", "y1"), pa.int32())}
# `image` is a PNG file with 8 bits of grey. `findings` has all 14, in their order. `boxes` are half-open, in pixels of the image,
# with one for each side or device; No Finding has none. `noise` names what was done to the report.
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("record_id", "patient_id", "site", "view"), pa.string()),
        "image": pa.binary(),
        "findings": pa.list_(pa.struct({"name": pa.string(), "state": pa.int8()})),
        "boxes": pa.list_(pa.struct(_BOX)),
        "report": pa.string(),
        "marker": pa.bool_(),
        "noise": pa.list_(pa.string()),
    }
)
# Pixels of a table, for a modest memory.
_BLOCK_PIXELS = 16_000_000


@dataclass(frozen=True)
class Radiographs:
    """The settings that a record depends on.

    Raises:
        ConfigError: a value outside its range.
    """

    seed: int = same(Settings, "seed")
    pixels: int = key(320, "Width and height of the images.", low=32, high=4096)
    studies: float = key(2.0, "Studies of a patient, on average.", low=1, high=50)
    prevalence: float = key(1.0, "Factor on how common the findings are.", low=0, high=10)
    left_out: float = key(0.0, "Share of present findings that the report leaves out.", at="noise.left_out", low=0, high=1)
    hedged: float = key(0.0, "Share of the findings in a report that it calls possible only.", at="noise.hedged", low=0, high=1)
    copied: float = key(
        0.0,
        "Share of reports, among patients with several studies, that are copied from the patient's other study.",
        at="noise.copied",
        low=0,
        high=1,
    )
    marker: str | None = key(
        None,
        "Finding with which a burnt-in mark, an L above a ring, goes together; null burns in none.",
        at="marker.finding",
        choices=FINDINGS,
    )
    marker_positives: float = key(
        0.8, "Share of images with the mark where its finding is present.", at="marker.positives", low=0, high=1
    )
    marker_negatives: float = key(
        0.05, "Share of images with the mark where its finding is absent.", at="marker.negatives", low=0, high=1
    )

    def __post_init__(self) -> None:
        check_keys(self)


def generate(records: int, seed: int, *, start: int = 0, **settings: object) -> pa.Table:
    """Records `start` to `start + records` of a seed, in the columns of `SCHEMA`; `settings` are those of `Radiographs`."""
    return pa.concat_tables([SCHEMA.empty_table(), *blocks(Radiographs(seed, **settings), start, start + records)])


def blocks(settings: Radiographs, start: int, stop: int) -> Iterator[pa.Table]:
    """Records `start` to `stop`, in tables of a moderate size."""
    size = max(1, _BLOCK_PIXELS // settings.pixels**2)
    for at in range(start, stop, size):
        yield pa.Table.from_pylist([_record(settings, number) for number in range(at, min(at + size, stop))], schema=SCHEMA)


def study_of(settings: Radiographs, number: int) -> Study:
    """What record `number` shows."""
    shares = Shares(settings.studies, settings.prevalence, settings.marker, settings.marker_positives, settings.marker_negatives)
    return study(settings.seed, number, shares)


def _record(settings: Radiographs, number: int) -> dict[str, object]:
    shown = study_of(settings, number)
    grey, boxes = draw(shown, settings.pixels)
    report, noise = _report(settings, shown, number)
    return {
        "record_id": shown.record_id,
        "patient_id": shown.patient_id,
        "site": shown.site,
        "view": shown.view,
        "image": png(grey),
        "findings": [{"name": name, "state": state} for name, state in shown.states.items()],
        "boxes": [dict(zip(_BOX, box, strict=True)) for box in boxes],
        "report": report,
        "marker": shown.marker,
        "noise": noise,
    }


def _report(settings: Radiographs, shown: Study, number: int) -> tuple[str, list[str]]:
    noise = reports.Noise(settings.left_out, settings.hedged)
    first, count = patient_of(settings.seed, number, settings.studies)
    if count > 1 and in_share(shown.record_id, settings.copied, reports.COPIED):
        # From the study before; the first copies from the second.
        other = number - 1 if number > first else number + 1
        report, kinds = reports.write(study_of(settings, other), noise)
        return report, [reports.COPIED, *kinds]
    return reports.write(shown, noise)
