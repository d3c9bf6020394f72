"""Heads on a frozen encoder: a text's token states are made once and kept, and what is trained are the pools and linear layers.

So a grid of heads, regimes and seeds fits on a small machine. What holds for such heads need not hold for a model trained whole.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.encoders import encoder_digest, encoder_folder, load_encoder, load_tokenizer, pick_precision, set_threads, special_ids
from engine.errors import ConfigError
from engine.experiments.rationale_sets import SETS, TASK, kind_of, marked_digest, read_marked
from engine.experiments.rationales import drawn
from engine.experiments.regimes import Texts
from engine.experiments.run import Say
from engine.models.site_classifier.config import HEADS
from engine.text.tokens import TokenizedText, tokenize

if TYPE_CHECKING:
    from engine.experiments.states import ProjectedFolder
    from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
    from engine.models.site_classifier.learner import Examples, SiteLearner
    from engine.models.site_classifier.network import SiteNetwork
    from engine.models.site_classifier.states import TextStates
    from engine.models.tokens import Batch

STILL = "dpla0"
ALL = 10**6
_TOGETHER = 16


@dataclass(frozen=True)
class FrozenConfig:
    """What heads are trained, on what.

    `path` is a set's file or folder, `states` a folder for token states and trained heads that experiments on the same set share
    (None: with the results). `train_records` texts of train and `records` of valid and of test are used, chosen by id (0: all),
    of each the first `max_tokens`. `width` numbers are kept of a state (0: all). A `share` of the groups of train has the reports
    of every regime. `reach` is that of `dpla`; the head `dpla0` is `dpla` with its offsets fixed at 0. The rest is as in
    `jobs.train`; a training ends early when the macro-F1 of valid has not risen for `patience` epochs.
    """

    path: str
    heads: tuple[str, ...] = ("cls", "target", "dpla")
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    train_records: int = 0
    records: int = 0
    max_tokens: int = 16384
    share: float = 0.4
    encoder: str = "pkg:minilm"
    states: str | None = None
    width: int = 128
    window: int = 254
    reach: float = 4.0
    epochs: float = 14.0
    patience: int = 5
    batch: int = 16
    rate: float = 5e-3
    masking: float = 0.3
    rounds: int = 1000
    threads: int = 0

    def __post_init__(self) -> None:
        known = (*HEADS, STILL)
        unknown = [head for head in self.heads if head not in known]
        if unknown or not self.heads:
            raise ConfigError(f"grid.heads: '{unknown[0] if unknown else ''}' is none of {', '.join(known)}")
        if not self.seeds or not 0 < self.share <= 1:
            raise ConfigError("grid: name at least one seed in sizes.seeds; share lies above 0 and up to 1")
        no_repeats("grid.heads", self.heads)
        no_repeats("sizes.seeds", self.seeds)


@dataclass(frozen=True)
class Answers:
    """What a head makes of texts: probabilities [texts, labels], and the weight of every token, text by text.

    A softmax over the labels, or with `many` a sigmoid for each; `given` [texts, labels] are the labels it gives.
    """

    probs: NDArray
    given: NDArray
    weights: list[NDArray]


class Frozen:
    """The texts of a set, their states, and heads trained on them."""

    # The settings that change what is trained on a table; the encoder, its window and width are the folder's.
    deciding: tuple[str, ...] = ("head", "seed", "ratio", "reach", "epochs", "patience", "batch", "rate", "masking")

    def __init__(self, config: FrozenConfig, work: Path, say: Say) -> None:
        self.config, self.work, self.say = config, work, say
        self.kind = kind_of(config.path)
        self.set = SETS[self.kind]
        self._tokenizer = load_tokenizer(encoder_folder(config.encoder))
        set_threads(config.threads)

    @cached_property
    def texts(self) -> Texts:
        config, marked = self.config, read_marked(self.config.path)
        some = []
        for split, most in (("train", config.train_records), ("valid", config.records), ("test", config.records)):
            mine = [each for each in marked if each.split == split]
            some += [mine[number] for number in drawn([each.record_id for each in mine], most, 0)]
        return Texts(some, self.set.multi_label, config.share, self._counted)

    @cached_property
    def architecture(self) -> "ClassifierConfig":
        """That of every head but for `head` and `phrase_reach`."""
        from engine.models.code_task import Task
        from engine.models.site_classifier.config import ClassifierConfig

        labels = self.texts.labels
        task = Task(TASK, labels, tuple(sum(label in each.labels for each in self.texts.marked) for label in labels), self.many)
        return ClassifierConfig(
            tasks=(task,),
            encoder=self.config.encoder,
            encoder_digest=encoder_digest(self.config.encoder),
            window=self.config.window,
            paired=self.set.paired,
            special=special_ids(self._tokenizer),
        )

    @property
    def many(self) -> bool:
        return self.set.multi_label

    @cached_property
    def network(self) -> "SiteNetwork":
        """The encoder, in a network whose heads are not asked."""
        from engine.models.site_classifier.network import SiteNetwork

        return SiteNetwork(self.architecture, load_encoder(self.config.encoder, pick_precision("auto", "cpu"), "eager"))

    @cached_property
    def shelf(self) -> "ProjectedFolder":
        from engine.experiments.states import ProjectedFolder, keys_of, windowed

        config = self.config
        digests = (marked_digest(config.path)[:12], encoder_digest(config.encoder)[:12])
        # The directions of a projection are those of the texts of train.
        name = "-".join(map(str, (*digests, config.window, config.width, config.train_records, config.max_tokens)))
        size = self.network.encoder.config.hidden_size
        shelf = ProjectedFolder(Path(config.states or self.work / "states") / name, size, config.width)
        examples = self.examples(pa.concat_tables([self.texts.base, self.texts.pool]))
        shelf.fit(keys_of(examples), lambda members: windowed(self.network, examples, members))
        return shelf

    def states(self, examples: "Examples", keep: bool = True) -> "TextStates":
        """The token states of examples, in their order; see `ProjectedFolder.states`."""
        from engine.experiments.states import keys_of, windowed

        return self.shelf.states(keys_of(examples), lambda members: windowed(self.network, examples, members), keep)

    @property
    def folder(self) -> Path:
        """Where trained heads stand."""
        return self.shelf.folder / "heads"

    def tokens(self, texts: Sequence[str]) -> list[TokenizedText]:
        return tokenize(self._tokenizer, list(texts), self.config.max_tokens)

    def _counted(self, texts: Sequence[str]) -> list[int]:
        return [len(each.ids) for each in self.tokens(texts)]

    def examples(self, table: pa.Table) -> "Examples":
        from engine.models.site_classifier.examples import ReportEncoding, whole_examples

        encoding = ReportEncoding(self.architecture, self.architecture.encoder, self.config.max_tokens)
        return whole_examples(encoding.encoded(table), self.architecture)

    def learned(
        self,
        head: str,
        table: pa.Table,
        seed: int,
        *,
        ratio: float = -1.0,
        marking: float = 0.0,
    ) -> "SiteLearner":
        """A head trained on the table's texts of train, its best epoch by the macro-F1 of valid; one that stands in `folder`,
        trained alike on the same texts, is taken from there. A training that was stopped goes on behind its last whole epoch.

        Args:
            ratio, marking: see `LearnConfig`.
        """
        from engine.experiments.here import keep_model, kept_model, trained
        from engine.models.site_classifier.config import LearnConfig
        from engine.training.config import LoopConfig

        config = self.config
        examples = self.examples(table)
        still = head == STILL
        architecture = replace(self.architecture, head="dpla" if still else head, phrase_reach=0.0 if still else config.reach)
        learn = LearnConfig(windows=ALL, masking=config.masking, smoothing=0.0, ratio=ratio, marking=marking, seed=seed)
        learner = self._learner(architecture, examples, learn)
        settings = {**plain(config), "head": head, "seed": seed, "ratio": ratio, "marking": marking}
        known = self._known(settings, table)
        if kept_model(learner, known) is not None:
            self.say(f"{head}: trained before")
            return learner
        loop = LoopConfig(
            epochs=config.epochs,
            batch=config.batch,
            rate=config.rate,
            seed=seed,
            checkpoint_every=10**9,
            report_every=10**9,
            patience=config.patience,
            watch="macro_f1",
        )
        folder = self.work / "training" / known.stem
        curve = trained(learner, loop, folder, self._heard)
        valid = curve[-1]["valid_macro_f1"]
        self.say(
            f"{head}: {len(learner.order(0))} texts an epoch, {curve[-1]['epoch']:.0f} epochs, valid macro-F1 at last {valid:.3f}"
        )
        keep_model(learner, curve, known)
        shutil.rmtree(folder)
        return learner

    def _learner(self, architecture: "ClassifierConfig", examples: "Examples", learn: "LearnConfig") -> "SiteLearner":
        """What is trained, as it stands before the first step."""
        import torch

        from engine.experiments.states import NoEncoder
        from engine.models.site_classifier.head_learner import HeadLearner
        from engine.models.site_classifier.network import SiteNetwork

        states = self.states(examples)
        torch.manual_seed(learn.seed)
        network = SiteNetwork(architecture, NoEncoder(states.width))
        return HeadLearner(network, examples, states, learn, torch.device("cpu"))

    def _heard(self, row: Mapping[str, Any]) -> None:
        """Takes note of an epoch's figures; one of a head's is too short to be told."""

    def _known(self, settings: Mapping[str, Any], table: pa.Table) -> Path:
        """Where a head of these settings stands that was trained on these texts."""
        from engine.experiments.here import learned_from

        # What is trained does not hang on what else the experiment compares or measures.
        told = {name: value for name, value in settings.items() if name in self.deciding}
        return self.folder / f"{learned_from(told, table.to_pylist())}.safetensors"

    def answered(self, learner: "SiteLearner", table: pa.Table, keep: bool = True, attended: bool = True) -> Answers:
        """What a trained head makes of a table's texts; the `cls` head, which has no weights of its own, gets those of the
        encoder's last layer.

        Args:
            keep: whether the texts' states are to be kept for other heads. attended: whether weights are wanted.
        """
        asked = self._asked(learner, self.examples(table), keep)
        found = self._answers(asked)
        if learner.network.config.head != "cls" or not keep or not attended:
            return found
        return replace(found, weights=self._first_attention(asked))

    def _asked(self, learner: "SiteLearner", examples: "Examples", keep: bool) -> "SiteLearner":
        """The same network before other texts, of which it is shown everything."""
        from engine.models.site_classifier.head_learner import HeadLearner

        states = self.states(examples, keep)
        return HeadLearner(learner.network, examples, states, learner.config, learner.device)

    def _answers(self, asked: "SiteLearner") -> Answers:
        import torch

        ids = asked.examples.ids
        logits = np.zeros((len(ids), len(self.texts.labels)))
        weights = [np.zeros(len(each)) for each in ids]
        with torch.inference_mode():
            for batch, rows in self._batches(asked):
                pooled = asked._forward(batch, rows, None)
                logits[rows] = pooled.logits[TASK].numpy()
                attention = pooled.attended[TASK].weights
                if attention.shape[-1]:
                    batch.lay(attention.mean(-1), [weights[row] for row in rows])
        if self.many:
            return Answers(1 / (1 + np.exp(-logits)), logits > 0, weights)
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return Answers(raised / raised.sum(1, keepdims=True), logits == logits.max(1, keepdims=True), weights)

    def _batches(self, asked: "SiteLearner") -> "Iterator[tuple[Batch, list[int]]]":
        """All texts, those of like length together."""
        ids = asked.examples.ids
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), _TOGETHER):
            yield from asked._batches(order[start : start + _TOGETHER], 0)

    def _first_attention(self, asked: "SiteLearner") -> list[NDArray]:
        """How the last layer's attention of the first token lies on each text's tokens."""
        from engine.experiments.states import first_attention

        return [each.astype(np.float64) for each in first_attention(self.shelf.folder, self.network, asked.examples)]


def no_repeats(key: str, values: Sequence[Any]) -> None:
    """Raises ConfigError where something is named twice: its arms would have one name."""
    again = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if again is not None:
        raise ConfigError(f"{key}: {again} stands there twice; name each once")


def plain(config: Any) -> dict[str, Any]:
    """The settings that change a result, with digests in place of paths."""
    values = {name: value for name, value in asdict(config).items() if name not in ("path", "threads", "states")}
    digests = {"data_sha256": marked_digest(config.path), "encoder_digest": encoder_digest(config.encoder)}
    return {**values, "set": kind_of(config.path), **digests}
