"""Runs a study: fits and measures every arm and stores its rows, so that the same command continues where the last one stopped.

The output folder has `arms/<corpus>/<arm>/<seed>.parquet` with the rows of each measured arm, beside it the arm's answers to each
text, for the comparisons, and `models/` with the trained models. At the end it also has `results.md` and `metrics.parquet`: all
rows, with means over seeds and comparisons. An arm whose rows are in docs/results/data with the same settings is not measured
again.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import reduce
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
from engine.studies.compare import Arms, one_family
from engine.studies.results import SCHEMA, Measured, table_of
from engine.studies.study import AFTER, AT, Arm, Study, read_study

DATA = Path(__file__).resolve().parents[2] / "docs" / "results" / "data"
_FOLDER = Kind("study", "holds another study ({changes}); choose a new folder")


class Model(Protocol):
    """The result of fitting an arm. The measures of the study know its further attributes."""

    folder: Path  # for a later study that starts from this model
    identity: str  # digest of everything that determines the model


@dataclass(frozen=True)
class Task:
    """An arm, with everything that fitting and measuring it need.

    `settings` are those of the arm, with references to other models resolved to folders. `identity` has digests of these models
    in place of the folders, so that a model fitted with equal settings can be recognised. `corpus` is the path of the corpus,
    `models` the folder of fitted models, which studies share.
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
        """The path of another corpus of the study."""
        return f"{self.data.rstrip('/')}/{self.study.corpora[corpus]}"


@dataclass(frozen=True)
class Place:
    """The folders of a study: `data` with the corpora, its own `output`, and `models`, which studies share.

    With `recorded`, rows in docs/results/data count as measured.
    """

    data: str
    output: Path
    models: Path
    threads: int = 0
    recorded: bool = True


class Runner:
    """Runs one study. Callers use `run`."""

    def __init__(self, study: Study, place: Place, say: Say) -> None:
        self.study, self.place, self.say = study, place, say
        self._models: dict[tuple[str, str], Model] = {}
        self.recorded, self._recorded_digests = results.read(record(study.name)) if place.recorded else (SCHEMA.empty_table(), {})

    def run(self, only: Sequence[str] = ()) -> pa.Table:
        """Measures the arms that have no rows yet; returns all rows, means and comparisons.

        Args:
            only: patterns such as `NCBI-disease/name/*`; arms that match none of them are not measured in this call.
        Raises:
            ConfigError: the folder holds another study, or an arm measured with other settings; or no arm matches `only`.
        """
        arms = self.study.arms()
        selected = [arm for arm in arms if not only or any(fnmatch(arm.key, pattern) for pattern in only)]
        if not selected:
            raise ConfigError(f"only: no arm matches it; the name of an arm is, for example, {arms[0].key}")
        digests = {arm.key: self.study.digest(arm) for arm in arms}
        claim(str(self.place.output.resolve()), {"study": self.study.name}, _FOLDER)
        for number, arm in enumerate(selected, start=1):
            if self._rows(arm) is not None:
                self.say(f"{arm.key}: measured before{'' if self._file(arm).is_file() else ', on record'}")
                continue
            self.say(f"{arm.key}: arm {number} of {len(selected)}")
            start = time.monotonic()
            self._measure(arm)
            self.say(f"{arm.key}: measured in {time.monotonic() - start:,.0f} s")
        return self._finish(arms, digests)

    def model(self, study: Study, arm: Arm) -> Model:
        """The fitted model of an arm; the last one stays in memory."""
        key = (study.name, arm.key)
        if key not in self._models:
            # A study rarely needs two models at once, and all of them are stored in the folder of models.
            self._models = {key: function_of(study, study.fit, "fit")(self.task(study, arm))}
        return self._models[key]

    def task(self, study: Study, arm: Arm) -> Task:
        """The task of an arm. Fits the models that its settings refer to."""
        settings, identity = {}, {}
        for name, value in arm.settings.items():
            settings[name] = identity[name] = value
            if isinstance(value, Mapping) and AFTER in value:
                model, template = self._referenced_model(arm, value), value.get(AT, "{folder}")
                settings[name], identity[name] = (
                    template.replace("{folder}", str(part)) for part in (model.folder, model.identity)
                )
        path = f"{self.place.data.rstrip('/')}/{study.corpora[arm.corpus]}"
        place = self.place
        return Task(study, arm, settings, identity, path, place.models, place.threads, self.say, place.data)

    def _referenced_model(self, arm: Arm, value: Mapping[str, Any]) -> Model:
        """The model that a setting `{after: <study>, ...}` refers to."""
        levels = {key: level for key, level in value.items() if key != AT}
        study = self.study if levels[AFTER] == self.study.name else read_study(levels[AFTER])
        del levels[AFTER]
        return self.model(study, study.arm(levels.pop("corpus", arm.corpus), arm.seed, levels))

    def _file(self, arm: Arm) -> Path:
        return self.place.output / "arms" / f"{arm.key}.parquet"

    def _rows(self, arm: Arm) -> pa.Table | None:
        """The rows of an arm, from this folder or from docs/results/data; None if it is not measured yet."""
        if self._file(arm).is_file():
            rows, digests = results.read(self._file(arm))
            if digests.get(arm.key) != self.study.digest(arm):
                raise ConfigError(
                    f"output.path: {self._file(arm)} was measured with other settings; remove it, or choose a new folder"
                )
            return rows
        if self._recorded_digests.get(arm.key) != self.study.digest(arm):
            return None
        columns = {"corpus": arm.corpus, "arm": arm.name, "seed": arm.seed}
        return self.recorded.filter(reduce(pc.and_, [pc.equal(self.recorded[name], value) for name, value in columns.items()]))

    def _measure(self, arm: Arm) -> None:
        task, model, rows = self.task(self.study, arm), self.model(self.study, arm), []
        for name in self.study.measure:
            measured: Measured = function_of(self.study, name, "measure")(model, task)
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
        return [pq.read_table(path) for path in sorted(file.parent.glob(f"{file.name}.*.answers"))]

    def _finish(self, arms: Sequence[Arm], digests: Mapping[str, str]) -> pa.Table:
        """Writes and returns all rows: those of the arms, and for each corpus the means and comparisons that follow from them.

        Comparisons need answers, which docs/results/data does not have. Where the answers are missing here, the comparisons come
        from there, if all arms have the settings that they had there.
        """
        by_arm = {arm.key: self._rows(arm) for arm in arms}
        measured = {key: digests[key] for key, rows in by_arm.items() if rows is not None}
        rows = pa.concat_tables([SCHEMA.empty_table(), *(table for table in by_arm.values() if table is not None)])
        by_corpus = {corpus: Arms(self.study, corpus, rows, self._answers) for corpus in self.study.corpora}
        summaries = [(corpus, *each) for corpus, of_corpus in by_corpus.items() for each in of_corpus.means()]
        for comparison in self.study.compare:
            compared = [(corpus, *each) for corpus, of_corpus in by_corpus.items() for each in of_corpus.compared(comparison)]
            summaries += one_family(compared) if comparison.together else compared
        made = [table_of(self.study.name, corpus, arm, None, [row]) for corpus, arm, row in summaries]
        table = pa.concat_tables([rows, *made])
        unchanged = all(self._recorded_digests.get(key) == digest for key, digest in digests.items())
        names = {arm.name for arm in arms} if unchanged else set()
        present = {_summary_key(row) for row in table.to_pylist() if row["seed"] is None}
        recorded = [
            row
            for row in self.recorded.to_pylist()
            if row["seed"] is None and row["arm"] in names and _summary_key(row) not in present
        ]
        table = pa.concat_tables([table, pa.Table.from_pylist(recorded, schema=SCHEMA)])
        results.write(self.place.output / "metrics.parquet", table, measured)
        return table


def _summary_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("corpus", "arm", "metric", "slice"))


def record(study: str) -> Path:
    """The file in docs/results/data with the recorded rows of a study."""
    return DATA / f"{study.replace('/', '.')}.parquet"


def function_of(study: Study, name: str, kind: str) -> Callable[..., Any]:
    """The function called `kind`, such as `fit` or `measure`, in the module `name`.

    The module is in the folder for the study's system in this package, or else in this package itself. A name with dots is the
    full name of a module.

    Raises:
        ConfigError: there is no such module or function.
    """
    packages = [f"{__package__}.{study.system}", __package__]
    for module in [name] if "." in name else [f"{package}.{name}" for package in packages if importlib.util.find_spec(package)]:
        if importlib.util.find_spec(module):
            function = getattr(importlib.import_module(module), kind, None)
            if function is not None:
                return function
    raise ConfigError(f"study: {study.name}: there is no {kind} '{name}' for {study.system}")
