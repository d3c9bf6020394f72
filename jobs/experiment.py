"""Measures what the explanations are worth: `python -m jobs.experiment experiment=explain/methods output.path=methods`."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from engine.errors import ConfigError
from jobs._front import job
from jobs._keys import MISSING, key, section

# Module and class of each experiment. Beside `<Class>` the module holds `<Class>Config`, whose fields are the keys that it takes.
EXPERIMENTS = {
    "explain/methods": ("engine.experiments.methods", "Methods"),
    "explain/calibration": ("engine.experiments.calibration", "Calibration"),
    "explain/planted": ("engine.experiments.planted", "Planted"),
    "explain/shortcut": ("engine.experiments.shortcut", "Shortcut"),
    "explain/masking": ("engine.experiments.masking", "Masking"),
    "explain/rationales": ("engine.experiments.rationales", "Rationales"),
}


@dataclass
class Data:
    path: str | None = key(None, "Parquet file, folder or glob with labelled reports.", path=True)
    id: str | None = key(None, "Column with the reports' ids; null is record_id.")
    text: str | None = key(None, "Column with the text; null is text.")
    split: str | None = key(None, "Column that says train, valid or test; null is split.")
    group: str | None = key(None, "Column of the patient; null is patient_id. Records of one are drawn together for intervals.")
    labels: dict[str, str] = key({}, "Column with the code, for each task.")


@dataclass
class Model:
    path: str | None = key(None, "Checkpoint folder; null is the model that comes along.", path=True)
    encoder: str | None = key(None, "What models trained here start from: pkg:minilm, path:<folder>, or hub:<id>@<revision>.")
    threads: int | None = key(None, "CPU threads; null is all cores.", low=1)


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the results; the same command again goes on where it stopped.", path=True)


@dataclass
class Sizes:
    records: int | None = key(None, "Records of test that are explained or measured.", low=1)
    slow_records: int | None = key(None, "Of these, how many are explained by methods of a pass or more a word or step.", low=1)
    dear_records: int | None = key(None, "Of these, how many are explained by LIME and KernelSHAP.", low=1)
    steady_records: int | None = key(None, "Of these, how many are explained again as changed copies.", low=1)
    steady_slow_records: int | None = key(None, "The same, for methods of a pass or more a unit or step.", low=1)
    perturbations: int | None = key(None, "Changed copies of each of them.", low=1)
    steps: int | None = key(None, "Points of integrated gradients.", low=1)
    max_tokens: int | None = key(None, "Tokens read of a report, the first ones.", low=16)
    rounds: int | None = key(None, "Draws for the intervals.", low=10)
    train_records: int | None = key(None, "Records to train on.", low=1)
    epochs: float | None = key(None, "Passes over them.", low=0.01)
    seeds: list[int] = key([], "Seeds of the models that are trained, one model each.", low=0)


@dataclass
class Config:
    name: str = key(MISSING, "Which experiment; experiment=... sets it together with its sizes.", choices=tuple(EXPERIMENTS))
    data: Data = section(Data)
    model: Model = section(Model)
    output: Output = section(Output)
    sizes: Sizes = section(Sizes)


@job(
    "experiment",
    Config,
    "Measures explanations on labelled reports, part by part, each kept when it is done: <output.path>/results.md has the table, "
    "results.parquet the same with intervals. A key that is null or empty takes the experiment's own value.",
    examples=[
        "experiment=explain/methods data.path='../shared/data/pathology_tcga/*.parquet' output.path=methods",
        "experiment=explain/calibration data.path=reports.parquet model.path=my_model output.path=calibration",
    ],
)
def main(config: Config) -> None:
    """Measures, and prints the table."""
    from pathlib import Path

    from engine.experiments.run import markdown, run

    kind, values = _experiment(config)
    command = f"python -m jobs.experiment {shlex.join(sys.argv[1:])}"
    print(markdown(run(kind(values), Path(config.output.path), command, _say)))


def _experiment(config: Config) -> tuple[type, Any]:
    """The class of an experiment and its settings.

    Raises:
        ConfigError: a key is given that it does not take, or one lacks that it needs.
    """
    module_name, name = EXPERIMENTS[config.name]
    module = import_module(module_name)
    settings = getattr(module, f"{name}Config")
    taken = {each.name: each for each in fields(settings)}
    keys = _keys(config)
    given = {field: value for field, (_, value) in keys.items() if value not in (None, (), {})}
    for field in given:
        if field not in taken:
            raise ConfigError(f"{keys[field][0]}: {config.name} has no use for it; leave it out")
    for field, each in taken.items():
        if field not in given and each.default is NO_DEFAULT and each.default_factory is NO_DEFAULT:
            raise ConfigError(f"{keys[field][0]}: {config.name} needs it")
    return getattr(module, name), settings(**given)


def _keys(config: Config) -> Mapping[str, tuple[str, Any]]:
    """Field of an experiment's settings -> the key as the command line spells it, and its value; `model.path` is `model`."""
    found = {}
    for part in ("data", "model", "sizes"):
        for name, value in vars(getattr(config, part)).items():
            spelled = f"{part}.{name}"
            field = "model" if spelled == "model.path" else name
            found[field] = (spelled, tuple(value) if isinstance(value, list) else value)
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
