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
        "Labelled reports: a Parquet, CSV or JSONL file, a folder or a glob; none that the model learned from. At least 203 with "
        "a code for the default target and confidence, better 1,500; see target.",
        path=True,
    )
    id: str | None = key(None, "Column with the reports' ids, so that a repeated report counts once.")
    id_scope: str = key(
        "file", "Where ids are unique; 'input' for ids that are unique over all files.", choices=("input", "file")
    )
    text: str = key("text", "Column with the text.")
    labels: dict[str, str] = key({}, "Column with the right code, by task; {} is the tasks' names.")
    group: str | None = key(None, "Column of the patient, whose reports are held out together.")
    where: dict[str, str] = key({}, "Take the rows with these values only, such as {split: valid}.")


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
        "temperature: one threshold per task. isotonic: the same reports are kept, with probabilities as honest as the sample "
        "allows. per_class: a threshold for each code with enough reports, so that the promise holds for each of them.",
        choices=METHODS,
    )
    target: float = key(
        0.98,
        "Share right that coded reports must reach. At confidence=0.95 it takes at least 203 reports without an error for 0.98, "
        "135 for 0.97, 80 for 0.95, 39 for 0.9; to show the effect, all folds but one must have as many.",
        low=0.5,
        high=0.9999,
    )
    confidence: float = key(0.95, "Confidence with which they must reach it.", low=0.5, high=0.9999)
    folds: int = key(
        5, "Parts that are held out in turn, to show the effect of the calibration on reports that it has not seen.", low=2
    )
    min_support: int = key(
        CodeOptions.min_support,
        "A code with fewer training reports than this always goes to review; as decision.min_support.",
        low=0,
    )
