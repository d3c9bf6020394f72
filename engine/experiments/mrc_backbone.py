"""The domain gap: an encoder as it is, the same one adapted by masked words to texts of the domain, and others by name.

`texts` are Parquet files whose texts adapt the encoder: a column `tokens` (joined by blanks), `sentences` (joined) or `text`.
Rows that are tested on are left out: those of test, or of valid in a file without test. Encoders by name are `data.encoders`;
an arm whose encoder is not here or cannot be used says why, and the others go on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from engine.encoders import attention_for
from engine.errors import ConfigError
from engine.experiments.masked_words import AdaptConfig, adapt
from engine.experiments.mrc import (
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
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.config import HYBRID, TAGGER, DataConfig, MrcConfig
from engine.models.prompt_mrc.templates import queries
from engine.sources.parquet import read_table

PLAIN, ADAPTED = "plain", "adapted"
_NOT_BEFORE = "it does not say what the encoder knew"


@dataclass(frozen=True)
class BackboneConfig(MrcRecipe):
    """Settings of `prompt_mrc/backbone`. `most_texts` are taken of `texts`, chosen by their hash; `adapt_epochs` over them."""

    modes: tuple[str, ...] = (TAGGER, HYBRID)
    texts: tuple[str, ...] = ()
    most_texts: int = 20000
    adapt_epochs: float = 2.0
    adapt_rate: float = 1e-4
    encoders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))
        for name in ("texts", "encoders"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.most_texts < 1:
            raise ConfigError("sizes.most_texts: at least 1")


class Backbone:
    """See `engine.experiments.run.Experiment`: an arm a corpus, encoder and mode, and one for the adapting."""

    name = "prompt_mrc/backbone"

    def __init__(self, config: BackboneConfig) -> None:
        if not config.texts and not config.encoders:
            raise ConfigError(
                "data.texts: name Parquet files whose texts adapt the encoder, or further encoders in data.encoders; "
                "without either there is nothing to compare"
            )
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        seed, kinds = self.config.seeds[0], [PLAIN, *([ADAPTED] if self.config.texts else [])]
        kinds += [f"encoder{number}" for number in range(len(self.config.encoders))]
        found = [Arm("adapting", seed)] if self.config.texts else []
        for corpus in self.config.corpora:
            found += [Arm(f"{corpus}-{kind}-{mode}", seed) for mode in self.config.modes for kind in kinds]
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        if arm.name == "adapting":
            figures = self._adapted(work, say)
            told = {"loss_after": "mean loss of a hidden token on held-back texts"}
            told["loss_of_new_head"] = f"the same before training, with a head that has learned nothing; {_NOT_BEFORE}"
            return [Result(name, value, note=told.get(name, "")) for name, value in figures.items()]
        corpus, kind, mode = arm.name.rsplit("-", 2)
        encoder = self.config.encoder
        if kind == ADAPTED:
            self._adapted(work, say)
            encoder = f"path:{(work / ADAPTED).resolve()}"
        elif kind != PLAIN:
            encoder = self.config.encoders[int(kind.removeprefix("encoder"))]
        settings = settings_of(self.config, corpus, arm.seed, mode=mode, encoder=encoder)
        if kind not in (PLAIN, ADAPTED):
            reason = unusable(settings)
            if reason:
                say(f"not run: {reason}")
                return [Result("not_run", None, note=reason)]
        model = fitted(self.config, settings, work / arm.name, say)
        found = measured(model, rounds=self.config.rounds)
        keep_found(work / arm.name, found)
        results = [*results_of(found), *cost_of(model)]
        if kind != PLAIN:
            gold = gold_of(self.config, corpus)
            both = (kept_found(work / f"{corpus}-{each}-{mode}", gold) for each in (kind, PLAIN))
            results += less(f"{corpus}-{PLAIN}-{mode}", gold, *both, self.config.rounds)
        return results if kind in (PLAIN, ADAPTED) else [*results, Result("encoder", None, note=encoder)]

    def _adapted(self, work: Path, say: Say) -> Mapping[str, float]:
        use_threads(self.config)
        config = AdaptConfig(
            self.config.encoder, epochs=self.config.adapt_epochs, rate=self.config.adapt_rate, seed=self.config.seeds[0]
        )
        texts = domain_texts(self.config.texts, self.config.most_texts)
        return adapt(config, texts, work / ADAPTED, work / "adapting", say, torch.device(self.config.device))


def unusable(settings: Mapping[str, Any]) -> str | None:
    """Why no network can be built on the encoder that some settings name; None where one can.

    Raises:
        ConfigError: it is not for the encoder's sake.
    """
    corpus = corpus_of(DataConfig(**settings["data"]))
    config = MrcConfig(types=corpus.types, seed=settings["seed"], **settings["model"])
    if config.is_hard:
        # A type without a template is no fault of the encoder.
        queries(config.types, config.mode, config.language, config.style, config.version)
    try:
        new_network(completed(config), torch.float32, attention_for("cpu"))
    except ConfigError as error:
        return str(error)
    return None


def domain_texts(files: Sequence[str], most: int) -> list[str]:
    """Distinct texts of some Parquet files, rows to be tested on left out, the first `most` by their hash.

    Raises:
        ConfigError: a file cannot be read, or has no texts in a column of a usual name.
    """
    found: set[str] = set()
    for file in files:
        table = read_table(file, f"data.texts: {file} cannot be read as Parquet")
        column = next((name for name in ("tokens", "sentences", "text") if name in table.column_names), None)
        if column is None:
            raise ConfigError(f"data.texts: {file} has no column tokens, sentences or text")
        if "split" in table.column_names:
            tested = "test" if "test" in set(table["split"].to_pylist()) else "valid"
            table = table.filter(pc.not_equal(table["split"], tested))
        for value in table[column].to_pylist():
            text = value if isinstance(value, str) else " ".join(value or ())
            if text.strip():
                found.add(text)
    return sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())[:most]
