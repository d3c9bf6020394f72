"""Measures what the explanations are worth: `python -m jobs.experiment experiment=explain/methods output.path=methods`."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.models.prompt_mrc.config import DEVICES, MODES
from engine.models.site_classifier.rationales import KINDS
from jobs._front import RESUMES, job

# Module and class of each experiment. Beside `<Class>` the module holds `<Class>Config`, whose fields are the keys that it takes.
EXPERIMENTS = {
    "explain/methods": ("engine.experiments.methods", "Methods"),
    "explain/calibration": ("engine.experiments.calibration", "Calibration"),
    "explain/planted": ("engine.experiments.planted", "Planted"),
    "explain/shortcut": ("engine.experiments.shortcut", "Shortcut"),
    "explain/masking": ("engine.experiments.masking", "Masking"),
    "explain/rationales": ("engine.experiments.rationales", "Rationales"),
    "prompt_mrc/prompt_ablation": ("engine.experiments.mrc_ablation", "PromptAblation"),
    "prompt_mrc/span_accuracy": ("engine.experiments.mrc_ablation", "SpanAccuracy"),
    "prompt_mrc/plug_and_play": ("engine.experiments.mrc_plugin", "PlugAndPlay"),
    "prompt_mrc/auto_template": ("engine.experiments.mrc_templates", "AutoTemplate"),
    "prompt_mrc/alignment": ("engine.experiments.mrc_templates", "Alignment"),
    "prompt_mrc/soft_vs_hard_crossover": ("engine.experiments.mrc_crossover", "Crossover"),
    "prompt_mrc/zero_shot_transfer": ("engine.experiments.mrc_transfer", "Transfer"),
    "prompt_mrc/efficiency": ("engine.experiments.mrc_efficiency", "Efficiency"),
    "prompt_mrc/backbone": ("engine.experiments.mrc_backbone", "Backbone"),
    "prompt_mrc/nested": ("engine.experiments.mrc_nested", "Nested"),
}

_UNSET: tuple[Any, ...] = (None, (), [], {})


@dataclass
class Data:
    path: str | None = key(None, "Labelled reports: a Parquet, CSV or JSONL file, a folder or a glob.", path=True)
    id: str | None = key(None, "Column with the reports' ids; null is record_id.")
    text: str | None = key(None, "Column with the text; null is text.")
    split: str | None = key(None, "Column that says train, valid or test; null is split.")
    group: str | None = key(None, "Column of the patient; null is patient_id. Records of one are drawn together for intervals.")
    labels: dict[str, str] = key({}, "Column with the code, for each task.")
    samples: list[str] = key(
        [], "explain/rationales: samples that train gets from what people marked, such as [rationale].", choices=KINDS
    )
    corpora: list[str] = key([], "prompt_mrc: corpora, each a file <corpus>.parquet in the folder data.path.")
    texts: list[str] = key([], "prompt_mrc/backbone: Parquet files with texts of the domain.")
    encoders: list[str] = key(
        [], "prompt_mrc/backbone: further encoders by name; prompt_mrc/soft_vs_hard_crossover: frozen, tuned, or both."
    )
    ontology: str | None = key(
        None,
        "prompt_mrc/auto_template: CSV file with the columns type and definition; pkg:ontology comes along.",
        path=True,
    )


@dataclass
class Model:
    path: str | None = key(None, "Checkpoint folder; null is the model that comes along.", path=True)
    encoder: str | None = key(None, "What models trained here start from: pkg:minilm, path:<folder>, or hub:<id>@<revision>.")
    threads: int | None = key(None, "CPU threads; null is all cores.", low=1)
    device: str | None = key(
        None, "prompt_mrc: where models are trained and run; null is auto, a GPU where there is one.", choices=DEVICES
    )


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
    share: float | None = key(None, "prompt_mrc: share of train to learn from, chosen by id.", low=0.0001, high=1.0)
    eval_share: float | None = key(None, "prompt_mrc: share of valid and of test to measure on.", low=0.0001, high=1.0)
    modes: list[str] = key([], "prompt_mrc: modes to compare.", choices=MODES)
    rank: int | None = key(None, "prompt_mrc: rank of the encoder's adapter.", low=0)
    rate: float | None = key(None, "prompt_mrc: peak learning rate.", low=0.0)
    batch: int | None = key(None, "prompt_mrc: texts a step.", low=1)
    micro_batch: int | None = key(
        None, "explain: padded tokens in one pass of a site classifier's training; fewer are quicker on a CPU.", low=128
    )
    numbers: list[int] = key([], "prompt_mrc/plug_and_play: numbers of shared soft vectors.", low=1)
    deep_numbers: list[int] = key([], "prompt_mrc/plug_and_play: the same where every layer has vectors of its own.", low=1)
    prompt_epochs: float | None = key(None, "prompt_mrc/plug_and_play: epochs of prompts alone.", low=0.01)
    shares: list[float] = key([], "prompt_mrc/soft_vs_hard_crossover: shares of train, rising.", low=0.0001, high=1.0)
    depths: list[int] = key([], "prompt_mrc/soft_vs_hard_crossover: encoder layers that are kept.", low=1)
    pairs: list[str] = key([], "prompt_mrc/zero_shot_transfer: targets, as corpus:type=type of the source.")
    layers: list[int] = key([], "prompt_mrc/efficiency: lower layers in which prompts and text stay apart.", low=0)
    shared: list[int] = key([], "prompt_mrc/efficiency: the same, of hybrid models that are trained, rising.", low=0)
    batch_tokens: int | None = key(None, "prompt_mrc/efficiency: tokens in one forward pass, padding included.", low=1)
    most_texts: int | None = key(None, "prompt_mrc/backbone: texts that adapt the encoder.", low=1)
    adapt_epochs: float | None = key(None, "prompt_mrc/backbone: epochs over them.", low=0.01)


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
    "Measures explanations on labelled reports, or models on annotated text, part by part, each kept when it is done: "
    "<output.path>/results.md has the table, results.parquet the same with intervals. A key that is null or empty takes the "
    "experiment's own value.",
    examples=[
        "experiment=explain/methods data.path='<folder>/pathology_tcga/*.parquet' output.path=methods",
        "experiment=explain/calibration data.path=reports.parquet model.path=my_model output.path=calibration",
    ],
    again=RESUMES,
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
    given = {field: value for field, (_, value) in keys.items() if value not in _UNSET}
    for field in given:
        if field not in taken:
            raise ConfigError(f"{keys[field][0]}: {config.name} has no use for it; leave it out")
    for field, each in taken.items():
        if field not in given and each.default is NO_DEFAULT and each.default_factory is NO_DEFAULT:
            raise ConfigError(f"{keys[field][0]}: {config.name} needs it")
    named = {"name": config.name} if "name" in taken else {}
    return getattr(module, name), settings(**given, **named)


def _keys(config: Config) -> Mapping[str, tuple[str, Any]]:
    """Field of an experiment's settings -> the key as the command line spells it, and its value; `model.path` is `model`."""
    found: dict[str, tuple[str, Any]] = {}
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
