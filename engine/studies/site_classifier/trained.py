"""Site classifiers of the studies of rationales: trained in this process, kept by what they learned from, and asked for
answers."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from engine.encoders import encoder_digest, encoder_folder, load_encoder, load_tokenizer, pick_precision, set_threads, special_ids
from engine.errors import ConfigError
from engine.models.code_task import Task as CodeTask
from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
from engine.models.site_classifier.examples import ReportEncoding, whole_examples
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import Batch
from engine.studies.marked_sets import draw, read_set
from engine.studies.regimes import TASK, Regime, Texts
from engine.studies.run import Task
from engine.studies.site_classifier.kept import identity_of, load_kept, save_kept
from engine.text.tokens import TokenizedText, tokenize
from engine.training.config import LoopConfig
from engine.training.here import train_here
from engine.training.loop import Worker

ALL = 10**6
_TOGETHER = 16
# Settings of every fit, with the values that an arm leaves out. `data.train_records` texts of train and `data.records` of valid
# and of test are used, chosen by id (0: all), of each the first `data.max_tokens`; `data.share` of the groups of train are the
# reports. `model.reach` is that of dpla in tokens. A training ends early when the macro-F1 of valid has not risen for
# `train.patience` epochs. `erase.texts` texts of test lose the share `erase.share` of their words.
DEFAULTS: Mapping[str, Any] = {
    "model.encoder": "pkg:minilm",
    "model.window": 254,
    "model.head": "dpla",
    "model.reach": 4.0,
    "data.train_records": 0,
    "data.records": 0,
    "data.max_tokens": 16384,
    "data.share": 0.4,
    "learn.masking": 0.3,
    "learn.ratio": -1.0,
    "train.epochs": 14.0,
    "train.patience": 5,
    "train.batch": 16,
    "train.rate": 5e-3,
    "erase.texts": 60,
    "erase.share": 0.2,
    **{f"data.{field.name}": field.default for field in fields(Regime)},
}
# What decides a model beside its texts.
_DECIDING = ("model.", "learn.", "train.", "data.max_tokens", "data.train_records")


def settings_of(task: Task, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an arm, completed by the defaults.

    Raises:
        ConfigError: there is no such setting.
    """
    unknown = sorted(set(task.settings) - set(defaults))
    if unknown:
        raise ConfigError(
            f"study: {task.arm.key}: '{unknown[0]}' is no setting of this fit; there are {', '.join(sorted(defaults))}"
        )
    # A float that a file gives as 14 and one that it gives as 14.0 must have one digest.
    return {name: type(value)(task.settings.get(name, value)) for name, value in defaults.items()}


def regime_of(settings: Mapping[str, Any]) -> Regime:
    return Regime(**{field.name: settings[f"data.{field.name}"] for field in fields(Regime)})


class Corpus:
    """The texts of a corpus, as a study's settings choose them, with their tokens."""

    def __init__(
        self, path: str, encoder: str, window: int, train_records: int, records: int, max_tokens: int, share: float
    ) -> None:
        self.set = read_set(path)
        self.encoder, self.max_tokens = encoder, max_tokens
        self._tokenizer = load_tokenizer(encoder_folder(encoder))
        texts = []
        for split, most in (("train", train_records), ("valid", records), ("test", records)):
            of_split = [each for each in self.set.texts if each.split == split]
            texts += [of_split[number] for number in draw(of_split, most)]
        form = self.set.form
        self.texts = Texts(texts, form.multi_label, share, lambda batch: [len(text.ids) for text in self.tokens(batch)])
        labels = self.texts.labels
        task = CodeTask(TASK, labels, tuple(sum(label in each.labels for each in texts) for label in labels), form.multi_label)
        self.architecture = ClassifierConfig(
            tasks=(task,),
            encoder=encoder,
            encoder_digest=encoder_digest(encoder),
            window=window,
            paired=form.paired,
            special=special_ids(self._tokenizer),
        )

    @cached_property
    def network(self) -> SiteNetwork:
        """The encoder alone, as it was downloaded; the heads of this network are not used."""
        return SiteNetwork(self.architecture, load_encoder(self.encoder, pick_precision("auto", "cpu"), "eager"))

    def tokens(self, texts: Sequence[str]) -> list[TokenizedText]:
        return tokenize(self._tokenizer, list(texts), self.max_tokens)

    def examples(self, table: pa.Table) -> Examples:
        encoding = ReportEncoding(self.architecture, self.encoder, self.max_tokens)
        return whole_examples(encoding.encoded(table), self.architecture)


corpus_of = lru_cache(maxsize=1)(Corpus)


@dataclass(frozen=True)
class Answers:
    """Of some texts: the probabilities [texts, labels], a softmax over the labels or, where a text may have several, a sigmoid
    for each; the labels that are given [texts, labels]; the weight of every token, text by text."""

    probs: NDArray
    given: NDArray
    weights: list[NDArray]


class Classifier:
    """A model of an arm, see `engine.studies.run.Model`; subclasses say what is trained, and how it reads texts.

    `added` is the number of samples beside the reports.
    """

    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS

    def __init__(self, task: Task) -> None:
        self.task, self.settings = task, settings_of(task, self.defaults)
        set_threads(task.threads)
        names = ("model.encoder", "model.window", "data.train_records", "data.records", "data.max_tokens", "data.share")
        self.corpus = corpus_of(task.corpus, *(self.settings[name] for name in names))
        self.texts, self.added = self.corpus.texts, 0
        self.learner: SiteLearner | None = None

    def new_learner(self, architecture: ClassifierConfig, examples: Examples, learn: LearnConfig) -> SiteLearner:
        """What is trained, as it stands before the first step."""
        raise NotImplementedError

    def reader(self, examples: Examples, keep: bool) -> SiteLearner:
        """The trained network in front of other texts, all of whose windows it reads."""
        raise NotImplementedError

    def first_attention(self, reader: SiteLearner) -> list[NDArray]:
        """The attention of the first token to each text's tokens in the encoder's last layer."""
        raise NotImplementedError

    def fitted(self, keep: Callable[["Classifier", Regime, int], set[str]]) -> Self:
        """Trained on what the arm's regime gives. `keep` has the ids of the rationales that a filter keeps."""
        regime, seed = regime_of(self.settings), self.task.arm.seed
        table, self.added = self.texts.training(regime, seed, lambda: keep(self, regime, seed))
        return self.learned(table, seed)

    def learned(self, table: pa.Table, seed: int) -> Self:
        """Trained on texts of train, the best epoch by the macro-F1 of valid. A model that learned the same before is taken; a
        training that was stopped goes on behind its last whole epoch."""
        get, table = self.settings.__getitem__, pa.concat_tables([table, self.texts.valid])
        deciding = {name: value for name, value in self.settings.items() if name.startswith(_DECIDING)}
        facts = {"seed": seed, "fit": type(self).__name__, "encoder": self.corpus.architecture.encoder_digest}
        self.identity = identity_of({**deciding, **facts, "corpus": self.corpus.set.digest}, table.to_pylist())
        self.folder = self.task.models / f"{type(self).__name__.lower()}-{self.identity[:24]}"
        examples = self.corpus.examples(table)
        architecture = replace(self.corpus.architecture, head=get("model.head"), phrase_reach=get("model.reach"))
        more = {name.removeprefix("learn."): value for name, value in self.settings.items() if name.startswith("learn.")}
        learner = self.learner = self.new_learner(
            architecture, examples, LearnConfig(**{"windows": ALL} | more, smoothing=0.0, seed=seed)
        )
        file, name = self.folder / "model.safetensors", self.task.arm.key
        if load_kept(learner, file):
            self.task.say(f"{name}: takes a model that was trained before")
            return self
        loop = LoopConfig(
            epochs=get("train.epochs"),
            batch=get("train.batch"),
            rate=get("train.rate"),
            seed=seed,
            checkpoint_every=10**9,
            report_every=10**9,
            patience=get("train.patience"),
            watch="macro_f1",
        )
        curve = train_here(
            learner, loop, Worker(device=learner.device, report=lambda row, _: self.report(row)), self.folder / "training"
        )
        save_kept(learner, file)
        shutil.rmtree(self.folder / "training")
        self.task.say(
            f"{name}: {len(learner.order(0))} texts an epoch, {curve[-1]['epoch']:.0f} epochs, macro-F1 of valid in the last one "
            f"{curve[-1]['valid_macro_f1']:.3f}"
        )
        return self

    def report(self, row: Mapping[str, Any]) -> None:
        """Takes the figures of an epoch; one of heads alone is too short for a line."""

    def answers(self, table: pa.Table, keep: bool = True, attention: bool = True) -> Answers:
        """What the model answers to texts. The head `cls` has no weights of its own and gets those of the encoder's last layer.

        Args:
            keep: whether the texts' states are kept for other heads. attention: whether weights are wanted.
        """
        reader = self.reader(self.corpus.examples(table), keep)
        answers = self._answers(reader)
        if self.settings["model.head"] != "cls" or not keep or not attention:
            return answers
        return replace(answers, weights=self.first_attention(reader))

    def _answers(self, reader: SiteLearner) -> Answers:
        ids = reader.examples.ids
        logits = np.zeros((len(ids), len(self.texts.labels)))
        weights = [np.zeros(len(each)) for each in ids]
        with torch.inference_mode():
            for batch, rows in batches(reader):
                pooled = reader._forward(batch, rows, None)
                logits[rows] = pooled.logits[TASK].numpy()
                attention = pooled.attended[TASK].weights
                if attention.shape[-1]:
                    batch.lay(attention.mean(-1), [weights[row] for row in rows])
        if self.texts.multi_label:
            return Answers(1 / (1 + np.exp(-logits)), logits > 0, weights)
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return Answers(raised / raised.sum(1, keepdims=True), logits == logits.max(1, keepdims=True), weights)


def batches(reader: SiteLearner) -> Iterator[tuple[Batch, list[int]]]:
    """All texts, those of like length together."""
    ids = reader.examples.ids
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), _TOGETHER):
        yield from reader._batches(order[start : start + _TOGETHER], 0)
