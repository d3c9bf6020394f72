"""The keys that `jobs.calibrate` has for the site classifier beside those of every system of codes."""

from dataclasses import dataclass
from typing import Any

from engine.keys import key, section
from engine.models import code_calibrate
from engine.models.code_calibrate import WORK
from engine.models.run import PAIR
from engine.models.site_classifier.config import HEADS

__all__ = ["WORK", "Settings"]


@dataclass(frozen=True)
class Model:
    head: str | None = key(
        None, "Head to calibrate, one of those in the checkpoint; null is the checkpoint's own.", choices=HEADS
    )


@dataclass(frozen=True)
class _Sample(code_calibrate.Sample):
    pair: str | None = key(None, "Column with the second text, for a model that reads pairs.")


@dataclass(frozen=True)
class Data(code_calibrate.Dialect, _Sample):
    """The labelled reports."""


@dataclass(frozen=True)
class Settings(code_calibrate.Settings):
    data: Data = section(Data)
    model: Model = section(Model)

    def options(self) -> dict[str, Any]:
        pair = None if self.data.pair is None else PAIR.name
        return {**super().options(), "method": "none", "tasks": (), "pair": pair, "head": self.model.head}
