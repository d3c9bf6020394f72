"""What it costs to train on pairs that are streamed: peak memory, pairs a second, and disk, for corpora of several sizes.

The corpus is made of radiographs of 64 pixels with their reports; encoders are tiny, and that of images is trained, so that an
example is an image's pixels. Time and disk for the published 0.87 million pairs follow from the measured ones. Memory is that of
driver and workers, each part of the work in turn, in a process that did nothing else.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.benchmarks import child
from engine.models.base import recipe
from engine.models.clear.concepts import bank_table, observation_table
from engine.models.clear.config import LearnConfig, ModelConfig
from engine.models.findings.studies import StudyData
from engine.pipeline import tables
from engine.sources.labelled import Labelled
from engine.sources.synthetic import CorpusConfig, write
from engine.sources.synthetic.radiographs import Radiographs as Made
from engine.studies.clear.radiographs import SPLITTER
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.fit import FitConfig, session
from engine.training.fit import fit as fit_on_ray

SYSTEM = "engine.models.clear"
IMAGE, TEXT, PIXELS = "tiny:lite0", "tiny:bert", 64
PUBLISHED = 870_000
"""Pairs that the published model was trained on."""
_FILE = 5000


@dataclass(frozen=True)
class Pairs:
    """See `engine.studies.run.Model`: a corpus of `count` pairs, and a concept bank."""

    folder: Path
    identity: str
    count: int
    bank: str


@dataclass(frozen=True)
class Cost:
    """Of a part of the work: seconds, and peak MiB of driver and workers together and each."""

    seconds: float
    peak: float
    driver: float
    workers: float


@dataclass(frozen=True)
class Costs:
    """Of writing the examples, and of the training on them; `rate` are pairs trained on in a second, start-up apart;
    `bytes` is the size of the `examples`."""

    preparing: Cost
    training: Cost
    examples: int
    rate: float
    bytes: int


def fit(task: Task) -> Pairs:
    """Makes the corpus, unless it is there, and a bank of the observations in its first reports."""
    count = int(task.settings["stream.pairs"])
    identity = f"stream-{count}"
    folder = task.models / "clear" / identity
    write(CorpusConfig(str(folder / "corpus"), count, Made(seed=1, pixels=PIXELS), file_records=_FILE))
    first = str(folder / "corpus" / "corpus-00000.parquet")
    observed, settings = observation_table(Labelled(first, id="record_id", text="report"), SPLITTER)
    observations = tables.make(observed, settings, str(folder / "bank"), task.say)
    bank = tables.make(*bank_table(observations, TEXT, "", 2), str(folder / "bank"), task.say)
    return Pairs(folder, identity, count, bank)


def measure(pairs: Pairs, task: Task) -> Measured:
    """Peaks in MiB, pairs a second, bytes of a pair, and hours and GB for `PUBLISHED` pairs in one epoch."""
    costs: Costs = child.call(streamed, pairs, settings_of(pairs, task), _loop(task), task.threads)
    parts = {"preparing": (costs.preparing, pairs.count / costs.preparing.seconds), "training": (costs.training, costs.rate)}
    rows = [Row("examples", float(costs.examples), n=pairs.count)]
    for name, (cost, rate) in parts.items():
        rows += [Row(f"{part}_mib", getattr(cost, part), n=pairs.count, slice=name) for part in ("peak", "driver", "workers")]
        rows.append(Row("pairs_per_second", rate, n=pairs.count, slice=name))
        rows.append(Row("hours_for_published", PUBLISHED / rate / 3600, n=PUBLISHED, slice=name, note="extrapolated"))
    each = costs.bytes / costs.examples
    rows.append(Row("bytes_of_a_pair", each, n=costs.examples))
    rows.append(Row("gb_for_published", PUBLISHED * each / 1e9, n=PUBLISHED, note="extrapolated"))
    return Measured(rows)


def settings_of(pairs: Pairs, task: Task) -> dict[str, Any]:
    """The settings of the training, in which the image encoder is trained too."""
    data = StudyData(str(pairs.folder / "corpus"), id="record_id", split=None, held=int(task.settings["stream.held"]))
    model = ModelConfig(bank=pairs.bank, image=IMAGE, text=TEXT, width=32)
    sections = {"data": data, "model": model, "learn": LearnConfig(image=True)}
    return {name: asdict(each) for name, each in sections.items()} | {"precision": "fp32", "seed": task.arm.seed}


def _loop(task: Task) -> LoopConfig:
    own = {name: task.settings[f"stream.{name}"] for name in ("epochs", "batch")}
    return LoopConfig(**own, seed=task.arm.seed, validated=False, checkpoint_every=1_000_000)


def streamed(pairs: Pairs, settings: Mapping[str, Any], loop: LoopConfig, threads: int) -> Costs:
    """Writes the examples through Ray Data and trains on them by Ray Train."""
    made = recipe(SYSTEM)
    with tempfile.TemporaryDirectory(dir=pairs.folder) as work:
        examples, scratch = f"{work}/examples", Path(work, "sorting")
        with _Measuring() as preparing, session():
            corpus = made.corpus(settings)
            index = write_examples(corpus.preparation(), examples, scratch)
        (phase,) = made.phases(corpus.settings)
        config = FitConfig(phase.learner, {**corpus.settings, "examples": examples}, loop, threads=threads)
        speeds: list[float] = []
        with _Measuring() as training:
            fit_on_ray(config, Path(work, "fit"), lambda row: speeds.append(row["steps_per_second"]))
        size = sum(file.stat().st_size for file in Path(examples).iterdir())
    # The first report also counts what is done once.
    steady = speeds[1:] or speeds
    rate = loop.batch * len(steady) / sum(1 / speed for speed in steady)
    return Costs(preparing.cost, training.cost, sum(index.reports) + sum(index.valid), rate, size)


class _Measuring:
    """Measures the cost of a block."""

    cost: Cost

    def __enter__(self) -> "_Measuring":
        from engine.benchmarks.memory import PeakMemory

        self._memory, self._begun = PeakMemory(), time.perf_counter()
        self._memory.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._memory.__exit__(*error)
        seconds = time.perf_counter() - self._begun
        self.cost = Cost(seconds, self._memory.peak, self._memory.driver, self._memory.workers)
