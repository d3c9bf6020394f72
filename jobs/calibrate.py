"""Calibrates a model on a user's own labelled records, into a new revision of its checkpoint.

`python -m jobs.calibrate data.path=labelled.parquet output.path=revision target=0.98`
"""

import sys
from dataclasses import dataclass
from typing import Any

from engine.keys import MISSING, compose, extract, key, section
from engine.models.base import ModelSpec, calibration
from engine.models.revision import calibrate
from engine.storage import S3Config, use_s3
from jobs._front import job


@dataclass
class Output:
    path: str = key(MISSING, "Checkpoint folder to write; it must not exist.", path=True)


@dataclass
class Model:
    system: str = key(MISSING, "The package of the system to calibrate; model=<name> sets it.")
    path: str = key(
        "shipped", "Checkpoint folder to calibrate, which stays unchanged; 'shipped' is the included model.", path=True
    )


@dataclass
class Common:
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass
class Running:
    storage: S3Config = section(S3Config)
    batch_tokens: int = key(4096, "Tokens in one forward pass, padding included.", low=128)
    threads: int = key(0, "CPU threads; 0 leaves it to torch.", low=0)
    device: str = key("cpu", "Where the model runs.", choices=("cpu", "cuda"))


def schema(package: str) -> type:
    """The configuration of a calibration of the system in a package."""
    return compose(Common, calibration(package).Settings, Running)


@job(
    "calibrate",
    schema,
    "Calibrates a model on your own labelled reports, and writes a new revision of its checkpoint. For codes it finds the "
    "thresholds that reach your target accuracy, with your confidence; for entities those that agree best with what you marked; "
    "for findings in images the bounds that keep the sensitivity and specificity you ask for. "
    "model=<name> chooses the system. The effect on your reports, before and after, is measured by cross-fitting.",
    examples=[
        "data.path=labelled.parquet data.labels='{site: site_code}' data.group=patient_id output.path=my_model target=0.97",
        "model.path=my_model data.path='labelled/*.csv' method=isotonic output.path=my_model_2",
    ],
)
def main(config: Any) -> None:
    """Scores the sample, fits, shows the effect, writes the revision."""
    use_s3(S3Config(**vars(config.storage)))
    model = config.model
    runtime = {name: getattr(config, name) for name in ("device", "threads", "batch_tokens")}
    calibrate(
        ModelSpec(model.system, model.path, {}, runtime),
        extract(calibration(model.system).Settings, config),
        config.output.path,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        tell=print,
    )


if __name__ == "__main__":
    main()
