"""Nested decoding: one model, its spans of a type allowed to overlap or not, scored on mentions that lie within another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.evaluation.resample import share_interval
from engine.evaluation.spans import Mention
from engine.experiments.in_memory import by_record
from engine.experiments.mrc import MrcRecipe, cost_of, fitted, known_modes, measured, results_of, settings_of
from engine.experiments.run import Arm, Result, Say
from engine.models.prompt_mrc.config import HYBRID, NAME, TAGGER
from engine.models.prompt_mrc.corpus import marked_mentions, members_of
from engine.sources.labelled.splits import TEST

NESTED, FLAT = "nested", "flat"


@dataclass(frozen=True)
class NestedConfig(MrcRecipe):
    """Settings of `prompt_mrc/nested`; the tagger cannot nest, and is there to be compared."""

    corpora: tuple[str, ...] = ("cantemist",)
    language: str = "es"
    modes: tuple[str, ...] = (TAGGER, NAME, HYBRID)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))


class Nested:
    """See `engine.experiments.run.Experiment`: an arm a corpus, mode and decoding."""

    name = "prompt_mrc/nested"

    def __init__(self, config: NestedConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        return [
            Arm(f"{corpus}-{mode}-{how}", self.config.seeds[0])
            for corpus in self.config.corpora
            for mode in self.config.modes
            for how in ((FLAT,) if mode == TAGGER else (NESTED, FLAT))
        ]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        corpus, mode, how = arm.name.rsplit("-", 2)
        settings = settings_of(self.config, corpus, arm.seed, mode=mode, nested=how == NESTED)
        # One model for both ways, each with thresholds of its own.
        model = fitted(self.config, settings, work / f"{corpus}-{mode}", say)
        found = measured(model, rounds=self.config.rounds)
        gold = marked_mentions(model.corpus, members_of(model.corpus, TEST), model.corpus.types)
        return [*results_of(found), *pairs(gold, by_record(found.found, list(gold))), *cost_of(model)]


def pairs(gold: Mapping[str, Sequence[Mention]], said: Mapping[str, Sequence[Mention]]) -> list[Result]:
    """Of marked mentions that lie within another marked one: how many are found, their outer ones, and both of a pair."""
    inner, outer, both = [], [], []
    for record_id, mentions in gold.items():
        found = set(said[record_id])
        for one in mentions:
            for other in mentions:
                if one != other and other[0] <= one[0] and one[1] <= other[1] and one[1] - one[0] < other[1] - other[0]:
                    inner.append(one in found)
                    outer.append(other in found)
                    both.append(one in found and other in found)
    note = "marked mentions that lie within another one, pair by pair"
    return [_share("nested_inner_found", inner, note), _share("nested_outer_found", outer), _share("nested_both_found", both)]


def _share(metric: str, hits: Sequence[bool], note: str = "") -> Result:
    """The share of hits with its exact interval; no value where there is nothing to count."""
    if not len(hits):
        return Result(metric, None, n=0, note=note)
    low, high = share_interval(sum(hits), len(hits))
    return Result(metric, sum(hits) / len(hits), low, high, len(hits), note)
