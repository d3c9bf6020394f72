"""Extractors that an experiment has in its hands: trained, tuned and measured in this process, without a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.errors import ConfigError
from engine.evaluation.spans import Mention, SpanFigures, measure
from engine.models.prompt_mrc.checkpoint import trained_tensors
from engine.models.prompt_mrc.config import DEVICES, DataConfig
from engine.models.prompt_mrc.corpus import Corpus, marked_mentions, members_of
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.learner import MrcLearner, prepare_training
from engine.models.prompt_mrc.learning import decoding_of, examples_of, learn_of, network_of
from engine.models.prompt_mrc.recipe import held_scores
from engine.models.prompt_mrc.tuning import settled, tried, tune
from engine.sources.labelled.splits import TEST
from engine.training.loop import Worker


def device_called(name: str) -> torch.device:
    """Where to calculate: `cpu`, `cuda`, or `auto`, which is a GPU where there is one.

    Raises:
        ConfigError: it is none of these, or there is no GPU.
    """
    if name not in DEVICES:
        raise ConfigError(f"model.device: '{name}' is none of {', '.join(DEVICES)}")
    here = torch.cuda.is_available()
    if name == "cuda" and not here:
        raise ConfigError("model.device: there is no GPU that torch can use here; set it to cpu")
    return torch.device("cuda" if here and name != "cpu" else "cpu")


def prepared(settings: Mapping[str, Any], corpus: Corpus, worker: Worker) -> tuple[MrcLearner, dict[str, torch.Tensor]]:
    """The learner on documents that are read already, and tensors of a base model that its checkpoint needs beside its own."""
    torch.manual_seed(settings["seed"])
    network, kept = network_of(settings, corpus.types, worker.device)
    examples, _ = examples_of(corpus, network.config, DataConfig(**settings["data"]).max_tokens)
    decoding = decoding_of(settings, corpus.nested())
    return MrcLearner(prepare_training(network), examples, learn_of(settings), worker.device, decoding), kept


def restore(trained: MrcLearner, tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts the weights of a training's state in place."""
    with torch.no_grad():
        for name, value in trained.parameters().items():
            value.copy_(tensors[name])
    trained.network.eval()


def tuned(trained: MrcLearner, most: int = 0) -> float:
    """Sets the learner's thresholds to the best on its validation texts, or `most` of them; returns their exact F1 (in words)."""
    members = trained.held_back(most)
    begun = tried(trained.decoding, trained.network.config.is_tagger)
    found = trained.candidates_under(members, begun)
    gold = {(member, span.first, span.last, span.type) for member in members for span in trained.examples.spans[member]}
    best = [
        tune(each, gold, replace(trained.decoding, outside=decoding.outside), lambda one: trained.is_known(one.text, one.type))
        for each, decoding in zip(found, begun, strict=True)
    ]
    trained.decoding, score = max(best, key=lambda each: each[1])
    return score


@dataclass(frozen=True)
class Finding:
    """A found span with the probability it was given."""

    record_id: str
    mention: Mention
    score: float


def findings(trained: MrcLearner, corpus: Corpus, members: Sequence[int]) -> list[Finding]:
    """What a learner finds in some documents, of the types that are marked in their dataset."""
    found = settled(trained.candidates(members, trained.decoding), trained.decoding)
    return [_finding(trained, corpus, each) for each in found if trained.is_known(each.text, each.type)]


def _finding(trained: MrcLearner, corpus: Corpus, each: Candidate) -> Finding:
    words, kind = trained.examples.tokens[each.text], trained.network.config.types[each.type]
    mention = int(words.word_start[each.first]), int(words.word_end[each.last]), kind
    return Finding(corpus.documents[each.text].record_id, mention, each.score)


def by_record(found: Sequence[Finding], record_ids: Sequence[str]) -> dict[str, list[Mention]]:
    """Mentions of each record, none for one without."""
    mentions: dict[str, list[Mention]] = {record_id: [] for record_id in record_ids}
    for each in found:
        mentions[each.record_id].append(each.mention)
    return mentions


def parameters(trained: MrcLearner) -> dict[str, int]:
    """How many numbers the network has, and how many of them are trained."""
    return {
        "total": sum(value.numel() for value in trained.network.parameters()),
        "trained": sum(value.numel() for value in trained.parameters().values()),
    }


def tensors_of(trained: MrcLearner, kept: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the checkpoint of a learner holds."""
    return {**kept, **trained_tensors(trained.network)} if kept else trained_tensors(trained.network)


@dataclass(frozen=True)
class Outcome:
    """What a model did on a split: figures, what it found, and how its scores of found spans hold (`ece`, `brier`)."""

    figures: SpanFigures
    found: list[Finding]
    ece: float | None
    brier: float | None


def outcome(trained: MrcLearner, corpus: Corpus, split: str = TEST, rounds: int = 1000) -> Outcome:
    """Measures a learner, thresholds as they stand, on a split."""
    members = members_of(corpus, split)
    gold = marked_mentions(corpus, members, trained.network.config.types)
    found = findings(trained, corpus, members)
    told = [(each.record_id, each.mention, each.score) for each in found]
    return Outcome(measure(gold, by_record(found, list(gold)), rounds), found, *held_scores(told, gold))
