"""Calibrates a model on a user's own labelled reports, into a new revision of its checkpoint.

`python -m jobs.calibrate data.path=labelled.parquet output.path=revision target=0.98`
"""

from dataclasses import dataclass

from engine.keys import MISSING, key, section
from engine.models.site_classifier.config import CALIBRATIONS, HEADS
from engine.sources.base import DOUBLE, QUOTING
from jobs._front import job
from jobs._storage import Storage, use


@dataclass
class Model:
    path: str = key(
        "shipped", "Checkpoint folder to calibrate; it stays as it is. 'shipped' is the model that comes along.", path=True
    )
    head: str | None = key(
        None, "Head to calibrate, of those that were trained for it; null is the checkpoint's own.", choices=HEADS
    )


@dataclass
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


@dataclass
class Output:
    path: str = key(MISSING, "Checkpoint folder to write; it must not exist.", path=True)


@dataclass
class Config:
    data: Data = section(Data)
    output: Output = section(Output)
    model: Model = section(Model)
    storage: Storage = section(Storage)
    method: str = key(
        "temperature",
        "temperature: one threshold a task. isotonic: the same reports are kept, with probabilities as honest as the sample "
        "allows. per_class: a threshold for each code with reports enough, so that the promise holds for each of them.",
        choices=CALIBRATIONS,
    )
    target: float = key(
        0.98,
        "Share right that coded reports must reach. At confidence=0.95 it takes at the least 203 reports without an error for "
        "0.98, 135 for 0.97, 80 for 0.95, 39 for 0.9, and so many in the other folds for the effect to be shown.",
        low=0.5,
        high=0.9999,
    )
    confidence: float = key(0.95, "Confidence with which they must reach it.", low=0.5, high=0.9999)
    folds: int = key(5, "Parts that are held out in turn, to show what the calibration does to reports it has not seen.", low=2)
    min_support: int = key(
        10, "A code with fewer training reports than this always goes to review; as decision.min_support.", low=0
    )
    max_tokens: int = key(16_384, "Tokens read of a report; as text.max_tokens of the runs to come.", low=16)
    batch_tokens: int = key(4096, "Tokens in one forward pass, padding included.", low=128)
    threads: int = key(0, "CPU threads; 0 leaves it to torch.", low=0)
    precision: str = key("auto", "Arithmetic of the encoder; as in the runs to come.", choices=("auto", "fp32", "bf16"))
    device: str = key("cpu", "Where the model runs.", choices=("cpu", "cuda"))


@job(
    "calibrate",
    Config,
    "Calibrates a model on your own labelled reports, for the share right that you want and the confidence you want it with. "
    "Writes a new revision of the checkpoint and shows, by cross-fitting, how much is coded without a person before and after.",
    examples=[
        "data.path=labelled.parquet data.labels='{site: site_code}' data.group=patient_id output.path=my_model target=0.97",
        "model.path=my_model data.path='labelled/*.csv' method=isotonic output.path=my_model_2",
    ],
)
def main(config: Config) -> None:
    """Scores the sample, fits, shows the effect, writes the revision."""
    import sys

    from jobs._calibrate import calibrate

    use(config.storage)
    calibrate(config, lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
