"""What calibrating the site classifier takes: see `engine.models.base.Calibration`."""

from dataclasses import dataclass

from engine.keys import MISSING, key, section
from engine.models.options import PromiseSettings
from engine.models.site_classifier.config import CALIBRATIONS, HEADS
from engine.sources.base import DOUBLE, QUOTING

WORK = f"{__package__}.revision:revise"


@dataclass(frozen=True)
class Model:
    head: str | None = key(
        None, "Head to calibrate, of those that were trained for it; null is the checkpoint's own.", choices=HEADS
    )


@dataclass(frozen=True)
class Data:
    path: str = key(
        MISSING,
        "Labelled reports: a Parquet, CSV or JSONL file, a folder or a glob; none that the model learned from. At the least 203 "
        "with a code for the default target and confidence, better 1,500; see target.",
        path=True,
    )
    id: str | None = key(None, "Column with the reports' ids, so that one that stands twice counts once.")
    id_scope: str = key(
        "file", "Where ids are unique; 'input' for ids that are unique over all files.", choices=("input", "file")
    )
    text: str = key("text", "Column with the text.")
    labels: dict[str, str] = key({}, "Column with the right code, for each task; {} is the tasks' names.")
    group: str | None = key(None, "Column of the patient, whose reports are held out together.")
    where: dict[str, str] = key({}, "Take the rows with these values only, such as {split: valid}.")
    pair: str | None = key(None, "Column with the second text, for a model that reads pairs.")
    encoding: str = key("utf-8", "Encoding of CSV and JSONL files.")
    delimiter: str | None = key(None, "What separates columns of CSV; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(DOUBLE, "Quotes in CSV, as in input.quoting of the jobs.", choices=QUOTING)
    escape: str | None = key(None, "Character that makes a quote, delimiter or line end behind it part of a CSV column.")


@dataclass(frozen=True)
class Settings(PromiseSettings):
    data: Data = section(Data)
    model: Model = section(Model)
    method: str = key(
        "temperature",
        "temperature: one threshold a task. isotonic: the same reports are kept, with probabilities as honest as the sample "
        "allows. per_class: a threshold for each code with reports enough, so that the promise holds for each of them.",
        choices=CALIBRATIONS,
    )
    min_support: int = key(
        10, "A code with fewer training reports than this always goes to review; as decision.min_support.", low=0
    )
