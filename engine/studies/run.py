"""Runs a study: every arm is fitted and measured and its rows are kept, so that the same command goes on where it stopped.

A folder holds `arms/<corpus>/<arm>/<seed>.parquet` with the rows of a measured arm, beside them its answers to each text for the
comparisons, `models/` with what was trained, and in the end `metrics.parquet` with all rows, means over seeds and comparisons
among them, and `results.md`. An arm whose rows stand in docs/results/data with the same settings is measured already.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.models.base import Say
from engine.storage import whole_file
from engine.storage.claim import Kind, claim
from engine.studies import results
from engine.studies.compare import Arms
from engine.studies.results import SCHEMA, Measured, table_of
from engine.studies.study import AFTER, AT, Arm, Study, read_study

DATA = Path(__file__).resolve().parents[2] / "docs" / "results" / "data"
_FOLDER = Kind("study", "holds another study ({changes}); choose a new folder")


class Model(Protocol):
    """What an arm's fit gives. A measure takes it and knows what else it has."""

    folder: Path  # what a later study goes on from
    identity: str  # digest of all that it learned from


@dataclass(frozen=True)
class Task:
    """One arm, with what is needed to fit and measure it.

    `settings` are the arm's with references resolved to folders; `identity` has digests in their place, for whoever looks for a
    model that was fitted alike. `corpus` is the path of the corpus, `models` a folder for what is fitted, which studies share.
    """

    study: Study
    arm: Arm
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    corpus: str
    models: Path
    threads: int
    say: Say
    data: str = ""

    def path(self, corpus: str) -> str:
        """Where another corpus of the study is."""
        return f"{self.data.rstrip('/')}/{self.study.corpora[corpus]}"


@dataclass(frozen=True)
class Place:
    """Where a study reads and writes: the folder of its corpora, its own folder, and one for models that studies share."""

    data: str
    output: Path
    models: Path
    threads: int = 0
    recorded: bool = True


class Runner:
    """A study on its way; `run` is what a caller wants."""

    def __init__(self, study: Study, place: Place, say: Say) -> None:
        self.study, self.place, self.say = study, place, say
        self._models: dict[tuple[str, str], Model] = {}
        self.recorded, self._arms = results.read(record(study.name)) if place.recorded else (SCHEMA.empty_table(), {})

    def run(self, only: Sequence[str] = ()) -> pa.Table:
        """Measures the arms that have no rows yet; returns all rows, means and comparisons.

        Args:
            only: patterns such as `NCBI-disease/name/*`; arms that fit none of them are left for another time.
        Raises:
            ConfigError: the folder holds another study, or an arm that was measured with other settings; no arm fits a pattern.
        """
        arms = self.study.arms()
        wanted = [arm for arm in arms if not only or any(fnmatch(arm.key, pattern) for pattern in only)]
        if not wanted:
            raise ConfigError(f"only: no arm fits it; arms are called such as {arms[0].key}")
        digests = {arm.key: self.study.digest(arm) for arm in arms}
        claim(str(self.place.output.resolve()), {"study": self.study.name}, _FOLDER)
        for number, arm in enumerate(wanted, start=1):
            if self._rows(arm) is not None:
                self.say(f"{arm.key}: measured before")
                continue
            self.say(f"{arm.key}: arm {number} of {len(wanted)}")
            start = time.monotonic()
            self._measure(arm)
            self.say(f"{arm.key}: measured in {time.monotonic() - start:,.0f} s")
        return self._finish(arms, digests)

    def model(self, study: Study, arm: Arm) -> Model:
        """The model of an arm, fitted once."""
        key = (study.name, arm.key)
        if key not in self._models:
            # Of several models of a study hardly two are needed at once; they stand in the folder of models.
            self._models = {key: part(study, study.fit, "fit")(self.task(study, arm))}
        return self._models[key]

    def task(self, study: Study, arm: Arm) -> Task:
        settings, identity = {}, {}
        for name, value in arm.settings.items():
            settings[name] = identity[name] = value
            if isinstance(value, Mapping) and AFTER in value:
                model, form = self._after(arm, value), value.get(AT, "{folder}")
                settings[name], identity[name] = (form.replace("{folder}", str(each)) for each in (model.folder, model.identity))
        path = f"{self.place.data.rstrip('/')}/{study.corpora[arm.corpus]}"
        place = self.place
        return Task(study, arm, settings, identity, path, place.models, place.threads, self.say, place.data)

    def _after(self, arm: Arm, value: Mapping[str, Any]) -> Model:
        levels = {key: level for key, level in value.items() if key != AT}
        study = self.study if levels[AFTER] == self.study.name else read_study(levels[AFTER])
        del levels[AFTER]
        return self.model(study, study.arm(levels.pop("corpus", arm.corpus), arm.seed, levels))

    def _file(self, arm: Arm) -> Path:
        return self.place.output / "arms" / f"{arm.key}.parquet"

    def _rows(self, arm: Arm) -> pa.Table | None:
        """The rows of a measured arm, from this folder or from the record."""
        if self._file(arm).is_file():
            rows, digests = results.read(self._file(arm))
            if digests.get(arm.key) != self.study.digest(arm):
                raise ConfigError(
                    f"output.path: {self._file(arm)} was measured with other settings; remove it, or choose a new folder"
                )
            return rows
        if self._arms.get(arm.key) != self.study.digest(arm):
            return None
        same = [pc.equal(self.recorded[name], value) for name, value in (("corpus", arm.corpus), ("arm", arm.name))]
        return self.recorded.filter(pc.and_(pc.and_(*same), pc.equal(self.recorded["seed"], arm.seed)))

    def _measure(self, arm: Arm) -> None:
        task, model, rows = self.task(self.study, arm), self.model(self.study, arm), []
        for name in self.study.measure:
            measured: Measured = part(self.study, name, "measure")(model, task)
            rows += measured.rows
            if measured.answers is not None:
                file = self._file(arm).with_suffix(f".{name}.answers")
                file.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(file) as written:
                    pq.write_table(measured.answers, written, compression="zstd")
        table = table_of(self.study.name, arm.corpus, arm.name, arm.seed, rows)
        results.write(self._file(arm), table, {arm.key: self.study.digest(arm)})

    def _answers(self, key: str) -> list[pa.Table]:
        file = self.place.output / "arms" / key
        return [pq.read_table(each) for each in sorted(file.parent.glob(f"{file.name}.*.answers"))]

    def _finish(self, arms: Sequence[Arm], digests: Mapping[str, str]) -> pa.Table:
        """All rows in one table: those of the arms, and for each corpus the means and comparisons that can be made of them. What
        the record has and cannot be made anew here, for want of answers, is taken from there."""
        parts = {arm.key: self._rows(arm) for arm in arms}
        measured = {key: digests[key] for key, rows in parts.items() if rows is not None}
        rows = pa.concat_tables([SCHEMA.empty_table(), *(each for each in parts.values() if each is not None)])
        made: list[pa.Table] = []
        for corpus in self.study.corpora:
            of = Arms(self.study, corpus, rows, self._answers)
            over = [*of.means(), *(row for comparison in self.study.compare for row in of.compared(comparison))]
            made += [table_of(self.study.name, corpus, arm, None, [row]) for arm, row in over]
        table = pa.concat_tables([rows, *made])
        same = {arm.name for arm in arms} if all(self._arms.get(key) == digest for key, digest in digests.items()) else set()
        have = {(row["corpus"], row["arm"], row["metric"], row["slice"]) for row in table.to_pylist() if row["seed"] is None}
        kept = [
            row
            for row in self.recorded.to_pylist()
            if row["seed"] is None and row["arm"] in same and (row["corpus"], row["arm"], row["metric"], row["slice"]) not in have
        ]
        table = pa.concat_tables([table, pa.Table.from_pylist(kept, schema=SCHEMA)])
        results.write(self.place.output / "metrics.parquet", table, measured)
        return table


def record(study: str) -> Path:
    """The file in docs/results/data that keeps a study's rows."""
    return DATA / f"{study.replace('/', '.')}.parquet"


def part(study: Study, name: str, kind: str) -> Callable[..., Any]:
    """The function `fit` or `measure` of a module of this package, or of the folder that it has for the study's system; a name
    with dots is that of a module anywhere.

    Raises:
        ConfigError: there is none.
    """
    packages = [f"{__package__}.{study.system}", __package__]
    for module in [name] if "." in name else [f"{package}.{name}" for package in packages if importlib.util.find_spec(package)]:
        if importlib.util.find_spec(module):
            function = getattr(importlib.import_module(module), kind, None)
            if function is not None:
                return function
    raise ConfigError(f"study: {study.name}: there is no {kind} '{name}' for {study.system}")
