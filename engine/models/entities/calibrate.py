"""Settings for calibrating a system of entities, see `engine.models.base.Calibration`; a system's module `calibrate` exports
them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.keys import MISSING, key, section
from engine.models.options import TextSettings
from engine.sources.labelled.documents import SPLITS

WORK = f"{__package__}.revision:revise"
LEAST, ENOUGH = 50, 200
"""Marked mentions that are needed to tune thresholds, and to make them reliable."""


@dataclass(frozen=True)
class Data:
    path: str = key(
        MISSING,
        "Texts with marked mentions: BRAT, IOB2, GENIA, Parquet with text and spans or tokens and tags, or a CSV or JSONL file "
        "with text and spans. The model must not have learned from them. "
        f"At least {LEAST} mentions of the model's types, better {ENOUGH} or more.",
        path=True,
    )
    id: str | None = key(None, "Column of tables with the texts' ids; null looks for one by its usual names.")
    split: str | None = key(None, "Use only the texts of this split; null uses all.", choices=SPLITS)
    types: Mapping[str, str] = key({}, "The model's names for types that are marked by other names, such as {Disorder: Disease}.")


@dataclass(frozen=True)
class Settings(TextSettings):
    data: Data = section(Data)
    folds: int = key(5, "Parts that are held out in turn, to measure new thresholds on texts they were not tuned on.", low=2)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "evidence": "none"}
