"""How well each method of explanation finds what people marked, on small models trained on the marked texts themselves.

Explained are the labels of a test text that people gave and the model gives too: for a label it does not give, a person's reason
cannot be its own. Each is compared with the spans marked for that very label, over words and over sentences, beside the same
weights laid on the units at random. A method that scores words gives a sentence the sum of its words' scores; one that erases
works on sentences. A long sentence has a larger sum whatever its words say, and what people mark is longer than a heading: so
sentences stand beside the mere count of their words as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.baseline import fit_and_score
from engine.evaluation.rationales import MEASURES, RANDOM
from engine.evaluation.resample import Drawn, Totals, divide, ratio
from engine.experiments.compare import mean_f1
from engine.experiments.rationale_sets import (
    PAIR,
    SETS,
    TASK,
    Marked,
    Span,
    kind_of,
    marked_digest,
    marks,
    read_marked,
    training_table,
)
from engine.experiments.run import Arm, Result, Say
from engine.experiments.trained import Recipe, put_table, train
from engine.explain.agreement import agreement, gold_units
from engine.explain.explanation import Explanation, from_units
from engine.models import run
from engine.models.columns import matrix
from engine.records import seed_of
from engine.sources.labelled.values import MARKS
from engine.text.units import Units

if TYPE_CHECKING:
    from engine.models.code_explainable import Reports
    from engine.models.site_classifier.attributable import SiteExplainable
    from engine.models.site_classifier.coder import SiteCoder

MODEL, RIVAL = "model", "tfidf"
BY_WORD = ("pooling", "attention", "gradient_x_input", "grad_l2", "integrated_gradients", "attnlrp", "fused")
BY_SENTENCE = ("occlusion", "lime", "kernel_shap")
SLOW, DEAR = frozenset({"integrated_gradients", "fused"}), frozenset({"lime", "kernel_shap"})
LENGTH = "length_"
# Each control by the prefix of its measures: what its figure and the gain over it are called.
CONTROLS = {RANDOM: ("random", "gain"), LENGTH: ("length", "over_length")}
_TOGETHER = 24


@dataclass(frozen=True)
class RationalesConfig:
    """What is trained, explained and measured.

    `path` is a set's file or folder. `records` texts of the test split are explained, chosen by id (0: all); by methods of a pass
    or more a step `slow_records` of them, by LIME and KernelSHAP `dear_records`. `steps` are those of integrated gradients,
    `draws` of the random control, `rounds` of the intervals. `samples` are the kinds of samples that train gets from what people
    marked (none: texts alone); such a model was taught to answer from what it is then asked to find, if in other texts.

    The rest is the training's, as in `jobs.train`; at that job's own `rate` of 1e-3 the model of the abstracts learns nothing and
    gives every token the same state.
    """

    path: str
    records: int = 0
    slow_records: int = 100
    dear_records: int = 30
    steps: int = 50
    draws: int = 5
    rounds: int = 1000
    encoder: str = "pkg:minilm"
    window: int = 254
    epochs: float = 6.0
    batch: int = 8
    rate: float = 3e-4
    micro_batch: int = 8192
    threads: int = 0
    seed: int = 7
    samples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.records, self.slow_records, self.dear_records) < 0 or min(self.steps, self.draws, self.rounds) < 1:
            raise ConfigError("sizes: records must be at least 0; steps, draws and rounds at least 1")

    def texts(self, method: str) -> int:
        """How many texts a method explains."""
        own = self.dear_records if method in DEAR else self.slow_records if method in SLOW else 0
        return min(own or self.records, self.records or own)


@dataclass(frozen=True)
class Asked:
    """A label of a text that is explained; `text` is the number of its text among those of the test split."""

    text: int
    label: str


class Rationales:
    """See `engine.experiments.run.Experiment`. Arms: the model's own quality, a rival's, and one a method."""

    name = "explain/rationales"

    def __init__(self, config: RationalesConfig) -> None:
        self.config = config
        self.kind = kind_of(config.path)
        if config.samples and SETS[self.kind].multi_label:
            raise ConfigError(
                "data.samples: a rationale of one label would be a no to the others of its text; take a set with one label a "
                "text, such as evidence_inference"
            )
        self._model: SiteExplainable | None = None
        self._answers: list[list[str]] | None = None

    def settings(self) -> Mapping[str, Any]:
        values = {name: value for name, value in asdict(self.config).items() if name not in ("path", "threads")}
        return {**values, "set": self.kind, "data_sha256": marked_digest(self.config.path)}

    def arms(self) -> Sequence[Arm]:
        return [Arm(f"{self.kind}-{what}", self.config.seed) for what in (MODEL, RIVAL, *BY_WORD, *BY_SENTENCE)]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        what = arm.name.removeprefix(f"{self.kind}-")
        if what == RIVAL:
            return self._rival()
        model = self._trained(work, say)
        return self._quality(model) if what == MODEL else self._agreement(model, what, say)

    @cached_property
    def _marked(self) -> list[Marked]:
        return read_marked(self.config.path)

    @cached_property
    def _test(self) -> list[Marked]:
        return [each for each in self._marked if each.split == "test"]

    def _trained(self, work: Path, say: Say) -> "SiteExplainable":
        """The model of `work`, trained there if it is not yet."""
        if self._model is None:
            from engine.models.base import ModelSpec
            from engine.models.site_classifier import load
            from engine.models.site_classifier.attributable import SiteExplainable

            folder = work / f"{self.kind}_model"
            self._train(work / f"{self.kind}.parquet", folder, say)
            options = {"method": "none", "tasks": (), "precision": "fp32", "pair": run.PAIR.name}
            spec = ModelSpec("engine.models.site_classifier", str(folder), options, {"threads": self.config.threads})
            self._model = SiteExplainable(load(spec), TASK)
        return self._model

    def _train(self, file: Path, folder: Path, say: Say) -> None:
        config, kind = self.config, SETS[self.kind]
        table = training_table(self._marked, kind.multi_label)
        data = {"path": str(file), "group": "group", "labels": {TASK: TASK}, "multi_label": [TASK] if kind.multi_label else []}
        if config.samples:
            table = table.append_column("marks", pa.array([marks(each) for each in self._marked], MARKS))
            data |= {"rationales": "marks", "samples": config.samples}
        put_table(file, table)
        recipe = Recipe(
            seed=config.seed,
            encoder=config.encoder,
            window=config.window,
            epochs=config.epochs,
            batch=config.batch,
            rate=config.rate,
            micro_batch=config.micro_batch,
            threads=config.threads,
            evidence_sample=4,
        )
        command = f"python -m jobs.experiment experiment={self.name} data.path={config.path}"
        if config.samples:
            command += f" data.samples=[{','.join(config.samples)}]"
        train(recipe, {**data, "pair": PAIR if kind.paired else None}, folder, command, say)

    def _quality(self, model: "SiteExplainable") -> list[Result]:
        given, labels = self._given(model), model.labels
        gold = flags([each.labels for each in self._test], labels)
        return quality(gold, flags(given, labels), [each.group for each in self._test], self.config.rounds)

    def _rival(self) -> list[Result]:
        """TF-IDF with logistic regression on the texts of train and valid, each text with its question in front."""
        rest = [each for each in self._marked if each.split != "test"]
        labels = sorted({label for each in rest for label in each.labels})
        fitted, asked = ([f"{each.question or ''}\n{each.text}" for each in some] for some in (rest, self._test))
        if SETS[self.kind].multi_label:
            # One yes or no a label, as the model has it; a probability above one half is a yes.
            given = [
                fit_and_score(fitted, [str(label in each.labels) for each in rest], asked).predicted == "True" for label in labels
            ]
            chosen = np.array(given).T
        else:
            found = fit_and_score(fitted, [each.labels[0] for each in rest], asked).predicted
            chosen = flags([[label] for label in found], labels)
        gold = flags([each.labels for each in self._test], labels)
        return quality(gold, chosen, [each.group for each in self._test], self.config.rounds)

    def _given(self, model: "SiteExplainable") -> list[list[str]]:
        """The labels that the model gives to each text of the test split."""
        if self._answers is None:
            logits = matrix(model.system.scores(prepared_texts(model.system, self._test))[f"{TASK}_logits"])
            chosen = logits > 0 if model.multi_label else logits == logits.max(-1, keepdims=True)
            self._answers = [[label for label, yes in zip(model.labels, row, strict=True) if yes] for row in chosen]
        return self._answers

    def _agreement(self, model: "SiteExplainable", method: str, say: Say) -> list[Result]:
        asked = agreed(self._test, self._given(model))
        numbers = sorted({each.text for each in asked})
        few = drawn([self._test[number].record_id for number in numbers], self.config.texts(method), self.config.seed)
        chosen = {numbers[place] for place in few}
        asked = [each for each in asked if each.text in chosen]
        if not asked:
            return [Result(f"sentence_{MEASURES[0]}", None, n=0, note="the model gives no label that people gave")]
        found: dict[str, list[dict[str, float] | None]] = {}
        for start in range(0, len(asked), _TOGETHER):
            say(f"{method}: {start} of {len(asked)} labels")
            for unit, scores in self._part(model, method, asked[start : start + _TOGETHER]).items():
                found.setdefault(unit, []).extend(scores)
        groups = [self._test[each.text].group for each in asked]
        return [result for unit, scores in found.items() for result in means(unit, scores, groups, self.config.rounds)]

    def _part(self, model: "SiteExplainable", method: str, asked: Sequence[Asked]) -> dict[str, list[dict[str, float] | None]]:
        """The measures of some labels, by kind of unit."""
        from engine.explain.explain import explained, work_for
        from engine.explain.settings import Settings

        texts = [self._test[each.text] for each in asked]
        batch = batch_of(model, texts)
        bounds = [np.array(text.sentences, dtype=np.int64).reshape(-1, 2) for text in texts]
        targets = model.targets([each.label for each in asked])
        large = [words.merged("sentence", at[:, 0], at[:, 1]) for words, at in zip(batch.words, bounds, strict=True)]
        settings = Settings(tokens_per_pass=8192, residual=False, seed=self.config.seed, steps=self.config.steps)
        work = work_for(model, batch, targets, settings, large if method in BY_SENTENCE else None)
        explanations = {"sentence": explained(work, method)}
        if method in BY_WORD:
            fine = explanations["sentence"]
            explanations = {"word": fine, "sentence": [by_sentence(e, at) for e, at in zip(fine, bounds, strict=True)]}
        return {
            unit: [
                scored(
                    each,
                    text.spans[one.label],
                    len(text.text),
                    (text.record_id, one.label),
                    self.config.draws,
                    words_in(each, words) if unit == "sentence" else None,
                )
                for each, text, one, words in zip(some, texts, asked, batch.words, strict=True)
            ]
            for unit, some in explanations.items()
        }


def agreed(texts: Sequence[Marked], given: Sequence[Sequence[str]]) -> list[Asked]:
    """The labels that people gave and the model gives too, text by text."""
    return [
        Asked(number, label)
        for number, (text, labels) in enumerate(zip(texts, given, strict=True))
        for label in text.labels
        if label in labels
    ]


def scored(
    explanation: Explanation,
    spans: Sequence[Span],
    length: int,
    seeds: tuple[str, str],
    draws: int,
    sizes: NDArray | None = None,
) -> dict[str, float] | None:
    """The measures of `engine.explain.agreement` and, under a prefix of `CONTROLS`, the same of other weights.

    Args:
        length: characters of the text. seeds: record id and label; they seed the shuffles of the weights among the units, of
            whose `draws` the mean is taken. sizes: [n] words of each unit, a control of its own.
    Returns:
        None where no unit is marked, or none has a weight.
    """
    gold = gold_units(explanation.start, explanation.end, spans, length)
    if not gold.any() or explanation.degenerate:
        return None
    generator = np.random.default_rng(seed_of(*seeds, "rationale control"))
    found = _measured(explanation, explanation.weight, gold)
    shuffled = [_measured(explanation, generator.permutation(explanation.weight), gold) for _ in range(draws)]
    found |= {f"{RANDOM}{name}": float(np.mean([each[name] for each in shuffled])) for name in MEASURES}
    if sizes is not None:
        found |= {f"{LENGTH}{name}": value for name, value in _measured(explanation, sizes / sizes.sum(), gold).items()}
    return found


def _measured(explanation: Explanation, weight: NDArray, gold: NDArray) -> dict[str, float]:
    found = agreement(replace(explanation, weight=weight), gold)
    return {name: float(found[name]) for name in MEASURES}


def words_in(explanation: Explanation, words: Units) -> NDArray:
    """How many words begin in each unit [n]."""
    return np.searchsorted(words.start, explanation.end) - np.searchsorted(words.start, explanation.start)


def by_sentence(explanation: Explanation, bounds: NDArray) -> Explanation:
    """An explanation over words summed to sentences [n, 2]; a word belongs to the sentence that it begins in."""
    count = len(explanation.start)
    words = Units("word", explanation.start, explanation.end, np.arange(count))
    large = words.merged("sentence", bounds[:, 0], bounds[:, 1])
    inside = large.of_position >= 0
    score = np.bincount(large.of_position[inside], weights=explanation.score[inside], minlength=len(large))
    return from_units(large, score)


def means(unit: str, scores: Sequence[Mapping[str, float] | None], groups: Sequence[str], rounds: int) -> list[Result]:
    """The mean of each measure and of its controls, and what is gained over each, with intervals over groups drawn whole."""
    there = [number for number, each in enumerate(scores) if each is not None]
    without = len(scores) - len(there)
    note = f"{without} without a weight or a marked unit left out" if without else ""
    if not there:
        return [Result(f"{unit}_{name}", None, n=0, note=note) for name in MEASURES]
    known = scores[there[0]]
    columns: dict[str, Any] = {name: np.array([scores[number][name] for number in there]) for name in known}
    totals = Totals([groups[number] for number in there], {**columns, "n": np.ones(len(there))})
    figures = {}
    for name in MEASURES:
        figures[name] = ratio(name, "n")
        for prefix, (control, gain) in CONTROLS.items():
            if f"{prefix}{name}" in known:
                figures[f"{name}_{control}"] = ratio(f"{prefix}{name}", "n")
                figures[f"{name}_{gain}"] = _gain(name, f"{prefix}{name}")
    found = totals.estimates(figures, rounds)
    return [Result(f"{unit}_{name}", each.value, each.low, each.high, len(there), note) for name, each in found.items()]


def quality(gold: NDArray, chosen: NDArray, groups: Sequence[str], rounds: int) -> list[Result]:
    """Accuracy (every label right), micro- and macro-F1 of yes-or-no answers [n, labels], with intervals over groups.

    A label that nobody has in a resample counts in no mean of it.
    """
    right = (gold == chosen).all(1)
    columns: dict[Any, Any] = {"n": np.ones(len(gold)), "right": right}
    labels = range(gold.shape[1])
    for label in labels:
        yes, said = gold[:, label], chosen[:, label]
        columns |= {("hit", label): yes & said, ("given", label): said, ("gold", label): yes}

    def micro(of: Drawn) -> NDArray:
        hits, given, there = (of.many([(what, label) for label in labels]).sum(1) for what in ("hit", "given", "gold"))
        return divide(2 * hits, given + there)

    def macro(of: Drawn) -> NDArray:
        return mean_f1(*(of.many([(what, label) for label in labels]) for what in ("hit", "given", "gold")))

    figures = {"accuracy": ratio("right", "n"), "micro_f1": micro, "macro_f1": macro}
    found = Totals(groups, columns).estimates(figures, rounds)
    return [Result(name, each.value, each.low, each.high, len(gold)) for name, each in found.items()]


def flags(labels: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray:
    """Which of the labels `names` each text has, [texts, labels]."""
    return np.array([[name in some for name in names] for some in labels], dtype=bool).reshape(len(labels), len(names))


def drawn(record_ids: Sequence[str], count: int, seed: int) -> list[int]:
    """Numbers of `count` records (0: all), chosen by their ids, in order."""
    order = sorted(range(len(record_ids)), key=lambda number: seed_of(record_ids[number], "rationales", seed))
    return sorted(order[: count or None])


def _gain(name: str, control: str) -> Callable[[Drawn], NDArray]:
    return lambda of: divide(of[name] - of[control], of["n"])


def prepared_texts(coder: "SiteCoder", texts: Sequence[Marked]) -> pa.Table:
    """Texts as the coder reads them, in their order."""
    columns = ([getattr(text, name) for text in texts] for name in ("record_id", "text", "question"))
    prepared = coder.prepare(run.records_of(*columns)).sort_by("row")
    if pc.any(prepared["failure"].is_valid()).as_py():
        raise ConfigError("data.path: a text of the test split has no words")
    return prepared


def batch_of(model: "SiteExplainable", texts: Sequence[Marked]) -> "Reports":
    from engine.models.code_explainable import reports

    return reports(prepared_texts(model.system, texts))
