"""Small finished runs of tiny models over synthetic reports and made-up sentences, made without Ray."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from engine.models.base import ModelSpec
from engine.pipeline import ClusterConfig, RunConfig
from engine.sources import InputConfig
from engine.sources.synthetic import generate
from tests.models.conftest import write_tiny
from tests.models.prompt_mrc.conftest import World, scattered, tiny_learner
from tests.models.prompt_mrc.conftest import tiny_config as mrc_config
from tests.models.prompt_mrc.conftest import write as write_extractor
from tests.pipeline.conftest import Bench


@dataclass(frozen=True)
class CodedRun:
    """Where the labelled reports, the checkpoint and the run's output are."""

    reports: Path
    model: Path
    output: Path

    @property
    def codes(self) -> pl.DataFrame:
        return pl.read_parquet(self.output / "codes" / "*.parquet")

    @property
    def entities(self) -> pl.DataFrame:
        return pl.read_parquet(self.output / "entities" / "*.parquet")


@pytest.fixture(scope="session")
def coded_run(tmp_path_factory: pytest.TempPathFactory) -> CodedRun:
    """60 reports of 30 patients and one without text; every third row of evidence is checked."""
    folder = tmp_path_factory.mktemp("coded")
    table = pl.from_arrow(generate(60, 5, median_words=30, skew="uniform"))
    known = pl.Series(["C18", "C34", "C50", "C61"] * 15)
    table = table.with_columns(
        patient=pl.int_range(60) // 2,
        split=pl.Series(["train", "test", "test"] * 20),
        site=pl.when(pl.int_range(60) % 5 > 0).then(known).otherwise(pl.col("site")),
        text=pl.when(pl.int_range(60) == 1).then(None).otherwise(pl.col("text")),
    )
    table.write_parquet(folder / "reports.parquet")
    model = write_tiny(folder / "model")
    options = {"precision": "fp32", "checks": 0.3, "tasks": ("site",)}
    spec = ModelSpec("engine.models.site_classifier", str(model), options, {"threads": 1})
    read = InputConfig(str(folder / "reports.parquet"), id="record_id", keep=("facility",))
    bench = Bench(RunConfig(read, spec, str(folder / "run"), ClusterConfig()))
    bench.code()
    bench.publish()
    return CodedRun(folder / "reports.parquet", model, folder / "run")


<<<<<<< HEAD
@dataclass(frozen=True)
class FoundRun:
    """Where the marked texts are, as BRAT's files and as a table, and the output of a run over the files."""

    folder: Path
    table: Path
    output: Path


@pytest.fixture(scope="session")
def found_run(tmp_path_factory: pytest.TempPathFactory) -> FoundRun:
    """Twelve texts of six patients, read by a system that knows three words; one mark in each that it finds, and one that it
    does not."""
    folder = tmp_path_factory.mktemp("found")
    rows = []
    for number in range(12):
        text = f"Report {number}: patient {number // 2} has no Pain after aspirin, and a rash{', cut' * (number == 3)}."
        spans = [("Sign", text.index("Pain"), "Pain"), ("Sign", text.index("rash"), "rash")]
        (folder / "brat").mkdir(exist_ok=True)
        (folder / "brat" / f"n{number}.txt").write_text(text)
        lines = [f"T{at}\t{kind} {start} {start + len(word)}\t{word}\n" for at, (kind, start, word) in enumerate(spans, 1)]
        (folder / "brat" / f"n{number}.ann").write_text("".join(lines))
        marks = [{"start": start, "end": start + len(word), "type": kind} for kind, start, word in spans]
        rows.append({"record_id": f"n{number}.txt", "text": text, "spans": marks, "patient": f"p{number // 2}", "year": 2020})
    pl.DataFrame(rows).write_parquet(folder / "marked.parquet")
    spec = ModelSpec("tests.toys.listed", "", {"words": {"Sign": ["pain"], "Drug": ["aspirin", "pain"]}}, {})
    bench = Bench(RunConfig(InputConfig(str(folder / "brat" / "*.txt"), None), spec, str(folder / "run"), ClusterConfig()))
    bench.code()
    bench.publish()
    return FoundRun(folder / "brat", folder / "marked.parquet", folder / "run")
=======
@pytest.fixture(scope="session")
def entities_run(tmp_path_factory: pytest.TempPathFactory) -> CodedRun:
    """Seven sentences and one record without text, searched by an extractor that was not trained."""
    folder = tmp_path_factory.mktemp("entities")
    texts = [*World.make(7).texts[:7], None]
    table = pl.DataFrame({"record_id": [f"r{at}" for at in range(8)], "text": [text and text[:40] for text in texts]})
    table.write_parquet(folder / "reports.parquet")
    learner = tiny_learner(mrc_config(), World.make(2))
    scattered(learner.network)
    model = write_extractor(learner, folder / "model", start=1e-9, end=1e-9, match=1e-9, nested=False)
    options = {"precision": "fp32", "types": ("A",), "every": True, "questions": {"B": "which tree, or hill, is named"}}
    spec = ModelSpec("engine.models.prompt_mrc", str(model), options, {"threads": 1})
    read = InputConfig(str(folder / "reports.parquet"), id="record_id")
    bench = Bench(RunConfig(read, spec, str(folder / "run"), ClusterConfig()))
    bench.code()
    bench.publish()
    return CodedRun(folder / "reports.parquet", model, folder / "run")
>>>>>>> w-d
