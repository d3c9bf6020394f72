"""Soft prompts as plug-ins: one encoder with its heads, learned on the first corpus; for every corpus prompts of its own.

The base learns with templates alone, so that every number of soft vectors starts afresh. An arm `<corpus>-m<m>` trains m shared
vectors and those of the corpus's types, encoder and heads frozen; `<corpus>-m0` has none and trains nothing, the base with the
corpus's templates: what prompts add is what lies above it (`f1_less`). An arm `swap-m<m>-<own>-on-<corpus>` reads a corpus with
the prompts of another one that has a type of the same name, and is held against the corpus's own: `<corpus>-m<m>`, whose tuned
thresholds it takes, so that prompts alone differ, as they do where the product exchanges them. In an arm `<corpus>-deep<m>` every
layer of the encoder has m shared vectors, and those of the types, for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.experiments.in_memory import by_record, outcome
from engine.experiments.mrc import (
    Fitted,
    MrcRecipe,
    corpus_of,
    cost_of,
    fitted,
    gold_of,
    keep_found,
    kept_found,
    less,
    measured,
    on_other,
    results_of,
    settings_of,
    untrained,
)
from engine.experiments.run import Arm, Result, Say
from engine.models.prompt_mrc.config import HARD, HYBRID, DataConfig
from engine.models.prompt_mrc.corpus import marked_mentions, members_of
from engine.sources.labelled.splits import TEST

BASE = "base"


@dataclass(frozen=True)
class PlugAndPlayConfig(MrcRecipe):
    """Settings of `prompt_mrc/plug_and_play`: `numbers` of shared vectors, `deep_numbers` of those that every layer has, and how
    prompts alone are trained."""

    corpora: tuple[str, ...] = ("NCBI-disease", "BC5CDR", "AnatEM")
    numbers: tuple[int, ...] = (5, 10, 20, 50)
    deep_numbers: tuple[int, ...] = (5,)
    prompt_epochs: float = 4.0
    prompt_rate: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("numbers", "deep_numbers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.corpora) < 2 or not self.numbers or min(*self.numbers, *self.deep_numbers, 1) < 1:
            raise ConfigError("data.corpora: two at least, the first for the encoder; sizes.numbers, deep_numbers: 1 or more")


class PlugAndPlay:
    """See `engine.experiments.run.Experiment`."""

    name = "prompt_mrc/plug_and_play"

    def __init__(self, config: PlugAndPlayConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        seed, found = self.config.seeds[0], [Arm(BASE, self.config.seeds[0])]
        found += [Arm(f"{corpus}-m0", seed) for corpus in self.config.corpora]
        for number in self.config.numbers:
            found += [Arm(f"{corpus}-m{number}", seed) for corpus in self.config.corpora]
            for own, other in permutations(self.config.corpora, 2):
                if self._common(own, other):
                    found.append(Arm(f"swap-m{number}-{own}-on-{other}", seed))
        for number in self.config.deep_numbers:
            found += [Arm(f"{corpus}-deep{number}", seed) for corpus in self.config.corpora]
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        if arm.name == BASE:
            model = self._base(work, say)
            return [*results_of(measured(model, rounds=self.config.rounds)), *cost_of(model)]
        if not arm.name.startswith("swap-"):
            corpus, _, kind = arm.name.rpartition("-")
            if kind == "m0":
                found = untrained(self.config, self._settings(corpus, HARD, work))
                keep_found(work / arm.name, found)
                return [*results_of(found), Result("trained_parameters", 0, note="thresholds alone are set, on valid")]
            model = self._prompts(corpus, kind, work, say)
            found = measured(model, rounds=self.config.rounds)
            keep_found(work / arm.name, found)
            gold = gold_of(self.config, corpus)
            both = (kept_found(work / f"{corpus}-{each}", gold) for each in (kind, "m0"))
            return [*results_of(found), *cost_of(model), *less(f"{corpus}-m0", gold, *both, self.config.rounds)]
        kind, _, pair = arm.name.removeprefix("swap-").partition("-")
        own, _, other = pair.partition("-on-")
        model = self._prompts(own, kind, work, say)
        settings = settings_of(self.config, other, arm.seed, types=self._common(own, other))
        target = corpus_of(DataConfig(**settings["data"]))
        decoding = self._prompts(other, kind, work, say).learner.decoding
        found = outcome(on_other(model, settings, target, decoding), target, rounds=self.config.rounds)
        gold = marked_mentions(target, members_of(target, TEST), target.types)
        theirs = {
            name: [each for each in mentions if each[2] in target.types]
            for name, mentions in kept_found(work / f"{other}-{kind}", gold).items()
        }
        swapped = by_record(found.found, list(gold))
        return [*results_of(found), *less(f"{other}-{kind}", gold, swapped, theirs, self.config.rounds)]

    def _base(self, work: Path, say: Say) -> Fitted:
        seed = self.config.seeds[0]
        model = fitted(self.config, settings_of(self.config, self.config.corpora[0], seed, mode=HARD), work / BASE, say)
        if not (work / BASE / "model" / "digest.json").is_file():
            model.save(work / BASE / "model")
        return model

    def _prompts(self, corpus: str, kind: str, work: Path, say: Say) -> Fitted:
        deep = kind.startswith("deep")
        number = int(kind.removeprefix("deep" if deep else "m"))
        settings = self._settings(corpus, HYBRID, work, shared_soft=number, deep=deep)
        return fitted(self.config, settings, work / f"{corpus}-{kind}", say, self.config.prompt_rate, self.config.prompt_epochs)

    def _settings(self, corpus: str, mode: str, work: Path, **changes: Any) -> dict[str, Any]:
        """Of a model on the base, whose encoder and heads stay as they are."""
        changes |= {"mode": mode, "base": str(work / BASE / "model"), "freeze_encoder": True, "freeze_heads": True}
        return settings_of(self.config, corpus, self.config.seeds[0], **changes)

    def _common(self, own: str, other: str) -> tuple[str, ...]:
        """Types that two corpora both have."""
        first, second = (corpus_of(DataConfig(**settings_of(self.config, each, 0)["data"])).types for each in (own, other))
        return tuple(sorted(set(first) & set(second)))
