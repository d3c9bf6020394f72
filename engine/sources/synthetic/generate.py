"""Synthetic pathology reports with gold codes and gold evidence, in any number and reproducible.

Record i of seed s depends on (s, i) and the settings alone: a longer corpus begins with the shorter one, and blocks can be made
in any order, anywhere. Every eighth record is a second report on the patient before. No real person is behind any of it.
"""

import math
import random
import zlib
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from engine.keys import check_keys, key
from engine.sources.synthetic import noise, vocabulary
from engine.sources.synthetic.damage import KINDS, damage
from engine.sources.synthetic.draft import Case, Draft
from engine.sources.synthetic.styles import cumulative, styles_for

# Raised whenever the same settings give different records.
EDITION = 1
SPANS = pa.list_(pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())]))
# Evidence is every mention of the case's site or histology, in the order of the text. Words that merely imply the organ (a
# colectomy, thyroglobulin) and distractors that name another one are in no span.
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("record_id", "patient_id", "text", "site", "histology"), pa.string()),
        **dict.fromkeys(("evidence_site", "evidence_histology"), SPANS),
        **dict.fromkeys(("style", "facility", "split", "broken"), pa.string()),
    }
)
SKEWS = ("registry", "uniform")
# Records and words of a block at most, for a modest memory.
_BLOCK, _BLOCK_WORDS = 10_000, 10_000_000
METASTATIC = 0.08
# Below this many words a text is little more than its diagnosis; below this many it has no room for sections.
VERY_SHORT, SHORT = 25, 60
_NEVER_METASTATIC = frozenset({"lymphoma", "leukemia", "glioma"})

FACILITIES = (
    "Harrow Bend Medical Center",
    "St. Odile Regional Hospital",
    "Quarry Lake Cancer Institute",
    "Northmoor County Hospital",
    "Tamarind Coast Pathology Associates",
    "Eldervale University Hospital",
    "Hôpital Saint-Rémy-des-Tilleuls",
    "Clínica Río Ñandú",
    "Lindenfurt Städtische Klinik",
    "Blue Heron Community Laboratory",
    "Ashgrove Mercy Hospital",
    "Pine Hollow Veterans Clinic",
)


@dataclass(frozen=True)
class Settings:
    """The settings that a record depends on. `kinds` are the kinds of damage, in turn.

    Raises:
        ConfigError: a value outside its range.
    """

    seed: int = key(7, "Seed of the corpus; the same seed gives the same reports, however many are written.", low=0)
    median_words: float = key(120.0, "Median length of a report in words.", at="text.median_words", low=15, high=50_000)
    sigma: float = key(
        0.5, "Spread of the logarithm of the length; 0 makes all about equally long.", at="text.sigma", low=0, high=2
    )
    skew: str = key("registry", "How common the sites are: as in a cancer registry, or equally.", choices=SKEWS)
    broken: float = key(
        0.0, "Share of records to damage on purpose, in turn in every way that the format allows.", low=0, high=0.5
    )
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        check_keys(self)


def generate(
    records: int,
    seed: int,
    *,
    start: int = 0,
    median_words: float = 120,
    sigma: float = 0.5,
    skew: str = "registry",
    broken: float = 0.0,
) -> pa.Table:
    """Records `start` to `start + records` of a seed, in the columns of `SCHEMA`.

    Spans are half-open code-point offsets into `text`. With `broken` above 0 some texts are null or invalid UTF-8, without spans.
    """
    settings = Settings(seed, median_words, sigma, skew, broken)
    return pa.concat_tables([SCHEMA.empty_table(), *blocks(settings, start, start + records)])


def blocks(settings: Settings, start: int, stop: int) -> Iterator[pa.Table]:
    """Records `start` to `stop`, in tables of a moderate size."""
    size = max(1, min(_BLOCK, int(_BLOCK_WORDS / settings.median_words)))
    for at in range(start, stop, size):
        yield block(settings, at, min(size, stop - at))


def block(settings: Settings, start: int, records: int) -> pa.Table:
    """`records` records from `start` on, as one table."""
    rng = random.Random()
    return as_table((_record(settings, number, rng) for number in range(start, start + records)), SCHEMA)


def as_table(records: Iterable[tuple], schema: pa.Schema) -> pa.Table:
    """Records, at least one, with a value for each column."""
    arrays = [
        _texts(values) if field.name == "text" else _spans(values) if field.type == SPANS else pa.array(values, field.type)
        for field, values in zip(schema, zip(*records, strict=True), strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _record(settings: Settings, number: int, rng: random.Random) -> tuple:
    second = number % 8 == 7
    patient = number - second
    rng.seed(settings.seed << 64 | patient << 1)
    case = _case(settings, rng)
    if second:
        rng.seed(settings.seed << 64 | patient << 1 | 1)
    text, style, site_spans, histology_spans = _write(settings, case, rng)
    patient_id = f"pat-{settings.seed}-{patient:08d}"
    damaged = damage(settings.seed, number, settings.broken, settings.kinds, text)
    record_id = f"syn-{settings.seed}-{number - (damaged.kind == 'duplicate_id'):08d}"
    record_id = None if damaged.kind == "null_id" else record_id
    spans = (site_spans, histology_spans) if damaged.spans_hold else ([], [])
    codes, split = (case.site.code, case.histology), split_of(patient_id)
    return (record_id, patient_id, damaged.text, *codes, *spans, style, case.facility, split, damaged.kind)


def split_of(key: str) -> str:
    """The split by a hash of a key: 80 % train, 10 % valid, 10 % test."""
    part = zlib.crc32(key.encode()) % 100
    return "train" if part < 80 else "valid" if part < 90 else "test"


@cache
def _site_shares(skew: str) -> tuple[float, ...]:
    return cumulative([site.weight if skew == "registry" else 1.0 for site in vocabulary.sites()])


@cache
def _histology_shares(site: int) -> tuple[float, ...]:
    return cumulative(list(vocabulary.sites()[site].weights))


def _case(settings: Settings, rng: random.Random) -> Case:
    draw = rng.random
    at = bisect(_site_shares(settings.skew), draw())
    site = vocabulary.sites()[at]
    histology = site.histologies[bisect(_histology_shares(at), draw())]
    phrases = vocabulary.phrases_for(histology, site.code)
    sex = site.sexes[int(draw() * len(site.sexes))]
    side = ("left", "right")[int(draw() * 2)] if site.paired and draw() < 0.85 else ""
    facility = FACILITIES[int(draw() * len(FACILITIES))]
    spreads = site.group not in vocabulary.SYSTEMIC and phrases.family not in _NEVER_METASTATIC and histology.endswith("/3")
    return Case(site, histology, phrases, sex, side, facility, draw() < METASTATIC and spreads)


def _write(settings: Settings, case: Case, rng: random.Random) -> tuple[str, str, noise.Spans, noise.Spans]:
    words = settings.median_words * math.exp(settings.sigma * rng.gauss(0.0, 1.0))
    length = "very short" if words < VERY_SHORT else "short" if words < SHORT else "full"
    styles, shares = styles_for(length, case.metastatic)
    style = styles[bisect(shares, rng.random())]
    draft = Draft(case, rng, max(0.0, words - style.core), style.shares)
    draft.write(draft.pick(style.alternatives))
    pieces = noise.apply(style.noise, draft.pieces, {*draft.site_marks, *draft.histology_marks}, rng)
    text, (site_spans, histology_spans) = noise.join(pieces, draft.site_marks, draft.histology_marks)
    return text, style.name, site_spans, histology_spans


def _spans(rows: Sequence[noise.Spans]) -> pa.Array:
    offsets, starts, ends = [0], [], []
    for row in rows:
        for start, end in row:
            starts.append(start)
            ends.append(end)
        offsets.append(len(starts))
    values = pa.StructArray.from_arrays([pa.array(starts, pa.int32()), pa.array(ends, pa.int32())], fields=list(SPANS.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=SPANS)


def _texts(texts: Sequence[str | bytes | None]) -> pa.Array:
    if not any(isinstance(text, bytes) for text in texts):
        return pa.array(texts, pa.string())
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    # Unsafe on purpose: invalid UTF-8 is a kind of damage.
    return pa.array(raw, pa.binary()).cast(pa.string(), safe=False)
