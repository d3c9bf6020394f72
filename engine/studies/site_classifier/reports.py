"""Reports of the test split whose answers are explained: as many as `explain.sample` says, of each code its share of all."""

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import ReportSurvey
from engine.records import seed_of
from engine.studies.explaining import Options, Text, Texts, spread
from engine.studies.run import Task
from engine.studies.settings import options
from engine.text.units import sentences


def texts(task: Task, settings: Options) -> Texts:
    """The reports; settings `data.<name>` are those of `jobs.train`.

    Raises:
        ConfigError: no report of test has a label of the task.
    """
    examples = ReportSurvey.of(options(DataConfig, task, "data", path=task.corpus)).examples(("test",))
    if settings.task not in examples.column_names:
        raise ConfigError(f"explain.task: data.labels has no task '{settings.task}'")
    test = examples.filter(pc.is_valid(examples[settings.task]))
    if not len(test):
        raise ConfigError("data.split: no report of test has a label")
    rows = stratified(test, settings.task, settings.sample or len(test)).to_pylist()
    bounds = [list(zip(*sentences(row["text"]), strict=True)) for row in rows]
    return Texts(
        [Text(row["record_id"], row["group"], row["text"], at, row["pair"]) for row, at in zip(rows, bounds, strict=True)]
    )


def stratified(table: pa.Table, task: str, count: int) -> pa.Table:
    """`count` rows, or all where there are fewer: of each code its share of all, within a row; which ones goes by their ids."""
    ids, codes = table["record_id"].to_pylist(), table[task].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: (codes[row], seed_of(ids[row], "sample"), ids[row]))
    return table.take(pa.array([order[place] for place in spread(min(count, len(order)), len(order))]))
