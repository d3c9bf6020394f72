"""Training, settling and measuring a system of entities: texts in memory, thresholds from valid, figures from test."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models.base import ModelSpec, Phase, Say, load
from engine.models.entities.candidates import Decoding
from engine.models.entities.card import mark_lines
from engine.models.entities.corpus import Corpus, marked_mentions, members_of
from engine.models.entities.examples import Examples, encode_corpus
from engine.models.examples import Preparation
from engine.sources.labelled import Document, lost_mentions
from engine.sources.labelled.splits import TEST, VALID
from engine.storage import full_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

    from engine.evaluation.spans import Mention

# Figures on fewer mentions are unreliable.
FEW = 200


@dataclass
class EntityTexts:
    """See `engine.models.base.Corpus`. A subclass has `tokenizer`, `decodings` and `network`."""

    settings: Mapping[str, Any]
    corpus: Corpus

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer by which the texts become examples."""
        raise NotImplementedError

    @cached_property
    def decodings(self) -> Sequence[Decoding]:
        """The untuned decodings among which valid decides."""
        raise NotImplementedError

    @cached_property
    def network(self) -> "nn.Module":
        """The network as training begins."""
        raise NotImplementedError

    @property
    def decoding(self) -> Decoding:
        """The untuned decoding by which training validates: nested, if that is to be tried."""
        return self.decodings[-1]

    @cached_property
    def given(self) -> str:
        return self.corpus.digest()

    @cached_property
    def encoded(self) -> tuple[Examples, Mapping[str, int]]:
        """See `encode_corpus`."""
        return encode_corpus(self.corpus, self.tokenizer)

    def marks(self, decoding: Decoding) -> dict[str, int]:
        """What becomes of the marked spans under a decoding, see `card.mark_lines`."""
        examples, counts = self.encoded
        aligned = {name: counts[name] for name in ("snapped", "unread", "repeated")}
        overlapping = examples.overlapping(decoding, len(self.corpus.types))
        return {**aligned, "overlapping": overlapping, "coordinated": self.corpus.coordinated}

    def changed(self) -> bool:
        """Never, since all texts are in memory."""
        return False

    def lines(self) -> list[str]:
        counts = ", ".join(f"{name}: {count:,}" for name, count in self.corpus.counts().items())
        return [counts, *self.corpus.broken.lines(), *mark_lines(self.marks(self.decoding))]

    def preparation(self) -> Preparation:
        facts = {
            "types": list(self.corpus.types),
            "further": list(self.corpus.further),
            "nested": self.corpus.nested(),
            "longest": self.decoding.longest,
        }
        table = self.encoded[0].to_table()
        return Preparation((), len, table.schema, self.given, facts, [table])


@dataclass(frozen=True)
class EntityRecipe:
    """See `engine.models.base.Recipe`. `learner` is the `module:function` of the single phase. A subclass implements `corpus`,
    `write` and `card`. `Settings` has a section `data`, an `EntityData`, and a section `model`."""

    Settings: type
    learner: str

    def watched(self, settings: Mapping[str, Any]) -> Sequence[str]:
        types = settings["data"].get("types") or ()
        return ["f1", "precision", "recall", *(f"f1_{name}" for name in (types if len(types) > 1 else ()))]

    def phases(self, settings: Mapping[str, Any]) -> Sequence[Phase]:
        return [Phase("spans", self.learner)]

    def part(self, settings: Mapping[str, Any]) -> str:
        return ""

    def settle(self, spec: ModelSpec, corpus: EntityTexts, say: Say) -> Mapping[str, Any]:
        import numpy as np

        from engine.models.checkpoint import revise
        from engine.models.entities.system import DECODING
        from engine.models.entities.tuning import MarkedTexts, score_texts

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

    def measure(self, spec: ModelSpec, corpus: EntityTexts, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
        from engine.evaluation.spans import measure

        texts = corpus.corpus
        members = members_of(texts, TEST)
        say(f"measuring on {len(members):,} test texts")
        gold = marked_mentions(texts, members, texts.types)
        entities = predict_entities(spec, [texts.documents[member] for member in members], texts.marked)
        predicted: dict[str, list[Mention]] = {record_id: [] for record_id in gold}
        for record_id, mention, _ in entities:
            predicted[record_id].append(mention)
        figures = measure(gold, predicted)
        test: dict[str, dict[str, Any]] = {}
        for (metric, part), estimate in figures.values.items():
            test.setdefault(part, {})[metric] = [estimate.value, estimate.low, estimate.high]
        lost, mentions = lost_mentions(texts.documents, texts.types)
        parameters, (ece, brier) = list(corpus.network.parameters()), score_calibration(entities, gold)
        return {
            "types": list(texts.types),
            "examples": texts.counts(),
            "broken": {
                "texts": texts.broken.texts,
                "count": texts.broken.count,
                "reasons": {each.kind: each.count for each in texts.broken.reasons},
            },
            "in_pieces": {"lost": lost, "mentions": mentions},
            "marked": corpus.marks(type(corpus.decoding)(**settled["decoding"])),
            "parameters": {
                "total": sum(each.numel() for each in parameters),
                "trained": sum(each.numel() for each in parameters if each.requires_grad),
            },
            **settled,
            "test": test,
            "confusion": [[marked, other, count] for (marked, other), count in sorted(figures.confusion.items())],
            "calibration": {"ece": ece, "brier": brier},
        }

    def report(self, figures: Mapping[str, Any]) -> list[str]:
        lines = []
        for part, values in figures["test"].items():
            if values["f1"][0] is not None and part != "macro":
                names = ("overlap_f1", "start_accuracy", "end_accuracy")
                rest = ", ".join(f"{name} {values[name][0]:.3f}" for name in names if values[name][0] is not None)
                lines.append(f"{part.removeprefix('type=')}: exact F1 {values['f1'][0]:.3f} on test, {rest}")
        return lines

    def cautions(self, figures: Mapping[str, Any]) -> list[str]:
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

    from engine.models.entities.scores import prepared
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


def with_full_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the full paths of `data.path`, of an encoder in a folder and of a base model."""
    data, model = dict(settings["data"]), dict(settings["model"])
    data["path"] = full_path(os.path.expanduser(data["path"]))
    kind, colon, folder = model.get("encoder", "").partition(":")
    if kind == "path" and colon:
        model["encoder"] = f"path:{os.path.abspath(os.path.expanduser(folder))}"
    if model.get("base") not in (None, "", "shipped"):
        model["base"] = full_path(os.path.expanduser(model["base"]))
    return {**settings, "data": data, "model": model}
