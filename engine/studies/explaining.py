"""Answers of a model with their explanations, as the measures of explanations take them.

What is explained is a list of targets: what the model answers about a text, or one label of it. The explanations of an arm are
made once, some targets at a time, and all measures of the arm share them. Any system works that can explain the answers of its
runs (see `engine.models.explained`), once a module named by `explain.texts` has `texts(task, settings) -> Texts`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

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
from engine.models.explained import ASKED, Explained, Group, load_explained
from engine.models.run import PAIR, records_of
from engine.studies.run import Model, Task, function_of
from engine.studies.settings import options
from engine.studies.study import Study
from engine.text.units import Units

WORD, SENTENCE = "word", "sentence"
# These take a pass or more for each step or changed copy.
SLOW = frozenset({"integrated_gradients", "occlusion", "fused", "lime", "kernel_shap"})
AT_ONCE = 10
Span = tuple[int, int]
_CACHE: dict[str, tuple[str, Any]] = {}


@dataclass(frozen=True)
class Options(Settings):
    """Settings `explain.<name>` of an arm; the others are those of every explanation.

    Args:
        texts: module that says which texts are explained. sample: number of texts that it draws from the corpus (0: all).
        task: whose answers are explained, empty for all. method: None for an arm without explanations. unit: `word` or
            `sentence`.
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
    sentences: Sequence[Span] = ()
    pair: str | None = None
    marks: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    @property
    def bounds(self) -> tuple[NDArray, NDArray]:
        """Starts and ends of the sentences [n]."""
        both = np.array(self.sentences, dtype=np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1]


@dataclass(frozen=True)
class Target:
    """What is explained: the number of a text, and a label of it, at a place of its characters where a label has one. No label is
    what the model answers."""

    text: int
    label: str | None = None
    place: Span | None = None

    @property
    def name(self) -> str:
        """What tells the targets of one text apart."""
        return str(self.label) if self.place is None else f"{self.label} {self.place[0]}-{self.place[1]}"


@dataclass(frozen=True)
class Texts:
    """The texts of a study; of each the model's answer is explained. An arm that explains some of them takes evenly spaced ones,
    or else the first."""

    texts: Sequence[Text]
    evenly: bool = True

    def targets(self, system: System, prepared: pa.Table) -> list[Target]:
        """What can be explained of the texts; `prepared` has a row for each of them."""
        return [Target(number) for number in range(len(self.texts))]

    def drawn(self, targets: Sequence[Target], count: int) -> list[int]:
        """Numbers of the targets of `count` texts (0: all)."""
        count = min(count or len(targets), len(targets))
        return spread(count, len(targets)).tolist() if self.evenly else list(range(count))


class Answers:
    """Texts and what a model answers about them, in fp32. All arms of a study with the same model and texts share it."""

    def __init__(self, task: Task, folder: str, settings: Options) -> None:
        self.task, self.folder, self.settings = task, folder, settings
        self.source: Texts = function_of(task.study, settings.texts, "texts")(task, settings)
        self.texts = self.source.texts
        self.references: dict[Any, Reference] = {}
        self._doors: dict[str, Explained] = {}
        self._models: dict[str, Explainable] = {}

    def system(self, precision: str = "fp32") -> System:
        return self._door(precision).system

    @cached_property
    def prepared(self) -> pa.Table:
        columns = ([getattr(text, name) for text in self.texts] for name in ("record_id", "text", "pair"))
        prepared = self.system().prepare(records_of(*columns)).sort_by("row")
        failed = len(prepared) - prepared["failure"].null_count
        if failed:
            raise ConfigError(f"data.path: {failed} of the test texts cannot be read; leave them out of the corpus")
        return prepared

    @cached_property
    def targets(self) -> Sequence[Target]:
        """With their labels; the model's own answers are those in fp32."""
        targets = list(self.source.targets(self.system(), self.prepared))
        for members in parts([at for at, target in enumerate(targets) if target.label is None]):
            group = self._group([targets[at] for at in members], "fp32")
            for at, named in zip(members, group.model.named(group.batch, group.targets), strict=True):
                targets[at] = replace(targets[at], label=named.name)
        return targets

    def work(self, members: Sequence[int], unit: str, precision: str, settings: Settings) -> Work:
        """Targets by their numbers, before the model in some arithmetic."""
        targets = [self.targets[at] for at in members]
        group = self._group(targets, precision)
        units = group.model.units(group.batch)
        if unit == SENTENCE:
            texts = [self.texts[target.text] for target in targets]
            units = [words.merged(SENTENCE, *text.bounds) for words, text in zip(units, texts, strict=True)]
        return Work(self._models.setdefault(precision, _alone(group.model)), group.batch, group.targets, units, settings)

    def rows(self, targets: Sequence[Target]) -> pa.Table:
        """Prepared texts of some targets."""
        return self.prepared.take(pa.array([target.text for target in targets], pa.int64()))

    def _group(self, targets: Sequence[Target], precision: str) -> Group:
        places = [target.place or (None, None) for target in targets]
        asked = pa.array(
            [[{"name": each.label, "start": start, "end": end}] for each, (start, end) in zip(targets, places, strict=True)],
            ASKED,
        )
        (group,) = self._door(precision).groups(self.rows(targets).append_column("asked", asked), self.settings)
        return group

    def _door(self, precision: str) -> Explained:
        if precision not in self._doors:
            read = {"precision": precision, "max_tokens": self.settings.max_tokens}
            if any(text.pair is not None for text in self.texts):
                read["pair"] = PAIR.name
            spec = ModelSpec(f"engine.models.{self.task.study.system}", self.folder, read, {"threads": self.task.threads})
            names = [self.settings.task] if self.settings.task else []
            self._doors[precision] = load_explained(spec, names, {})
        return self._doors[precision]


class Explaining:
    """The targets that an arm explains, by number (`members`), and their explanations."""

    def __init__(self, answers: Answers, settings: Options, timed: bool) -> None:
        self.answers, self.settings, self._timed = answers, settings, timed
        self.members = answers.source.drawn(answers.targets, settings.records)
        self.targets = [answers.targets[at] for at in self.members]
        self.texts = [answers.texts[target.text] for target in self.targets]
        # Seconds of predicting and of explaining, by wall clock and by processor.
        self.seconds = np.zeros((2, 2))

    def columns(self) -> dict[str, list[str]]:
        """The first columns of a measure's answers."""
        names = [text.record_id for text in self.texts]
        # All arms must give a target the same name.
        if len({target.text for target in self.answers.targets}) < len(self.answers.targets):
            names = [f"{name}/{target.name}" for name, target in zip(names, self.targets, strict=True)]
        return {"record_id": names, "group": [text.group for text in self.texts]}

    def work(self, members: Sequence[int], residual: bool = True) -> Work:
        settings = replace(self.settings, residual=residual and self.settings.residual)
        return self.answers.work(members, settings.unit, settings.precision, settings)

    def copies(self, members: Sequence[int]) -> Work:
        """The same targets in the precision with which copies are computed."""
        return self.answers.work(members, self.settings.unit, self.settings.copies, self.settings)

    def words(self, members: Sequence[int]) -> Sequence[Units]:
        return self.answers.work(members, WORD, self.settings.precision, self.settings).units

    def references(self, members: Sequence[int], measures: Measures) -> Reference:
        """The effect of erasing units at random, the same for all arms."""
        cache, names = self.answers.references, ("whole", "bare", "comp", "suff")
        keys = {at: (self.settings.unit, self.settings.copies, measures, at) for at in members}
        missing = [at for at in members if keys[at] not in cache]
        if missing:
            new = reference(self.copies(missing), measures)
            cache |= {keys[at]: Reference(*(getattr(new, name)[row] for name in names)) for row, at in enumerate(missing)}
        return Reference(*(np.array([getattr(cache[keys[at]], name) for at in members]) for name in names))

    @cached_property
    def explanations(self) -> dict[int, Explanation]:
        """The explanations by number of the target."""
        method, by_target = self.settings.method, dict[int, Explanation]()
        # What a residual takes, two passes, is nothing to a slow method and would be half of the cost of a quick one.
        slow = method in SLOW
        if self._timed and self.members:
            self._clocked(self.members[:1], slow)
            self.seconds[:] = 0
        for members in parts(self.members):
            explanations = self._clocked(members, slow) if self._timed else None
            if explanations is None or (self.settings.residual and not slow):
                explanations = explained(self.work(members), method)
            by_target |= dict(zip(members, explanations, strict=True))
            self.answers.task.say(f"{method} by {self.settings.unit}: {len(by_target)} of {len(self.members)}")
        return by_target

    def _clocked(self, members: Sequence[int], residual: bool) -> list[Explanation]:
        """Predicts and explains the same texts with the same model, with the clock on."""
        work, rows = self.work(members, residual), self.answers.rows([self.answers.targets[at] for at in members])
        system, clocks = self.answers.system(self.settings.precision), [_clocks()]
        system.scores(rows)
        clocks.append(_clocks())
        explanations = explained(work, self.settings.method)
        self.seconds += np.diff([*clocks, _clocks()], axis=0)
        return explanations


def explaining(model: Model, task: Task) -> Explaining | None:
    """The explanations of an arm, one object for all of its measures; None for an arm without a method."""
    settings = options(Options, task, "explain")
    if settings.method is None:
        return None
    key = repr((model.identity, task.study.name, task.arm.key, settings))
    return _cached("arm", key, lambda: Explaining(answers_of(model, task, settings), settings, _timed(task.study)))


def answers_of(model: Model, task: Task, settings: Options) -> Answers:
    """The answers of a model, one object for all arms that ask for the same texts of it."""
    arm_settings = ("method", "unit", "records", "precision", "copies")
    shared = replace(settings, **{name: getattr(Options(), name) for name in arm_settings})
    key = repr((model.identity, task.corpus, task.study.name, shared))
    return _cached("answers", key, lambda: Answers(task, str(model.folder), shared))


def spread(count: int, of: int) -> NDArray:
    """`count` places out of 0..of-1, evenly spaced."""
    return np.floor((np.arange(count) + 0.5) * of / count).astype(np.int64) if count else np.empty(0, np.int64)


def parts(members: Sequence[int]) -> Iterator[list[int]]:
    """The members in lists of at most `AT_ONCE`."""
    yield from (list(members[start : start + AT_ONCE]) for start in range(0, len(members), AT_ONCE))


def _alone(model: Explainable) -> Explainable:
    """The model without states of texts that it saw before: figures and costs would depend on what was asked earlier."""
    return type(model)(model.system, model.name) if isinstance(model, CodeExplainable) else model


def _cached(kind: str, key: str, make: Callable[[], Any]) -> Any:
    """The object of a kind made last, if it has the same key; else a new one, which replaces it."""
    if _CACHE.get(kind, ("", None))[0] != key:
        _CACHE.pop(kind, None)
        _CACHE[kind] = (key, make())
    return _CACHE[kind][1]


def _timed(study: Study) -> bool:
    """Whether a study measures what explanations cost; a system may have a measure `cost` of another kind."""
    return any(name in ("cost", "engine.studies.cost") for name in study.measure)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
