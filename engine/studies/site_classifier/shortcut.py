"""A shortcut: a stamp that in training stands mostly on the reports of one site, and what the evidence says of it.

One model learns the sites of synthetic reports with the stamp, another one those of the same reports without it. Then the stamp
is put on test reports: an answer that it turns to the stamped site has the stamp as its reason, and the evidence must say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.records import seed_of
from engine.studies.explaining import Options, Text, Texts
from engine.studies.made import SPLITS, fit_on
from engine.studies.means import plain_mean, share
from engine.studies.planting import Shown, Span, look, stamp
from engine.studies.results import Measured, Row
from engine.studies.run import Model, Task
from engine.studies.settings import options
from engine.studies.site_classifier.shown import NONE, method_of, shown

TASK = "site"
_BLOCK = 2000


@dataclass(frozen=True)
class Stamps:
    """Settings `stamp.<name>`.

    The first three count synthetic reports of `sites`. `share` of the reports of the site `site`, and `elsewhere` of all others,
    carry the stamp `words` in training and validation. There `relabelled` of the reports of other sites are coded as that site
    whatever they say, as by a unit whose forms have that code preset: where the text always tells the code nobody needs a stamp,
    and no model learns one. Reports of test keep their code.
    """

    train_records: int = 700
    valid_records: int = 140
    records: int = 350
    median_words: float = 60.0
    sites: tuple[str, ...] = ("C18", "C34", "C50", "C61", "C64", "C67", "C73")
    site: str = "C67"
    words: str = "SCANNED BY UNIT 7"
    share: float = 0.9
    elsewhere: float = 0.01
    relabelled: float = 0.2

    def __post_init__(self) -> None:
        if self.site not in self.sites or len(self.sites) < 2:
            raise ConfigError("stamp.site: name one of the sites, and another site beside it")
        if not all(0 <= share <= 1 for share in (self.elsewhere, self.share, self.relabelled)) or not self.words.strip():
            raise ConfigError("stamp: share, elsewhere and relabelled are shares from 0 to 1; the stamp must have words")
        if min(self.train_records, self.valid_records, self.records) < 1:
            raise ConfigError("stamp: at least one report to train on and to explain")


@dataclass(frozen=True)
class Report:
    """A synthetic report as the generator made it, with the code that it is given."""

    record_id: str
    patient_id: str
    text: str
    site: str
    split: str


def fit(task: Task) -> Model:
    stamps, all_reports = options(Stamps, task, "stamp"), _reports(task)
    columns = {"text": [_seen(report, stamps, task.arm.seed) for report in all_reports]}
    columns |= {name: [getattr(report, name) for report in all_reports] for name in ("record_id", "patient_id", "split", "site")}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return fit_on(table, task, {"data.labels": {TASK: "site"}}, ("stamp", "explain"))


def texts(task: Task, settings: Options) -> Texts:
    """The reports of test with the stamp on each of them."""
    words, stamped = options(Stamps, task, "stamp").words, []
    for report in (each for each in _reports(task) if each.split == "test"):
        text, span = stamp(report.text, words, _rng(report, "place", task.arm.seed))
        stamped.append(Text(report.record_id, report.patient_id, text, marks={report.site: [span]}))
    return Texts(stamped, evenly=False)


def measure(model: Model, task: Task) -> Measured:
    """Which answers the stamp turns, and whether the evidence of these answers stands on it."""
    settings, site = options(Options, task, "explain"), options(Stamps, task, "stamp").site
    stamped, test = texts(task, settings).texts, [report for report in _reports(task) if report.split == "test"]
    plain = [Text(report.record_id, report.patient_id, report.text) for report in test]
    bare = [each.code for each in shown(model, task, plain, NONE)]
    spans = [span for text in stamped for (span,) in text.marks.values()]
    under = shown(model, task, stamped)
    return Measured(figures([report.site for report in test], bare, under, spans, site, method_of(model, settings.method)))


def figures(
    sites: Sequence[str], bare: Sequence[str], under: Sequence[Shown], spans: Sequence[Span], stamped: str, method: str
) -> list[Row]:
    """The figures of one model and method.

    Args:
        sites: of the test reports. bare: the model's answers to them. under: its answers with the stamp on each of them, and the
            evidence. spans: where the stamp stands.
    """
    rows = list(zip(sites, bare, under, [look(each, span) for each, span in zip(under, spans, strict=True)], strict=True))
    # Only an answer that was another one before can be turned.
    others = [(after, evidence) for site, before, after, evidence in rows if site != stamped and before != stamped]
    turned = [evidence for after, evidence in others if after.code == stamped]
    unturned = [evidence for after, evidence in others if after.code != stamped]
    already = [evidence for site, _, after, evidence in rows if site == stamped and after.code == stamped]
    return [
        share("accuracy", [site == before for site, before, _, _ in rows], "without the stamp"),
        share("turned_by_stamp", [after.code == stamped for after, _ in others], "test reports of other sites"),
        share("turned_top_span_hits", [evidence.top for evidence in turned], method),
        share("turned_any_span_hits", [evidence.any_span for evidence in turned]),
        plain_mean("turned_random_hits", [evidence.chance for evidence in turned]),
        share(
            "own_top_span_hits", [evidence.top for evidence in already], "reports of the stamped site, stamped and answered right"
        ),
        share("own_any_span_hits", [evidence.any_span for evidence in already]),
        plain_mean("own_random_hits", [evidence.chance for evidence in already]),
        share(
            "kept_top_span_hits", [evidence.top for evidence in unturned], "stamped reports of other sites whose answer stayed"
        ),
    ]


def reports(stamps: Stamps, seed: int) -> list[Report]:
    """Reports of the chosen sites, each split from a seed of its own so that no patient is in two of them."""
    from engine.sources.synthetic import generate, vocabulary

    unknown = sorted(set(stamps.sites) - {site.code for site in vocabulary.sites()})
    if unknown:
        raise ConfigError(f"stamp.sites: synthetic reports have no site '{unknown[0]}'")
    result = []
    for place, wanted in enumerate((stamps.train_records, stamps.valid_records, stamps.records)):
        of_split, at = list[Report](), 0
        while len(of_split) < wanted:
            block = generate(_BLOCK, 3 * seed + place, start=at, median_words=stamps.median_words, sigma=0.3, skew="uniform")
            of_split += [
                Report(row["record_id"], row["patient_id"], row["text"], _site(row, SPLITS[place], stamps, seed), SPLITS[place])
                for row in block.to_pylist()
                if row["site"] in stamps.sites
            ]
            at += _BLOCK
        result += of_split[:wanted]
    return result


def _site(row: Mapping[str, Any], split: str, stamps: Stamps, seed: int) -> str:
    """The code that a report is given."""
    draw = np.random.default_rng(seed_of(row["record_id"], "relabelled", seed)).random()
    return stamps.site if split != "test" and draw < stamps.relabelled else row["site"]


def _seen(report: Report, stamps: Stamps, seed: int) -> str:
    """The text that the model learns from; test reports stay as they are."""
    wanted = stamps.share if report.site == stamps.site else stamps.elsewhere
    if report.split == "test" or _rng(report, "stamped", seed).random() >= wanted:
        return report.text
    return stamp(report.text, stamps.words, _rng(report, "place", seed))[0]


def _rng(report: Report, purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(seed_of(report.record_id, purpose, seed))


_cached_reports = lru_cache(maxsize=1)(reports)


def _reports(task: Task) -> list[Report]:
    return _cached_reports(options(Stamps, task, "stamp"), task.arm.seed)
