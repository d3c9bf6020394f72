"""Planted evidence: synthetic reports whose class is decided by one remark, so that it is known what the evidence must show.

A report's class is drawn by its id, whatever its text; a remark of that class is then put somewhere into it. Site, histology and
every other word say nothing about the class, so a model that is right has read the remark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.records import seed_of
from engine.studies.explaining import Options, Text, Texts
from engine.studies.made import SPLITS, fit_on
from engine.studies.means import plain_mean, share
from engine.studies.planting import Look, Span, look, plant
from engine.studies.results import Measured, Row
from engine.studies.run import Model, Task
from engine.studies.settings import options
from engine.studies.site_classifier.shown import method_of, shown

TASK, AIM = "remark", 0.95
REMARKS: Mapping[str, tuple[str, ...]] = {
    "review": ("held for tumor board", "case set aside for discussion", "presented to all colleagues"),
    "sequencing": ("block sent for sequencing", "tissue forwarded to genomics", "material released for panel testing"),
    "opinion": ("second opinion was requested", "slides mailed to an expert", "external reading is awaited"),
    "unfixed": ("received without fixative", "container arrived dry", "tissue came fresh on ice"),
    "research": ("patient enrolled in a trial", "consented for the research bank", "sample taken for archive study"),
    "paperwork": ("requisition form was incomplete", "label lacked a birth date", "identifiers did not match"),
}


@dataclass(frozen=True)
class Sizes:
    """Settings `plant.<name>`: numbers of synthetic reports of train, valid and test, and their median length in words."""

    train_records: int = 900
    valid_records: int = 150
    records: int = 300
    median_words: float = 60.0

    def __post_init__(self) -> None:
        if min(self.train_records, self.valid_records, self.records) < len(REMARKS):
            raise ConfigError(f"plant: at least {len(REMARKS)} reports to train on and to explain, one for each class")


@dataclass(frozen=True)
class Case:
    """A report with its remark, and where that stands."""

    record_id: str
    patient_id: str
    text: str
    split: str
    remark: str
    span: Span


def fit(task: Task) -> Model:
    names, all_cases = ("record_id", "patient_id", "text", "split", TASK), _cases(task)
    table = pa.table({name: pa.array([getattr(case, name) for case in all_cases], pa.string()) for name in names})
    return fit_on(table, task, {"data.labels": {TASK: TASK}}, ("plant", "explain"))


def texts(task: Task, settings: Options) -> Texts:
    test = [case for case in _cases(task) if case.split == "test"]
    return Texts(
        [Text(case.record_id, case.patient_id, case.text, marks={case.remark: [case.span]}) for case in test], evenly=False
    )


def measure(model: Model, task: Task) -> Measured:
    """How often the evidence touches the remark; figures without `_all` are over the reports that were answered right."""
    settings = options(Options, task, "explain")
    test = texts(task, settings).texts[: settings.records or None]
    answers = shown(model, task, test)
    looks = [look(each, span) for each, text in zip(answers, test, strict=True) for (span,) in text.marks.values()]
    right = [each.code in text.marks for each, text in zip(answers, test, strict=True)]
    hits = pa.array([float(each.top) if good else None for each, good in zip(looks, right, strict=True)], pa.float64())
    names = {name: [getattr(text, name) for text in test] for name in ("record_id", "group")}
    return Measured(figures(looks, right, method_of(model, settings.method)), pa.table({**names, "top_span_hits": hits}))


def figures(looks: Sequence[Look], right: Sequence[bool], method: str) -> list[Row]:
    good = [each for each, is_right in zip(looks, right, strict=True) if is_right]
    hit = share("top_span_hits", [each.top for each in good], method)
    return [
        hit,
        share("top_span_hits_all", [each.top for each in looks]),
        plain_mean(
            "random_span_hits", [each.chance for each in good], "expected of a span of as many words anywhere in the report"
        ),
        share("top_span_holds_all_of_it", [each.whole for each in good]),
        share("any_span_hits", [each.any_span for each in good]),
        plain_mean("words_in_top_span", [float(each.words) for each in good]),
        share("accuracy", right),
        Row("aim_met", None if hit.value is None else float(hit.value >= AIM), n=len(good), note=f"aim: {AIM:.2f}"),
    ]


def cases(sizes: Sizes, seed: int) -> list[Case]:
    """The reports of all splits, each split from a seed of its own so that no patient is in two of them."""
    from engine.sources.synthetic import generate

    result = []
    for place, count in enumerate((sizes.train_records, sizes.valid_records, sizes.records)):
        table = generate(count, 3 * seed + place, median_words=sizes.median_words, sigma=0.3, skew="uniform")
        rows = table.select(["record_id", "patient_id", "text"]).to_pylist()
        result += [remarked(*row.values(), SPLITS[place], seed) for row in rows]
    return result


def remarked(record_id: str, patient_id: str, text: str, split: str, seed: int) -> Case:
    """A report with a remark of a class drawn by its id."""
    rng = np.random.default_rng(seed_of(record_id, "planted", seed))
    code = list(REMARKS)[int(rng.integers(len(REMARKS)))]
    remark = REMARKS[code][int(rng.integers(len(REMARKS[code])))]
    text, span = plant(text, remark, rng)
    return Case(record_id, patient_id, text, split, code, span)


_cached_cases = lru_cache(maxsize=1)(cases)


def _cases(task: Task) -> list[Case]:
    return _cached_cases(options(Sizes, task, "plant"), task.arm.seed)
