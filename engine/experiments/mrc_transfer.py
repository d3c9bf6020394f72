"""Corpora that a model was never trained on: its answers there beside those of a model trained there.

The first corpus is the source. `pairs` name targets as `<corpus>:<type there>=<type of the source>`. An arm `<mode>-on-<corpus>`
asks for the source's type and takes its answers for the target's; an arm `<mode>-asked-<corpus>` puts the target type's own
question to the source's model, which is what a prompt can and a tagger cannot; where the types have the same names it would be
the same question, and there is no such arm. `<mode>-in-<corpus>` is trained on the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.experiments.in_memory import by_record, outcome
from engine.experiments.mrc import (
    Fitted,
    MrcRecipe,
    corpus_of,
    cost_of,
    fitted,
    keep_found,
    kept_found,
    known_modes,
    measured,
    on_other,
    results_of,
    settings_of,
)
from engine.experiments.run import Arm, Result, Say
from engine.experiments.significance import difference
from engine.models.prompt_mrc.build import pieces
from engine.models.prompt_mrc.config import HARD, HYBRID, TAGGER, DataConfig
from engine.models.prompt_mrc.corpus import Corpus, marked_mentions, members_of
from engine.models.prompt_mrc.templates import queries
from engine.sources.labelled.splits import TEST

SOURCE, ASKED = "source", "asked"


@dataclass(frozen=True)
class TransferConfig(MrcRecipe):
    """Settings of `prompt_mrc/zero_shot_transfer`; the first of `corpora` is the source."""

    many_corpora: ClassVar[bool] = False
    corpora: tuple[str, ...] = ("BC5CDR",)
    pairs: tuple[str, ...] = ("NCBI-disease:Disease=Disease", "BioNLP13CG:Simple_chemical=Chemical", "BioNLP13CG:Cancer=Disease")
    modes: tuple[str, ...] = (TAGGER, HARD, HYBRID)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))
        object.__setattr__(self, "pairs", tuple(self.pairs))
        if not self.targets() or self.corpora[0] in self.targets():
            raise ConfigError("sizes.pairs: name a target that is not the source, as corpus:type=type of the source")

    def targets(self) -> dict[str, dict[str, str]]:
        """Corpus -> its type -> the source's."""
        found: dict[str, dict[str, str]] = {}
        for pair in self.pairs:
            corpus, colon, types = pair.partition(":")
            theirs, equals, ours = types.partition("=")
            if not (corpus and colon and theirs and equals and ours):
                raise ConfigError(f"sizes.pairs: '{pair}' is not of the form corpus:type=type of the source")
            found.setdefault(corpus, {})[theirs] = ours
        return found


class Transfer:
    """See `engine.experiments.run.Experiment`."""

    name = "prompt_mrc/zero_shot_transfer"

    def __init__(self, config: TransferConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        found, seed = [], self.config.seeds[0]
        for mode in self.config.modes:
            found.append(Arm(f"{mode}-{SOURCE}", seed))
            for corpus in self._targets:
                found.append(Arm(f"{mode}-in-{corpus}", seed))
                found.append(Arm(f"{mode}-on-{corpus}", seed))
                renamed = any(theirs != ours for theirs, ours in self._targets[corpus].items())
                if mode in (HARD, HYBRID) and renamed:
                    found.append(Arm(f"{mode}-{ASKED}-{corpus}", seed))
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        mode, how, corpus = [*arm.name.split("-", 2), ""][:3]
        if how == SOURCE:
            model = self._source(mode, work, say)
            return [*results_of(measured(model, rounds=self.config.rounds)), *cost_of(model)]
        if how == "in":
            types = tuple(self._targets[corpus])
            model = fitted(self.config, settings_of(self.config, corpus, arm.seed, mode=mode, types=types), work / arm.name, say)
            found = measured(model, rounds=self.config.rounds)
            keep_found(work / arm.name, found)
            return [*results_of(found), *cost_of(model)]
        model = self._source(mode, work, say)
        mapped = self._targets[corpus] if how == "on" else {name: name for name in self._targets[corpus]}
        if how == ASKED:
            self._ask(model, list(mapped))
        settings = settings_of(self.config, corpus, arm.seed, types=tuple(self._targets[corpus]))
        target = _renamed(corpus_of(DataConfig(**settings["data"])), mapped)
        found = outcome(on_other(model, settings, target), target, TEST, self.config.rounds)
        gold = marked_mentions(target, members_of(target, TEST), target.types)
        there = {
            name: [(start, end, mapped[kind]) for start, end, kind in mentions]
            for name, mentions in kept_found(work / f"{mode}-in-{corpus}", gold).items()
        }
        lost, p = difference(gold, there, by_record(found.found, list(gold)), "", self.config.rounds)
        note = "F1 of the model trained on the corpus, less this: interval and p over texts"
        told = [Result("f1_lost", lost.value, lost.low, lost.high, len(gold), note), Result("f1_lost_p", p, n=len(gold))]
        return [*results_of(found), *told]

    @cached_property
    def _targets(self) -> Mapping[str, Mapping[str, str]]:
        return self.config.targets()

    def _source(self, mode: str, work: Path, say: Say) -> Fitted:
        settings = settings_of(self.config, self.config.corpora[0], self.config.seeds[0], mode=mode)
        return fitted(self.config, settings, work / f"{mode}-{SOURCE}", say)

    def _ask(self, model: Fitted, types: Sequence[str]) -> None:
        """Gives the network the questions of types that it was not trained for."""
        network, tokenizer = model.learner.network, load_tokenizer(encoder_folder(self.config.encoder))
        config, new = network.config, [name for name in types if name not in network.config.types]
        asked = queries(new, config.mode, config.language, config.style, config.version)
        for words in pieces(tokenizer, asked) if new else ():
            network.ask_anew(len(network.queries), words)
        network.config = replace(config, types=(*config.types, *new), queries=(*config.queries, *asked))


def _renamed(corpus: Corpus, types: Mapping[str, str]) -> Corpus:
    """The corpus with its types called as the source calls them; spans of other types are left out."""
    documents = [
        replace(each, spans=tuple(replace(span, type=types[span.type]) for span in each.spans if span.type in types))
        for each in corpus.documents
    ]
    names = tuple(sorted(set(types.values())))
    return replace(corpus, documents=documents, types=names, marked={each: frozenset(names) for each in corpus.marked})
