"""What calibrating the extractor takes: see `engine.models.base.Calibration`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.keys import MISSING, key, section
from engine.models.options import TextSettings
from engine.sources.labelled.documents import SPLITS

WORK = f"{__package__}.revision:revise"
LEAST, ENOUGH = 50, 200
"""Marked mentions without which no thresholds are set, and with which they are sure."""


@dataclass(frozen=True)
class Data:
    path: str = key(
        MISSING,
        "Texts with marked mentions: BRAT, IOB2, GENIA, Parquet with text and spans or tokens and tags, or a CSV or JSONL file "
        "with text and spans; none that the model learned from. "
        f"At the least {LEAST} mentions of the model's types, better {ENOUGH} and more.",
        path=True,
    )
    id: str | None = key(None, "Column of tables with the texts' ids; null looks for one by its usual names.")
    split: str | None = key(None, "Take the texts of this split alone; null is all.", choices=SPLITS)
    types: Mapping[str, str] = key({}, "The model's name for a type that was marked by another one, such as {Disorder: Disease}.")


@dataclass(frozen=True)
class Settings(TextSettings):
    data: Data = section(Data)
    folds: int = key(5, "Parts that are held out in turn, to show what new thresholds do to texts they have not seen.", low=2)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "evidence": "none", "margins": 0.0}
