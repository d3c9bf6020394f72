"""Answers of a model with their explanations, as the measures of explanations take them.

What is explained is a list of targets: what the model answers about a text, or one label of it. The explanations of an arm are
made once, some targets at a time, and all measures of the arm share them. Any system works that can explain the answers of its
runs (see `engine.models.explained`), once it has a module that says which texts of a corpus are explained.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.explain.explain import explained
from engine.explain.explanation import Explanation
from engine.explain.faithfulness import Reference, reference
from engine.explain.passes import Work
from engine.explain.protocol import Explainable
from engine.explain.settings import Measures, Settings
from engine.models.base import ModelSpec, System
from engine.models.code_explainable import CodeExplainable
from engine.models.explained import ASKED, Explained, load_explained
from engine.models.run import PAIR, records_of
from engine.studies.run import Model, Task, part
from engine.studies.settings import options
from engine.text.units import Units

WORD, SENTENCE = "word", "sentence"
# These take a pass or more for each step or changed copy.
SLOW = frozenset({"integrated_gradients", "occlusion", "fused", "lime", "kernel_shap"})
AT_ONCE = 10
Span = tuple[int, int]


@dataclass(frozen=True)
class Options(Settings):
    """Settings `explain.<name>` of an arm; the others are those of every explanation.

    Args:
        texts: module that says which texts are explained. sample: number of texts that it draws from the corpus (0: all).
        task: whose answers are explained. method: None for an arm without explanations. unit: `word` or `sentence`.
        records: number of texts that the arm explains, some of the sample (0: all).
        precision: arithmetic of the explanation. copies: arithmetic in which copies with units erased are asked.
        max_tokens: tokens that are read of a text.
    """

    texts: str = "reports"
    sample: int = 0
    task: str = "label"
    method: str | None = None
    unit: str = WORD
    records: int = 0
    precision: str = "fp32"
    copies: str = "auto"
    max_tokens: int = 16384


@dataclass(frozen=True)
class Text:
    """One text of a test split.

    `sentences` are half-open characters; `marks` has for each label that people gave the spans that they marked for it. Texts of
    one `group` are not independent of each other. `pair` is the second text of a paired model.
    """

    record_id: str
    group: str
    text: str
    sentences: Sequence[Span]
    pair: str | None = None
    marks: Mapping[str, Sequence[Span]] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What is explained: the number of a text, and a label of it; None is what the model answers."""

    text: int
    label: str | None = None


class Texts(Protocol):
    """What the module named by `explain.texts` gives: `texts(task, settings) -> Texts`."""

    texts: Sequence[Text]

    def targets(self, system: System, prepared: pa.Table) -> Sequence[Target]:
        """What can be explained of the texts; `prepared` has a row for each of them."""

    def drawn(self, targets: Sequence[Target], count: int) -> Sequence[int]:
        """Numbers of the targets of `count` texts."""


class Answers:
    """Texts and what a model answers about them, in fp32. All arms of a study with the same model and texts share it."""

    def __init__(self, task: Task, folder: str, settings: Options) -> None:
        self.task, self.folder, self.settings = task, folder, settings
        self.source: Texts = part(task.study, settings.texts, "texts")(task, settings)
        self.texts = self.source.texts
        self.references: dict[tuple[Any, ...], Reference] = {}
        self._doors: dict[str, Explained] = {}
        self._models: dict[str, Explainable] = {}

    def system(self, precision: str) -> System:
        return self._door(precision).system

    @cached_property
    def prepared(self) -> pa.Table:
        records = records_of(*([getattr(text, name) for text in self.texts] for name in ("record_id", "text", "pair")))
        prepared = self.system("fp32").prepare(records).sort_by("row")
        failed = len(prepared) - prepared["failure"].null_count
        if failed:
            raise ConfigError(f"data.path: {failed} of the test texts cannot be read; leave them out of the corpus")
        return prepared

    @cached_property
    def targets(self) -> Sequence[Target]:
        return self.source.targets(self.system("fp32"), self.prepared)

    @cached_property
    def _labels(self) -> list[str]:
        """The label of each target; the model's own answers are those in fp32."""
        labels = [target.label for target in self.targets]
        for members in parts([at for at, label in enumerate(labels) if label is None]):
            group = self._group(members, [None] * len(members), "fp32")
            for at, named in zip(members, group.model.named(group.batch, group.targets), strict=True):
                labels[at] = named.name
        return labels  # type: ignore[return-value]

    def work(self, members: Sequence[int], unit: str, precision: str, settings: Settings) -> Work:
        """Targets by their numbers, before the model in some arithmetic."""
        group = self._group(members, [self._labels[at] for at in members], precision)
        units = group.model.units(group.batch)
        if unit == SENTENCE:
            bounds = [sentence_bounds(self.texts[self.targets[at].text]) for at in members]
            units = [words.merged(SENTENCE, *at) for words, at in zip(units, bounds, strict=True)]
        if precision not in self._models:
            self._models[precision] = _alone(group.model)
        return Work(self._models[precision], group.batch, group.targets, units, settings)

    def rows(self, members: Sequence[int]) -> pa.Table:
        """Prepared texts of some targets."""
        return self.prepared.take(pa.array([self.targets[at].text for at in members], pa.int64()))

    def _group(self, members: Sequence[int], labels: Sequence[str | None], precision: str) -> Any:
        asked = pa.array([[{"name": label, "start": None, "end": None}] for label in labels], ASKED)
        (group,) = self._door(precision).groups(self.rows(members).append_column("asked", asked), self.settings)
        return group

    def _door(self, precision: str) -> Explained:
        if precision not in self._doors:
            read = {"precision": precision, "max_tokens": self.settings.max_tokens}
            if any(text.pair is not None for text in self.texts):
                read["pair"] = PAIR.name
            spec = ModelSpec(f"engine.models.{self.task.study.system}", self.folder, read, {"threads": self.task.threads})
            self._doors[precision] = load_explained(spec, [self.settings.task], {})
        return self._doors[precision]


class Explaining:
    """The targets that an arm explains, by number, and their explanations."""

    def __init__(self, answers: Answers, settings: Options, timed: bool) -> None:
        self.answers, self.settings, self._timed = answers, settings, timed
        self.members = list(answers.source.drawn(answers.targets, settings.records))
        # Seconds of `predict` and `explain`, by wall clock and by processor.
        self.seconds = {(what, clock): 0.0 for what in ("predict", "explain") for clock in ("", "_cpu")}

    @property
    def texts(self) -> list[Text]:
        """That of each member."""
        return [self.answers.texts[self.answers.targets[at].text] for at in self.members]

    @property
    def labels(self) -> list[str]:
        """That of each member."""
        return [self.answers._labels[at] for at in self.members]

    def columns(self) -> dict[str, list[str]]:
        """The first columns of a measure's answers."""
        targets = [self.answers.targets[at] for at in self.members]
        names = [text.record_id if target.label is None else f"{text.record_id}/{target.label}"
                 for text, target in zip(self.texts, targets, strict=True)]  # fmt: skip
        return {"record_id": names, "group": [text.group for text in self.texts]}

    def words(self, members: Sequence[int]) -> Sequence[Units]:
        """The words of the text of each target."""
        return self.answers.work(members, WORD, self.settings.precision, self.settings).units

    def work(self, members: Sequence[int], residual: bool = True) -> Work:
        settings = replace(self.settings, residual=residual and self.settings.residual)
        return self.answers.work(members, settings.unit, settings.precision, settings)

    def copies(self, members: Sequence[int]) -> Work:
        """The same targets in the arithmetic in which copies are asked."""
        return self.answers.work(members, self.settings.unit, self.settings.copies, self.settings)

    def references(self, members: Sequence[int], measures: Measures) -> Reference:
        """What erasing units at random does, the same for all arms."""
        key = (self.settings.unit, self.settings.copies, measures)
        known = self.answers.references
        missing = [at for at in members if (*key, at) not in known]
        if missing:
            new = reference(self.copies(missing), measures)
            for place, at in enumerate(missing):
                known[(*key, at)] = Reference(new.whole[place], new.bare[place], new.comp[place], new.suff[place])
        rows = [known[(*key, at)] for at in members]
        return Reference(*(np.array([getattr(row, name) for row in rows]) for name in ("whole", "bare", "comp", "suff")))

    @cached_property
    def explanations(self) -> dict[int, Explanation]:
        """By number of the target."""
        method, made = self.settings.method, {}
        # What a residual takes, two passes, is nothing to a slow method and would be half of the cost of a quick one.
        slow = method in SLOW
        if self._timed and self.members:
            self._clocked(self.members[:1], slow)
            self.seconds = dict.fromkeys(self.seconds, 0.0)
        for members in parts(self.members):
            explanations = self._clocked(members, slow) if self._timed else None
            if explanations is None or (self.settings.residual and not slow):
                explanations = explained(self.work(members), method)
            made |= dict(zip(members, explanations, strict=True))
            self.answers.task.say(f"{method} by {self.settings.unit}: {len(made)} of {len(self.members)}")
        return made

    def _clocked(self, members: Sequence[int], residual: bool) -> list[Explanation]:
        """Predicts and explains the same texts with the same model, with the clock on."""
        work, rows = self.work(members, residual), self.answers.rows(members)
        start = _clocks()
        self.answers.system(self.settings.precision).scores(rows)
        middle = _clocks()
        explanations = explained(work, self.settings.method)
        end = _clocks()
        for what, before, after in (("predict", start, middle), ("explain", middle, end)):
            for clock, first, last in zip(("", "_cpu"), before, after, strict=True):
                self.seconds[what, clock] += last - first
        return explanations


def explaining(model: Model, task: Task) -> Explaining | None:
    """The explanations of an arm, one object for all of its measures; None for an arm without a method."""
    settings = options(Options, task, "explain")
    if settings.method is None:
        return None
    return _explaining(_Key((model.identity, task.study.name, task.arm.key, repr(settings)), (model, task, settings)))


def answers_of(model: Model, task: Task, settings: Options) -> Answers:
    """The answers of a model, one object for all arms that ask for the same texts of it."""
    shared = replace(
        settings, **{name: getattr(Options(), name) for name in ("method", "unit", "records", "precision", "copies")}
    )
    return _answers(_Key((model.identity, task.corpus, task.study.name, repr(shared)), (model, task, shared)))


def spread(count: int, of: int) -> NDArray:
    """`count` places out of 0..of-1, evenly spaced."""
    return np.floor((np.arange(count) + 0.5) * of / count).astype(np.int64) if count else np.empty(0, np.int64)


def parts(members: Sequence[int]) -> Iterator[list[int]]:
    """Some at a time."""
    yield from (list(members[start : start + AT_ONCE]) for start in range(0, len(members), AT_ONCE))


def sentence_bounds(text: Text) -> tuple[NDArray, NDArray]:
    bounds = np.array(text.sentences, dtype=np.int64).reshape(-1, 2)
    return bounds[:, 0], bounds[:, 1]


def _alone(model: Explainable) -> Explainable:
    """The model without states of texts that it saw before: figures and costs would depend on what was asked earlier."""
    return type(model)(model.system, model.name) if isinstance(model, CodeExplainable) else model


class _Key:
    """What tells a cached object from others, with what it is made of."""

    def __init__(self, key: tuple[str, ...], values: tuple[Any, ...]) -> None:
        self.key, self.values = key, values

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@lru_cache(maxsize=1)
def _explaining(key: _Key) -> Explaining:
    model, task, settings = key.values
    return Explaining(answers_of(model, task, settings), settings, "cost" in task.study.measure)


@lru_cache(maxsize=1)
def _answers(key: _Key) -> Answers:
    model, task, settings = key.values
    return Answers(task, str(model.folder), settings)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
