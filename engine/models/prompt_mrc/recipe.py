"""How Prompt-bioMRC is trained: all texts in memory, thresholds from the validation set, figures from the test set."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import attention_for, encoder_digest
from engine.errors import ConfigError
from engine.keys import check_keys, section
from engine.models.base import ModelSpec, Phase, Say
from engine.models.examples import Preparation
from engine.models.prompt_mrc.card import mark_lines, model_card
from engine.models.prompt_mrc.checkpoint import DECODING, check_base, read_checkpoint, trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import HARD, HYBRID, SOFT, TAGGER, DataConfig, Decoding, LearnConfig, ModelConfig, MrcConfig
from engine.models.prompt_mrc.corpus import Corpus, Examples, encode_corpus, load_corpus, marked_mentions, members_of
from engine.models.prompt_mrc.templates import complete_config
from engine.sources.labelled import Document, lost_mentions
from engine.sources.labelled.splits import TEST, VALID
from engine.storage import full_path

if TYPE_CHECKING:
    from torch import Tensor

    from engine.evaluation.spans import Mention
    from engine.models.prompt_mrc.network import MrcNetwork

SYSTEM = "engine.models.prompt_mrc"
# Figures on fewer mentions are unreliable.
FEW = 200


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
    def model(self) -> ModelConfig:
        return ModelConfig(**self.settings["model"])

    @cached_property
    def config(self) -> MrcConfig:
        return complete_config(self.model.architecture(self.corpus.types, self.settings["seed"]), self.model.questions)

    @cached_property
    def decodings(self) -> list[Decoding]:
        """The untuned decodings among which valid decides."""
        return self.model.decodings(self.corpus.nested(), self._encoded[0].longest(len(self.config.types)))

    @property
    def decoding(self) -> Decoding:
        """The untuned decoding by which training validates: nested, if that is to be tried."""
        return self.decodings[-1]

    @cached_property
    def _encoded(self) -> tuple[Examples, Mapping[str, int]]:
        return encode_corpus(self.corpus, self.config)

    @cached_property
    def marks(self) -> dict[str, int]:
        """What became of the marked spans, see `card.mark_lines`."""
        return self.marks_under(self.decoding)

    def marks_under(self, decoding: Decoding) -> dict[str, int]:
        examples, counts = self._encoded
        aligned = {name: counts[name] for name in ("snapped", "unread", "repeated")}
        overlapping = examples.overlapping(decoding, len(self.config.types))
        return {**aligned, "overlapping": overlapping, "coordinated": self.corpus.coordinated}

    @cached_property
    def network(self) -> "tuple[MrcNetwork, dict[str, Tensor]]":
        """The network as training begins, and the tensors of a base model that its checkpoint keeps."""
        import torch

        from engine.models.prompt_mrc.learner import training_network

        return training_network(self.settings, self.corpus.types, torch.device("cpu"))

    def changed(self) -> bool:
        """Never, since all texts are in memory."""
        return False

    def lines(self) -> list[str]:
        counts = ", ".join(f"{name}: {count:,}" for name, count in self.corpus.counts().items())
        return [counts, *self.corpus.broken.lines(), *mark_lines(self.marks)]

    def preparation(self) -> Preparation:
        facts = {
            "types": list(self.corpus.types),
            "further": list(self.corpus.further),
            "nested": self.corpus.nested(),
            "longest": self.decoding.longest,
        }
        table = self._encoded[0].to_table()
        return Preparation((), len, table.schema, self.given, facts, [table])


def watched(settings: Mapping[str, Any]) -> Sequence[str]:
    types = settings["data"].get("types") or ()
    return ["f1", "precision", "recall", *(f"f1_{name}" for name in (types if len(types) > 1 else ()))]


def corpus(settings: Mapping[str, Any]) -> Texts:
    from engine.models.prompt_mrc.ontology import build_templates, read_definitions

    settings = _with_full_paths(settings)
    data, model = DataConfig(**settings["data"]), ModelConfig(**settings["model"])
    check_keys(data, "data.")
    check_keys(LearnConfig(**settings["learn"]), "learn.")
    _check_used(model)
    encoder_digest(model.encoder)
    documents, questions = load_corpus(data), dict(model.questions)
    if model.ontology is not None:
        definitions = read_definitions(model.ontology, documents.types, "model.ontology")
        templates = build_templates(documents, model.encoder, definitions, mentions=model.mentions)
        questions = {name: template.text for name, template in templates.items()} | questions
    # Where the questions come from makes no difference to the model.
    rest = {name: value for name, value in settings["model"].items() if name not in ("ontology", "mentions")}
    settings = {**settings, "model": {**rest, "questions": questions}}
    if model.base:
        # Another model that was put in the same place is not the one that a training began with.
        settings = {**settings, "base_digest": read_checkpoint(model.base).digest}
    texts = Texts(settings, documents, documents.digest())
    _check(texts)
    return texts


def phases(settings: Mapping[str, Any]) -> Sequence[Phase]:
    return [Phase("spans", f"{SYSTEM}.learner:learner")]


def part(settings: Mapping[str, Any]) -> str:
    return ""


def write(folder: Path, corpus: Texts, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
    import torch

    network, kept = corpus.network
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.requires_grad:
                value.copy_(tensors[name])
    network.eval()
    write_checkpoint(folder, network.config, {**kept, **trained_tensors(network)}, corpus.decoding, "not settled yet\n")
    options = {"precision": corpus.settings.get("precision", "auto"), "evidence": "none"}
    return ModelSpec(SYSTEM, str(folder), options)


def settle(spec: ModelSpec, corpus: Texts, say: Say) -> Mapping[str, Any]:
    import numpy as np

    from engine.models.checkpoint import revise
    from engine.models.prompt_mrc import load
    from engine.models.prompt_mrc.tuning import MarkedTexts, score_texts

    documents = [corpus.corpus.documents[member] for member in members_of(corpus.corpus, VALID)]
    say(f"tuning thresholds on {len(documents):,} valid texts")
    marked = MarkedTexts(
        [each.record_id for each in documents],
        [each.text for each in documents],
        [[(span.start, span.end, span.type) for span in each.spans] for each in documents],
        [corpus.corpus.marked[each.dataset] for each in documents],
    )
    decoding, f1 = score_texts(load(spec), marked).tune(corpus.decodings, np.arange(len(documents)))
    values = {"decoding": asdict(decoding), "figures": {"valid_f1": f1}}
    revise(Path(spec.path), {DECODING: values}, "not measured yet\n")
    return {"decoding": asdict(decoding), "valid_f1": f1}


def measure(spec: ModelSpec, corpus: Texts, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
    from engine.evaluation.spans import measure

    members = members_of(corpus.corpus, TEST)
    say(f"measuring on {len(members):,} test texts")
    gold = marked_mentions(corpus.corpus, members, corpus.config.types)
    entities = predict_entities(spec, [corpus.corpus.documents[member] for member in members], corpus.corpus.marked)
    predicted: dict[str, list[Mention]] = {record_id: [] for record_id in gold}
    for record_id, mention, _ in entities:
        predicted[record_id].append(mention)
    figures = measure(gold, predicted)
    test: dict[str, dict[str, Any]] = {}
    for (metric, part), estimate in figures.values.items():
        test.setdefault(part, {})[metric] = [estimate.value, estimate.low, estimate.high]
    lost, mentions = lost_mentions(corpus.corpus.documents, corpus.corpus.types)
    broken, parameters = corpus.corpus.broken, list(corpus.network[0].parameters())
    ece, brier = score_calibration(entities, gold)
    return {
        "types": list(corpus.config.types),
        "examples": corpus.corpus.counts(),
        "broken": {
            "texts": broken.texts,
            "count": broken.count,
            "reasons": {each.kind: each.count for each in broken.reasons},
        },
        "in_pieces": {"lost": lost, "mentions": mentions},
        "marked": corpus.marks_under(Decoding(**settled["decoding"])),
        "parameters": {
            "total": sum(each.numel() for each in parameters),
            "trained": sum(each.numel() for each in parameters if each.requires_grad),
        },
        **settled,
        "test": test,
        "confusion": [[marked, other, count] for (marked, other), count in sorted(figures.confusion.items())],
        "calibration": {"ece": ece, "brier": brier},
    }


def card(spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
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
            lines.append(f"{what} {mentions:,} mentions in {where}; with fewer than {FEW} they are unreliable")
    return lines


def predict_entities(
    spec: ModelSpec, documents: Sequence[Document], marked: Mapping[str | None, Collection[str]]
) -> "list[tuple[str, Mention, float]]":
    """The entities that the product finds in some documents, of types that are `marked` in their dataset: record id, mention and
    score."""
    return [
        (document.record_id, (each["start"], each["end"], each["type"]), each["score"])
        for document, entities in answered(spec, documents)
        for each in entities
        if each["type"] in marked[document.dataset]
    ]


def answered(spec: ModelSpec, documents: Sequence[Document]) -> Iterator[tuple[Document, list[dict[str, Any]]]]:
    """Some documents with the entities of the product's rows."""
    import pyarrow as pa

    from engine.models.prompt_mrc import load
    from engine.models.prompt_mrc.scores import prepared
    from engine.models.run import answer

    system = load(spec)
    for table in prepared(system, [each.record_id for each in documents], [each.text for each in documents]):
        for row in answer(system, table, pa.schema([])).to_pylist():
            yield documents[row["row"]], row["entities"] or []


def score_calibration(
    entities: "Sequence[tuple[str, Mention, float]]", gold: "Mapping[str, Sequence[Mention]]"
) -> tuple[float | None, float | None]:
    """Expected calibration error (15 bins) and Brier score (0 to 1) of the scores of found entities; right means exact."""
    import numpy as np

    from engine.evaluation.calibration import brier, expected_calibration_error

    if not entities:
        return None, None
    prob = np.array([score for _, _, score in entities])
    right = np.array([mention in set(gold[record_id]) for record_id, mention, _ in entities])
    # With two classes each squared distance counts twice.
    return expected_calibration_error(prob, right), brier(np.stack([1 - prob, prob], 1), right.astype(int)) / 2


def _with_full_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    data, model = dict(settings["data"]), dict(settings["model"])
    data["path"] = full_path(os.path.expanduser(data["path"]))
    kind, colon, folder = model.get("encoder", "").partition(":")
    if kind == "path" and colon:
        model["encoder"] = f"path:{os.path.abspath(os.path.expanduser(folder))}"
    if model.get("base") not in (None, "", "shipped"):
        model["base"] = full_path(os.path.expanduser(model["base"]))
    return {**settings, "data": data, "model": model}


def _check(texts: Texts) -> None:
    """ConfigError if the settings of a training and its corpus do not fit together."""
    import torch

    from engine.models.prompt_mrc.network import new_network

    config, model = texts.config, texts.model
    for name in model.questions:
        if not config.is_hard:
            raise ConfigError(f"model.questions: a model of the mode '{config.mode}' asks no questions; leave them out")
        if name not in config.types:
            raise ConfigError(f"model.questions: '{name}' is none of the types to learn, which are {', '.join(config.types)}")
    if model.base:
        check_base(read_checkpoint(model.base), config)
    elif config.freeze_heads:
        raise ConfigError("model.freeze_heads: there is no model.base whose heads could be kept; name one, or leave it out")
    if config.freeze_encoder and config.freeze_heads and not config.is_soft:
        raise ConfigError(
            f"model.freeze_encoder and model.freeze_heads leave a model of the mode '{config.mode}' nothing to learn; "
            "set one of them to false, or model.mode to soft or hybrid"
        )
    new_network(config, torch.float32, attention_for("cpu"))
    model.decodings(texts.corpus.nested())


def _check_used(model: ModelConfig) -> None:
    """ConfigError if a setting is not at its default, but has no effect in the mode of the model or beside another setting."""
    defaults = {field.name: field.default for field in fields(ModelConfig)}
    changed = {name for name, default in defaults.items() if getattr(model, name) != default}
    unused = set()
    if model.mode not in (HARD, HYBRID):
        unused |= {"style", "version", "ontology", "mentions"}
    if model.mode not in (SOFT, HYBRID):
        unused |= {"shared_soft", "type_soft"}
    if model.mode == TAGGER:
        unused |= {"prompt_room"} | ({"nested"} if model.nested else set())
    for name in defaults:
        if name in unused & changed:
            raise ConfigError(f"model.{name}: model.mode={model.mode} has no use for it; leave it out")
    if model.ontology is None and "mentions" in changed:
        raise ConfigError("model.mentions: only templates built from a table have mentions; give model.ontology, or leave it out")
    if model.ontology is not None and changed & {"style", "version"}:
        raise ConfigError("model.style and model.version: model.ontology replaces the built-in templates; leave these out")
