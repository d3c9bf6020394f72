"""Settings for calibrating a system of codes, see `engine.models.base.Calibration`; a system's module `calibrate` exports
them."""

from dataclasses import dataclass

from engine.keys import MISSING, key, same, section
from engine.models.code_columns import CodeData
from engine.models.options import CodeOptions, TextSettings

WORK = "engine.models.code_revision:revise"
METHODS = TEMPERATURE, ISOTONIC, PER_CLASS = ("temperature", "isotonic", "per_class")


@dataclass(frozen=True)
class Sample:
    path: str = key(
        MISSING,
        "Labelled reports: a Parquet, CSV or JSONL file, a folder or a glob. The model must not have been trained "
        "on them. The default target and confidence need at least 203 reports with a code, better 1,500; see "
        "target.",
        path=True,
    )
    id: str | None = key(None, "Column with the reports' ids, so that a repeated report counts once.")
    id_scope: str = key(
        "file", "Where ids are unique; 'input' for ids that are unique over all files.", choices=("input", "file")
    )
    text: str = key("text", "Column with the text.")
    labels: dict[str, str] = key({}, "Column with the right code for each task; {} takes the tasks' names.")
    group: str | None = key(None, "Column with the patient; all reports of a patient are held out together.")
    where: dict[str, str] = key({}, "Use only the rows with these values, such as {split: valid}.")


@dataclass(frozen=True)
class Dialect:
    encoding: str = same(CodeData, "encoding")
    delimiter: str | None = same(CodeData, "delimiter")
    quoting: str = same(CodeData, "quoting")
    escape: str | None = same(CodeData, "escape")


@dataclass(frozen=True)
class Data(Dialect, Sample):
    """Labelled reports, and how to read CSV and JSONL files."""


@dataclass(frozen=True)
class Settings(TextSettings):
    data: Data = section(Data)
    method: str = key(
        TEMPERATURE,
        "temperature: one threshold per task. isotonic: keeps the same reports, but calibrates the probabilities "
        "as well as the sample allows. per_class: a threshold for each code with enough reports, so that each of "
        "these codes reaches the target.",
        choices=METHODS,
    )
    target: float = key(
        0.98,
        "Share of coded reports that must be right. At confidence=0.95, a target of 0.98 needs at least 203 "
        "reports that are all coded correctly, 0.97 needs 135, 0.95 needs 80 and 0.9 needs 39; all folds but one "
        "must together have as many.",
        low=0.5,
        high=0.9999,
    )
    confidence: float = key(0.95, "Confidence with which the target must be reached.", low=0.5, high=0.9999)
    folds: int = key(
        5, "Parts that are held out in turn, to show the effect of the calibration on reports that it was not fitted to.", low=2
    )
    min_support: int = key(
        CodeOptions.min_support,
        "A code with fewer training reports than this always goes to review; use the same value as "
        "decision.min_support in your runs.",
        low=0,
    )
