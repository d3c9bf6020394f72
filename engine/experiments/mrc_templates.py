"""Templates compared: hand-written, made by themselves, the name alone; and what a model makes of prompts not a type's own.

`auto_template` trains a model a template. An automatic one is the type's definition from an ontology table (`auto`) or its name
alone (`mentions`), with as many mentions from train as the longest hand-written one has room for; a name stays as short as it is.
The templates stand in `work/templates.json`, corpus by corpus and kind by kind; results say of them what is no corpus's text.
`alignment` trains one model on a corpus of several types, puts every type's prompt to texts of every type, and its types' other
wordings to the test texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.experiments.mrc import (
    Fitted,
    MrcRecipe,
    corpus_of,
    cost_of,
    fitted,
    gold_of,
    keep_found,
    kept_found,
    known_modes,
    less,
    measured,
    results_of,
    settings_of,
    use_threads,
)
from engine.experiments.run import Arm, Result, Say
from engine.models.prompt_mrc.automatic import automatic, definitions
from engine.models.prompt_mrc.build import pieces
from engine.models.prompt_mrc.config import HARD, HYBRID, NAME, STYLES, DataConfig
from engine.models.prompt_mrc.corpus import Corpus, members_of
from engine.models.prompt_mrc.infused import BUDGET, Infused, cut, pieces_of
from engine.models.prompt_mrc.templates import queries
from engine.records import seed_of
from engine.sources.labelled.splits import TEST
from engine.storage import whole_file

MANUAL, AUTO, MENTIONS = "manual", "auto", "mentions"
TEMPLATES = "templates.json"
# Where fewer texts have a type, its row of the matrix says so.
FEW = 10


@dataclass(frozen=True)
class AutoTemplateConfig(MrcRecipe):
    """Settings of `prompt_mrc/auto_template`. `ontology` is a CSV file with type and definition, `pkg:ontology` the one that
    comes along; without one no template has a definition, and there are no arms `auto`. Automatic ones have `examples` mentions
    at most. No template has more than `budget` word pieces. `modes` are hard, hybrid or both."""

    many_seeds: ClassVar[bool] = True
    modes: tuple[str, ...] = (HARD,)
    ontology: str | None = None
    examples: int = 12
    budget: int = BUDGET

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))
        if not set(self.modes) <= {HARD, HYBRID}:
            raise ConfigError("sizes.modes: only hard and hybrid prompts have templates")


class AutoTemplate:
    """See `engine.experiments.run.Experiment`: an arm a corpus, mode, template and seed."""

    name = "prompt_mrc/auto_template"

    def __init__(self, config: AutoTemplateConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        return [
            Arm(f"{corpus}-{mode}-{kind}-seed{seed}", seed)
            for corpus in self.config.corpora
            for seed in self.config.seeds
            for mode in self.config.modes
            for kind in (MANUAL, *([AUTO] if self.config.ontology else []), MENTIONS, NAME)
        ]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        corpus, mode, kind, _ = arm.name.rsplit("-", 3)
        made = self._templates(corpus, kind)
        texts = {each: template.text for each, template in made.items()}
        _keep(work / TEMPLATES, corpus, kind, texts)
        settings = settings_of(self.config, corpus, arm.seed, mode=mode, questions=texts)
        model = fitted(self.config, settings, work / arm.name, say)
        tokenizer = load_tokenizer(encoder_folder(self.config.encoder))
        longest = max(len(words) for words in pieces(tokenizer, list(texts.values())))
        found = measured(model, rounds=self.config.rounds)
        keep_found(work / arm.name, found)
        results = [*results_of(found), *cost_of(model), Result("longest_template", longest, note="word pieces")]
        if kind == MANUAL:
            return results
        if kind in (AUTO, MENTIONS):
            results += [Result(f"mentions_in:{each}", made[each].mentions, note=f"after '{made[each].head}'") for each in made]
        gold = gold_of(self.config, corpus)
        both = (kept_found(work / f"{corpus}-{mode}-{each}-seed{arm.seed}", gold) for each in (kind, MANUAL))
        return [*results, *less(f"{corpus}-{mode}-{MANUAL}", gold, *both, self.config.rounds)]

    def _templates(self, name: str, kind: str) -> dict[str, Infused]:
        """What stands in front of the text for each type.

        Raises:
            ConfigError: the ontology table cannot be read, or has none of the types.
        """
        corpus = corpus_of(DataConfig(**settings_of(self.config, name, 0)["data"]))
        tokenizer = load_tokenizer(encoder_folder(self.config.encoder))
        if kind in (AUTO, MENTIONS):
            use_threads(self.config)
            known = definitions(self.config.ontology, corpus.types, "data.ontology") if kind == AUTO else {}
            room = max(pieces_of(each.text, tokenizer) for each in self._templates(name, MANUAL).values())
            return automatic(corpus, self.config.encoder, known, most=self.config.examples, budget=room)
        mode, style = (NAME, NAME) if kind == NAME else (HARD, STYLES[2])
        texts = [cut(each, tokenizer, self.config.budget) for each in queries(corpus.types, mode, self.config.language, style)]
        return {each: Infused(text, text, 0) for each, text in zip(corpus.types, texts, strict=True)}


@dataclass(frozen=True)
class AlignmentConfig(MrcRecipe):
    """Settings of `prompt_mrc/alignment`: `records` texts of test that have a type are asked under every type's prompt;
    `wordings` of each type's template are tried."""

    corpora: tuple[str, ...] = ("BC5CDR",)
    records: int = 20
    wordings: tuple[int, ...] = (1, 2, 3, 4)
    mode: str = HYBRID

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "wordings", tuple(self.wordings))
        if self.mode not in (HARD, HYBRID) or self.records < 1 or not self.wordings:
            raise ConfigError("sizes: mode must be hard or hybrid, records and wordings at least 1")


class Alignment:
    """See `engine.experiments.run.Experiment`: an arm a corpus."""

    name = "prompt_mrc/alignment"

    def __init__(self, config: AlignmentConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        return [
            Arm(f"{corpus}-{what}", self.config.seeds[0]) for corpus in self.config.corpora for what in ("prompts", "wordings")
        ]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        corpus, _, what = arm.name.rpartition("-")
        settings = settings_of(self.config, corpus, arm.seed, mode=self.config.mode)
        model = fitted(self.config, settings, work / corpus, say)
        return self._prompts(model) if what == "prompts" else self._wordings(model)

    def _prompts(self, model: Fitted) -> list[Result]:
        """Share of a type's mentions that each type's prompt finds, in texts of test that have it; a prompt must find its own
        type's best. Texts of train would be found for having been learned."""
        types, shares, counts = model.learner.network.config.types, [], []
        for kind in types:
            members = self._having(model.corpus, kind)
            asked = {prompt: _spans_under(model, members, number) for number, prompt in enumerate(types)}
            marked = {
                (member, span.first, span.last)
                for member in members
                for span in model.learner.examples.spans[member]
                if types[span.type] == kind
            }
            counts.append(len(members))
            shares.append([len(marked & asked[prompt]) / len(marked) if marked else 0.0 for prompt in types])
        matrix, results = np.array(shares), []
        for row, kind in enumerate(types):
            few = f"only {counts[row]} texts of test have {kind}" if counts[row] < FEW else ""
            for column, prompt in enumerate(types):
                value = float(matrix[row, column]) if counts[row] else None
                results.append(Result(f"found:{kind}:by:{prompt}", value, n=counts[row], note=few if row == column else ""))
        # A type that no prompt finds, as one with a handful of mentions in train, says nothing of whose prompt finds it.
        seen = matrix.any(axis=1)
        best = float(own_is_best(matrix)[seen].mean()) if seen.any() else None
        note = "of types of which anything is found: the share whose own prompt finds more than any other type's"
        return [
            Result("own_prompt_is_best", best, n=int(seen.sum()), note=note),
            Result("types_found", int(seen.sum()), n=len(types)),
            *results,
        ]

    def _having(self, corpus: Corpus, kind: str) -> list[int]:
        """Texts of test with a type, chosen by their ids."""
        members = [
            member for member in members_of(corpus, TEST) if any(span.type == kind for span in corpus.documents[member].spans)
        ]
        return sorted(members, key=lambda member: seed_of(corpus.documents[member].record_id, "alignment"))[: self.config.records]

    def _wordings(self, model: Fitted) -> list[Result]:
        """F1 of the test texts under each wording, and how far apart they lie, over all types and for each."""
        network, results, found = model.learner.network, [], []
        by_type: dict[str, list[float]] = {}
        config, before = network.config, [list(each) for each in network.queries]
        tokenizer = load_tokenizer(encoder_folder(self.config.encoder))
        for version in self.config.wordings:
            asked = queries(config.types, config.mode, config.language, config.style, version)
            for number, words in enumerate(pieces(tokenizer, asked)):
                network.queries[number] = words
            figure = measured(model, rounds=self.config.rounds).figures
            found.append(figure["f1"] or 0.0)
            for kind in figure.types if len(config.types) > 1 else ():
                by_type.setdefault(kind, []).append(figure.values["f1", f"type={kind}"].value or 0.0)
            each = figure.values["f1", "all"]
            note = "the wording it was trained with" if version == config.version else ""
            results.append(Result(f"f1_wording_{version}", each.value, each.low, each.high, figure.mentions, note))
        network.queries[:] = before
        note = "best wording less worst"
        results += [Result(f"f1_spread:{kind}", max(each) - min(each), n=len(each)) for kind, each in sorted(by_type.items())]
        return [Result("f1_spread", max(found) - min(found), n=len(found), note=note), *results]


def _keep(file: Path, corpus: str, kind: str, texts: Mapping[str, str]) -> None:
    """Adds the templates of a kind to those that the file has."""
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    held.setdefault(corpus, {})[kind] = dict(texts)
    with whole_file(file) as part:
        part.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def own_is_best(matrix: NDArray) -> NDArray:
    """Of each row of shares [types, types] whether that of its own column is above all others; not where nothing is found."""
    others = np.where(np.eye(len(matrix), dtype=bool), 0.0, matrix)
    return matrix.diagonal() > others.max(axis=1)


def _spans_under(model: Fitted, members: Sequence[int], prompt: int) -> set[tuple[int, int, int]]:
    """(text, first word, last word) of what one prompt finds, whatever the type."""
    return {(each.text, each.first, each.last) for each in model.learner.predict(members, [prompt])}
