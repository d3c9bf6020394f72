"""One training run from settings to checkpoint folder, in two steps that can each be taken up again."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.training.data import DataConfig, load_examples
from engine.training.fit import FitConfig, fit

WORK = "_training"


def train_site_classifier(
    config: FitConfig,
    output: str,
    *,
    command: str,
    say: Callable[[str], None],
    baseline: Callable[..., Mapping[str, Any]] | None,
    evidence_sample: int,
) -> dict[str, Any]:
    """Trains into `output`, a checkpoint folder; returns the figures of its card.

    Raises:
        ConfigError: the folder holds something else, or a training with other settings.
    """
    from engine.training.finish import finish
    from engine.training.site_classifier import classifier_config

    folder = Path(output).expanduser()
    work = folder / WORK
    config = replace(config, settings=_anywhere(config.settings))
    data = DataConfig(**config.settings["data"])
    examples = load_examples(data)
    splits = set(examples["split"].to_pylist())
    if not {"train", "valid", "test"} <= splits:
        raise ConfigError(f"data.split: needs reports of train, valid and test; there are only {', '.join(sorted(splits))}")
    _claim(folder, work, {"settings": config.settings, "loop": asdict(config.loop)})
    done = work / "_last" / "state.safetensors"
    if not done.is_file():
        fit(config, work, lambda row: say(_line(row)))
    architecture = classifier_config(config.settings["model"], examples, data)
    return finish(
        work / "_last",
        architecture,
        examples,
        folder,
        command=command,
        say=say,
        baseline=baseline,
        evidence_sample=evidence_sample,
    )


def _anywhere(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with whole paths: a worker does not stand in the folder where the command was given."""
    data, model = dict(settings["data"]), dict(settings["model"])
    data["path"] = os.path.abspath(os.path.expanduser(data["path"]))
    kind, colon, folder = model.get("encoder", "").partition(":")
    if kind == "path" and colon:
        model["encoder"] = f"path:{os.path.abspath(os.path.expanduser(folder))}"
    return {**settings, "data": data, "model": model}


def _claim(folder: Path, work: Path, settings: Mapping[str, Any]) -> None:
    """Makes the folder this training's own, or sees that it already is."""
    note = work / "settings.json"
    if note.is_file():
        theirs = json.loads(note.read_text())
        if theirs != json.loads(json.dumps(settings)):
            raise ConfigError(f"output.path: {folder} holds a training with other settings; choose a new folder")
        return
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"output.path: {folder} is not empty and holds no training; choose a new folder")
    work.mkdir(parents=True)
    note.write_text(json.dumps(settings, indent=1) + "\n")


def _line(row: Mapping[str, Any]) -> str:
    left = (row["steps"] - row["step"]) / max(row["steps_per_second"], 1e-9) / 60
    parts = [f"step {row['step']} of {row['steps']}", f"epoch {row['epoch']:.2f}", f"{row['tokens_per_second']:,.0f} tokens/s"]
    parts += [f"{name.removeprefix('loss_')} loss {value:.3f}" for name, value in row.items() if name.startswith("loss_")]
    parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name.startswith("valid_")]
    return ", ".join([*parts, f"{left:.0f} min left"])
