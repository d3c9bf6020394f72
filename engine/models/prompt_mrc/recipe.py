"""How Prompt-bioMRC is trained: texts with marked mentions, all of them in memory, thresholds from valid, figures from test."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.keys import section
from engine.models.base import ModelSpec, Phase, Say
from engine.models.examples import Preparation
from engine.models.prompt_mrc.card import marks_told
from engine.models.prompt_mrc.config import (
    HARD,
    HYBRID,
    SOFT,
    TAGGER,
    DataConfig,
    Decoding,
    LearnConfig,
    ModelConfig,
    MrcConfig,
)
from engine.models.prompt_mrc.corpus import Corpus, corpus_digest, load_corpus, marked_mentions, members_of
from engine.sources.labelled import lost_mentions
from engine.sources.labelled.splits import TEST, VALID
from engine.storage import full_path

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from engine.evaluation.spans import Mention, SpanFigures
    from engine.models.base import System
    from engine.models.prompt_mrc.instances import Marked
    from engine.models.prompt_mrc.learner import Examples
    from engine.models.prompt_mrc.network import MrcNetwork

SYSTEM = "engine.models.prompt_mrc"
# Fewer mentions give figures that are unsure.
FEW = 200
# Keys of a model that are no part of its architecture.
_ASIDE = ("questions", "ontology", "mentions", "base", "nested", "flat_across_types")


@dataclass(frozen=True)
class Settings:
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    learn: LearnConfig = section(LearnConfig)


@dataclass
class Texts:
    """See `engine.models.base.Corpus`."""

    settings: Mapping[str, Any]
    corpus: Corpus
    given: str

    @cached_property
    def config(self) -> MrcConfig:
        from engine.models.prompt_mrc.learning import config_of

        return config_of(self.settings, self.corpus.types)

    @cached_property
    def decoding(self) -> Decoding:
        """As training validates by; thresholds not yet settled."""
        from engine.models.prompt_mrc.learning import decoding_of

        return self.config.possible(decoding_of(self.settings, self.corpus.nested()))

    @cached_property
    def _read(self) -> "tuple[Examples, Marked]":
        from engine.models.prompt_mrc.learning import examples_of

        return examples_of(self.corpus, self.config, DataConfig(**self.settings["data"]).max_tokens)

    @property
    def examples(self) -> "Examples":
        """All texts as numbers, in the order of the documents."""
        return self._read[0]

    @cached_property
    def marked(self) -> dict[str, int]:
        """What became of the marked spans."""
        found = {name: getattr(self._read[1], name) for name in ("snapped", "unread", "repeated")}
        return {**found, "overlapping": self.examples.overlapping(self.decoding), "coordinated": self.corpus.coordinated}

    @cached_property
    def network(self) -> "tuple[MrcNetwork, dict[str, Tensor]]":
        """The network as training begins, and what its checkpoint has of a base."""
        import torch

        from engine.models.prompt_mrc.learner import prepare_training
        from engine.models.prompt_mrc.learning import network_of

        network, kept = network_of(self.settings, self.corpus.types, torch.device("cpu"))
        return prepare_training(network), kept

    def changed(self) -> bool:
        """Never: all of it is held."""
        return False

    def lines(self) -> list[str]:
        counts = ", ".join(f"{name}: {count:,}" for name, count in self.corpus.counts().items())
        return [counts, *self.corpus.broken.lines(), *marks_told(self.marked)]

    def preparation(self) -> Preparation:
        from engine.models.prompt_mrc.learning import SCHEMA, encoded

        facts = {"types": list(self.corpus.types), "nested": self.corpus.nested()}
        table = encoded(self.examples, [each.split or "" for each in self.corpus.documents])
        return Preparation((), len, SCHEMA, self.given, facts, [table])


def watched(settings: Mapping[str, Any]) -> Sequence[str]:
    kinds = settings["data"].get("types") or ()
    return ["f1", "precision", "recall", *(f"f1_{name}" for name in (kinds if len(kinds) > 1 else ()))]


def corpus(settings: Mapping[str, Any]) -> Texts:
    from engine.models.prompt_mrc.automatic import with_templates
    from engine.models.prompt_mrc.checkpoint import read_checkpoint
    from engine.models.prompt_mrc.learning import check

    _check_used(settings["model"])
    given, ontology, mentions = _parted(settings)
    found = load_corpus(DataConfig(**given["data"]))
    asked = with_templates(given, found, ontology, mentions)
    check(asked, found)
    if asked.get("base"):
        # Another model at the same place is not what a training began with.
        asked = {**asked, "base_digest": read_checkpoint(asked["base"]).digest}
    return Texts(asked, found, corpus_digest(found))


def phases(settings: Mapping[str, Any]) -> Sequence[Phase]:
    return [Phase("spans", f"{SYSTEM}.learning:learner")]


def part(settings: Mapping[str, Any]) -> str:
    return ""


def write(folder: Path, corpus: Texts, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
    import torch

    from engine.models.prompt_mrc.checkpoint import trained_tensors, write_checkpoint

    network, kept = corpus.network
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.requires_grad:
                value.copy_(tensors[name])
    network.eval()
    write_checkpoint(folder, network.config, {**kept, **trained_tensors(network)}, corpus.decoding, "not settled yet\n")
    options = {"precision": corpus.settings.get("precision", "auto"), "evidence": "none", "margins": 0.0}
    return ModelSpec(SYSTEM, str(folder), {**options, "max_tokens": DataConfig(**corpus.settings["data"]).max_tokens})


def settle(spec: ModelSpec, corpus: Texts, say: Say) -> Mapping[str, Any]:
    import pyarrow as pa

    from engine.models.checkpoint import revise
    from engine.models.prompt_mrc.checkpoint import DECODING
    from engine.models.prompt_mrc.tuning import best

    members = members_of(corpus.corpus, VALID)
    say(f"tuning thresholds on {len(members):,} valid texts")
    system, examples = _system(spec), corpus.examples
    scores = pa.concat_tables(system.scores(each) for each in _prepared(system, corpus.corpus, members))
    gold = {(row, span.first, span.last, span.type) for row, member in enumerate(members) for span in examples.spans[member]}
    known = None if examples.known is None else [examples.known[member] for member in members]
    decoding, score = best(
        scores,
        corpus.config.types,
        gold,
        corpus.decoding,
        corpus.config.is_tagger,
        lambda one: known is None or one.type in known[one.text],
    )
    values = {"decoding": decoding.to_json(), "figures": {"valid_f1": score}}
    revise(Path(spec.path), {DECODING: values}, "not measured yet\n")
    return {"decoding": decoding.to_json(), "valid_f1": score}


def measure(spec: ModelSpec, corpus: Texts, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
    from engine.evaluation.spans import measure

    members = members_of(corpus.corpus, TEST)
    say(f"measuring on {len(members):,} test texts")
    gold = marked_mentions(corpus.corpus, members, corpus.config.types)
    found = answered(spec, corpus.corpus, members)
    said: dict[str, list[Mention]] = {record_id: [] for record_id in gold}
    for record_id, mention, _ in found:
        said[record_id].append(mention)
    figures = measure(gold, said)
    lost, mentions = lost_mentions(corpus.corpus.documents, corpus.corpus.types)
    broken, network = corpus.corpus.broken, corpus.network[0]
    counts = {"total": [each.numel() for each in network.parameters()]}
    counts["trained"] = [each.numel() for each in network.parameters() if each.requires_grad]
    ece, squared = held_scores(found, gold)
    return {
        "types": list(corpus.config.types),
        "examples": corpus.corpus.counts(),
        "broken": {
            "texts": broken.texts,
            "count": broken.count,
            "reasons": {each.kind: each.count for each in broken.reasons},
        },
        "in_pieces": {"lost": lost, "mentions": mentions},
        "marked": corpus.marked,
        "parameters": {name: sum(numbers) for name, numbers in counts.items()},
        **settled,
        "test": plain(figures),
        "confusion": [[marked, given, count] for (marked, given), count in sorted(figures.confusion.items())],
        "calibration": {"ece": ece, "brier": squared},
    }


def card(spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
    from engine.models.prompt_mrc.card import model_card
    from engine.models.prompt_mrc.checkpoint import read_checkpoint

    return model_card(figures, read_checkpoint(spec.path).config, command)


def report(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for part, values in figures["test"].items():
        if values["f1"][0] is not None and part != "macro":
            names = ("overlap_f1", "start_accuracy", "end_accuracy")
            rest = ", ".join(f"{name} {values[name][0]:.3f}" for name in names if values[name][0] is not None)
            lines.append(f"{part.removeprefix('type=')}: exact F1 {values['f1'][0]:.3f} on test, {rest}")
    return lines


def cautions(figures: Mapping[str, Any]) -> list[str]:
    """See `engine.models.base.Recipe`."""
    lines = []
    for split, what in (("valid", "the thresholds were tuned on"), ("test", "the figures come from")):
        counts, mentions = figures["examples"], figures["examples"].get(f"mentions {split}", 0)
        texts = sum(n for name, n in counts.items() if name.endswith(f" {split}") and not name.startswith("mentions "))
        if mentions < FEW:
            where = f"{texts:,} {split} text{'s' if texts != 1 else ''}"
            lines.append(f"{what} {mentions:,} mentions in {where}; with fewer than {FEW} they are unsure")
    return lines


def answered(spec: ModelSpec, corpus: Corpus, members: Sequence[int]) -> "list[tuple[str, Mention, float]]":
    """What the product finds in some documents, of the types that are marked in their dataset, each with its score."""
    import pyarrow as pa

    from engine.models.run import answer

    system, found = _system(spec), []
    for prepared in _prepared(system, corpus, members):
        for row in answer(system, prepared, pa.schema([])).to_pylist():
            document = corpus.documents[members[row["row"]]]
            for each in row["entities"] or ():
                if each["type"] in corpus.marked[document.dataset]:
                    found.append((document.record_id, (each["start"], each["end"], each["type"]), each["score"]))
    return found


def held_scores(
    found: "Sequence[tuple[str, Mention, float]]", gold: "Mapping[str, Sequence[Mention]]"
) -> tuple[float | None, float | None]:
    """Expected calibration error (15 bins) and Brier score (0 to 1) of found spans' scores, right being exact."""
    import numpy as np

    from engine.evaluation.calibration import brier, expected_calibration_error

    if not found:
        return None, None
    prob = np.array([score for _, _, score in found])
    right = np.array([mention in set(gold[record_id]) for record_id, mention, _ in found])
    # Two classes: the squared distance counts once for each, half of it is that of the score.
    half = brier(np.stack([1 - prob, prob], 1), right.astype(int)) / 2
    return expected_calibration_error(prob, right), half


def plain(figures: "SpanFigures") -> dict[str, dict[str, Any]]:
    """Figures as plain values: slice -> metric -> value, low and high."""
    found: dict[str, dict[str, Any]] = {}
    for (metric, part), each in figures.values.items():
        found.setdefault(part, {})[metric] = [each.value, each.low, each.high]
    return found


def _system(spec: ModelSpec) -> "System":
    from engine.models.base import load

    return load(spec)


def _prepared(system: "System", corpus: Corpus, members: Sequence[int]) -> "Iterator[pa.Table]":
    """Documents as the product prepares them; `row` is a document's place among these."""
    from engine.models.prompt_mrc.scores import prepared

    documents = [corpus.documents[member] for member in members]
    return prepared(system, [each.record_id for each in documents], [each.text for each in documents])


def _parted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], str | None, int]:
    """The settings with whole paths and `questions`, `decoding` and `base` beside the sections; what templates are made of."""
    data, model = dict(settings["data"]), dict(settings["model"])
    data["path"] = full_path(os.path.expanduser(data["path"]))
    kind, colon, folder = model.get("encoder", "").partition(":")
    if kind == "path" and colon:
        model["encoder"] = f"path:{os.path.abspath(os.path.expanduser(folder))}"
    aside = {name: model.pop(name) for name in _ASIDE if name in model}
    base = aside.get("base")
    beside = {
        "questions": aside.get("questions") or {},
        "decoding": {name: aside.get(name) for name in ("nested", "flat_across_types") if name in aside},
        "base": full_path(os.path.expanduser(base)) if base and base != "shipped" else base,
    }
    made = {**beside, **settings, "data": data, "model": model}
    return made, aside.get("ontology"), aside.get("mentions", ModelConfig.mentions)


def _check_used(model: Mapping[str, Any]) -> None:
    """ConfigError if a key is set that the mode of the model has no use for."""
    values = {**{name: getattr(ModelConfig, name) for name in _NAMES}, **model}
    mode = values["mode"]
    asks, learns = mode in (HARD, HYBRID), mode in (SOFT, HYBRID)
    used = {"style": asks, "version": asks, "ontology": asks, "mentions": asks, "shared_soft": learns, "type_soft": learns}
    used |= {"prompt_room": mode != TAGGER}
    told = f"model.mode={mode} has no use for it; leave it out"
    for name, is_used in used.items():
        if not is_used and values[name] != getattr(ModelConfig, name):
            raise ConfigError(f"model.{name}: {told}")
    if values["nested"] and mode == TAGGER:
        raise ConfigError(f"model.nested: {told}")
    if values["ontology"] is None and values["mentions"] != ModelConfig.mentions:
        raise ConfigError(
            "model.mentions: only templates that make themselves have mentions; give model.ontology, or leave it out"
        )
    if values["ontology"] is not None and (values["style"], values["version"]) != (ModelConfig.style, ModelConfig.version):
        raise ConfigError("model.style and model.version: with model.ontology templates make themselves; leave these out")


_NAMES = ("mode", "style", "version", "ontology", "mentions", "shared_soft", "type_soft", "prompt_room", "nested")
