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
        "with text and spans. The model must not have been trained on them. "
        f"They need at least {LEAST} mentions of the model's types, better {ENOUGH} or more.",
        path=True,
    )
    id: str | None = key(None, "Column with the texts' ids, in tables; null looks for a column with one of the usual names.")
    split: str | None = key(None, "Use only the texts of this split; null uses all.", choices=SPLITS)
    types: Mapping[str, str] = key(
        {}, "The model's names for types that are marked under other names, such as {Disorder: Disease}."
    )


@dataclass(frozen=True)
class Settings(TextSettings):
    data: Data = section(Data)
    folds: int = key(
        5, "Parts that are held out in turn, to show the effect of new thresholds on texts that they were not fitted to.", low=2
    )

    def options(self) -> dict[str, Any]:
        return {**super().options(), "evidence": "none", "margins": 0.0}
