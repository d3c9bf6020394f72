"""Entities of reports whose evidence is explained: of each report `MOST`, evenly spaced over all that the model gives."""

import pyarrow as pa

from engine.errors import ConfigError
from engine.models.base import System
from engine.records import seed_of
from engine.sources.labelled import Labelled, Reader
from engine.sources.labelled.documents import split_called
from engine.sources.labelled.splits import VALID
from engine.studies.explaining import Options, Target, Text, Texts, spread
from engine.studies.run import Task

MOST = 4


class EntityTexts(Texts):
    """See `Texts`."""

    def targets(self, system: System, prepared: pa.Table) -> list[Target]:
        return [
            Target(row["row"], entities[at]["type"], (entities[at]["start"], entities[at]["end"]))
            for row in sorted(system.run(prepared).to_pylist(), key=lambda row: row["row"])
            for entities in [row["entities"]]
            for at in spread(min(MOST, len(entities)), len(entities)).tolist()
        ]


def texts(task: Task, settings: Options) -> Texts:
    """Reports of the split valid, since a method is chosen by them; `explain.sample` of them, drawn by their ids.

    Raises:
        ConfigError: there is no report.
    """
    table = Labelled(task.corpus, text="text", split="split")
    rows = [row for rows in Reader(table).tables() for row in rows.to_pylist() if row["text"]]
    valid = [row for row in rows if split_called(row["split"]) == VALID]
    if not valid:
        raise ConfigError("data.path: no report belongs to valid")
    valid.sort(key=lambda row: seed_of(row["record_id"], "sample"))
    drawn = valid[: settings.sample or len(valid)]
    return EntityTexts([Text(row["record_id"], row["record_id"], row["text"]) for row in drawn])
