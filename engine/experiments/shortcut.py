"""A shortcut: a stamp that in training stands mostly on the reports of one site, and what the evidence says of it.

Two models learn the sites of the same synthetic reports, one from reports with the stamp and one without it. Then the stamp is
put on test reports: an answer that it turns to the stamped site has the stamp as its reason, and the evidence must say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.experiments import trained
from engine.experiments.planting import look, mean, share, stamp
from engine.experiments.run import Arm, Result, Say
from engine.experiments.trained import DEFAULT, Recipe, Shown, Span
from engine.models.run import records_of
from engine.records import seed_of

TASK = "site"
MODELS = ("stamped", "clean")
_BLOCK = 2000


@dataclass(frozen=True)
class ShortcutConfig(Recipe):
    """Settings of `explain/shortcut`.

    The first three count synthetic reports of `sites`, `records` those that are explained. `share` of the reports of the site
    `stamped`, and `elsewhere` of all others, carry the stamp in training and validation. There `relabelled` of the reports of
    other sites are coded as the stamped one whatever they say, as by a unit whose forms have that code preset: where the text
    always tells the code nobody needs a stamp, and no model learns one. Reports of test keep their code.
    """

    train_records: int = 700
    valid_records: int = 140
    records: int = 350
    median_words: float = 60.0
    sites: tuple[str, ...] = ("C18", "C34", "C50", "C61", "C64", "C67", "C73")
    stamped: str = "C67"
    stamp: str = "SCANNED BY UNIT 7"
    share: float = 0.9
    elsewhere: float = 0.01
    relabelled: float = 0.2
    epochs: float = 3.0
    methods: tuple[str, ...] = (DEFAULT, "attnlrp", "gradient_x_input")

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", trained.known_methods(self.methods))
        object.__setattr__(self, "sites", tuple(self.sites))
        if self.stamped not in self.sites or len(self.sites) < 2:
            raise ConfigError("stamped: name one of the sites, and another site beside it")
        if not all(0 <= share <= 1 for share in (self.elsewhere, self.share, self.relabelled)) or not self.stamp.strip():
            raise ConfigError("share, elsewhere and relabelled are shares from 0 to 1; the stamp must have words")
        if min(self.train_records, self.valid_records, self.records) < 1:
            raise ConfigError("sizes: at least one report to train on and to explain")


@dataclass(frozen=True)
class Report:
    """A synthetic report as the generator made it."""

    record_id: str
    patient_id: str
    text: str
    site: str
    split: str


class Shortcut:
    """See `engine.experiments.run.Experiment`: an arm a model and method, on the same test reports."""

    name = "explain/shortcut"

    def __init__(self, config: ShortcutConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        return [Arm(f"{model}-{method}", self.config.seed) for method in self.config.methods for model in MODELS]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        model, _, method = arm.name.partition("-")
        folder = self._trained(model, work, say)
        test = [report for report in self._made if report.split == "test"]
        marked = [stamp(report.text, self.config.stamp, self._rng(report, "place")) for report in test]
        names = [report.record_id for report in test]
        bare = trained.shown(folder, TASK, records_of(names, [report.text for report in test]), "none")
        under = trained.shown(folder, TASK, records_of(names, [text for text, _ in marked]), method)
        spans = [span for _, span in marked]
        sites = [report.site for report in test]
        return results(sites, [each.code for each in bare], under, spans, self.config.stamped, trained.method_of(folder, method))

    @cached_property
    def _made(self) -> list[Report]:
        return reports(self.config)

    def _trained(self, model: str, work: Path, say: Say) -> Path:
        made = self._made
        texts = [self._seen(report) if model == "stamped" else report.text for report in made]
        file, folder = work / f"{model}.parquet", work / model
        columns = ("record_id", "patient_id", "split", "site")
        trained.write_examples(file, {"text": texts, **{name: [getattr(report, name) for report in made] for name in columns}})
        command = f"python -m jobs.experiment experiment={self.name}"
        trained.train(self.config, {"path": str(file), "labels": {TASK: "site"}}, folder, command, say)
        return folder

    def _seen(self, report: Report) -> str:
        """The text that the stamped model learns from; test reports stay as they are."""
        wanted = self.config.share if report.site == self.config.stamped else self.config.elsewhere
        if report.split == "test" or self._rng(report, "stamped").random() >= wanted:
            return report.text
        return stamp(report.text, self.config.stamp, self._rng(report, "place"))[0]

    def _rng(self, report: Report, purpose: str) -> np.random.Generator:
        return np.random.default_rng(seed_of(report.record_id, purpose, self.config.seed))


def reports(config: ShortcutConfig) -> list[Report]:
    """Reports of the chosen sites, each split from a seed of its own so that no patient is in two of them."""
    from engine.sources.synthetic import generate, vocabulary

    unknown = sorted(set(config.sites) - {site.code for site in vocabulary.sites()})
    if unknown:
        raise ConfigError(f"sites: synthetic reports have no site '{unknown[0]}'")
    found = []
    counts = {"train": config.train_records, "valid": config.valid_records, "test": config.records}
    for place, (split, wanted) in enumerate(counts.items()):
        seed, mine, at = 3 * config.seed + place, [], 0
        while len(mine) < wanted:
            block = generate(_BLOCK, seed, start=at, median_words=config.median_words, sigma=0.3, skew="uniform")
            mine += [
                Report(row["record_id"], row["patient_id"], row["text"], _site(row, split, config), split)
                for row in block.to_pylist()
                if row["site"] in config.sites
            ]
            at += _BLOCK
        found += mine[:wanted]
    return found


def _site(row: Mapping[str, Any], split: str, config: ShortcutConfig) -> str:
    """The code that a report is given."""
    draw = np.random.default_rng(seed_of(row["record_id"], "relabelled", config.seed)).random()
    return config.stamped if split != "test" and draw < config.relabelled else row["site"]


def results(
    sites: Sequence[str], bare: Sequence[str], under: Sequence[Shown], spans: Sequence[Span], stamped: str, method: str
) -> list[Result]:
    """The figures of one model and method.

    Args:
        sites: of the test reports. bare: the model's answers to them. under: its answers with the stamp on each of them, and the
            evidence. spans: where the stamp stands.
    """
    rows = list(zip(sites, bare, under, [look(each, span) for each, span in zip(under, spans, strict=True)], strict=True))
    # Only an answer that was another one before can be turned.
    others = [(after, seen) for site, before, after, seen in rows if site != stamped and before != stamped]
    flipped = [seen for after, seen in others if after.code == stamped]
    kept = [seen for after, seen in others if after.code != stamped]
    own = [seen for site, _, after, seen in rows if site == stamped and after.code == stamped]
    return [
        share("accuracy", [site == before for site, before, _, _ in rows], "without the stamp"),
        share("turned_by_stamp", [after.code == stamped for after, _ in others], "test reports of other sites"),
        share("turned_top_span_hits", [seen.top for seen in flipped], method),
        share("turned_any_span_hits", [seen.some for seen in flipped]),
        mean("turned_random_hits", [seen.chance for seen in flipped]),
        share("own_top_span_hits", [seen.top for seen in own], "reports of the stamped site, stamped and answered right"),
        share("own_any_span_hits", [seen.some for seen in own]),
        mean("own_random_hits", [seen.chance for seen in own]),
        share("kept_top_span_hits", [seen.top for seen in kept], "stamped reports of other sites whose answer stayed"),
    ]
