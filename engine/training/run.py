"""One training run from settings to checkpoint folder, in two steps that can each be taken up again.

The checkpoint is made beside and put in its place when it is whole, so that nobody reads half of one. Where that place is on S3,
the training's own files stay on this machine but for two under `_training/`: `settings.json`, by which the folder is this
training's own, and the last state to go on from, on this machine or another.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine.errors import InputChanged
from engine.models.checkpoint import publish_checkpoint
from engine.storage import cache_folder, full_path, is_s3, probe, storage_for
from engine.storage.claim import Kind, claim, read
from engine.training.data import DataConfig, listing, load_examples, pieces, survey
from engine.training.fit import STATE, FitConfig, fit, last_saved, session

WORK, EXAMPLES = "_training", "_examples"
# A user's own questions may hold words of the texts: settings are named without their values.
_TRAINING = Kind(
    "training",
    "holds a training with other settings ({changes}); choose a new folder",
    note=f"{WORK}/settings.json",
)
REJECTED_FILE = "rejected_rationales.parquet"
CHANGED = "data.path: the input has changed since this training began; bring it back, or choose a new folder"


def train_system(
    config: FitConfig,
    output: str,
    *,
    given: Any,
    say: Callable[[str], None],
    finish: Callable[[Mapping[str, Any], Path, Path], dict[str, Any]],
    prepare: Callable[[FitConfig, Path, str], AbstractContextManager[FitConfig]] = lambda config, work, folder: nullcontext(
        config
    ),
) -> dict[str, Any]:
    """Trains any system into `output`, a checkpoint folder; returns the figures of its card. A finished one is left as it is.

    One driver at a time may work on an output.

    Args:
        given: what tells this input from another, in plain values; it is kept beside the settings.
        finish: makes the checkpoint: (settings, folder with the last state, folder to write) -> figures, `digest` among them.
        prepare: what fitting needs: (config, folder on this machine, folder that all workers reach) -> the config to fit, which
            is fitted inside that context.
    Raises:
        ConfigError: the folder holds something else, or a training with other settings.
        InputChanged: the input is not what it was when the training began.
    """
    output = full_path(os.path.expanduser(output))
    probe(output)
    config = replace(config, settings=_anywhere(config.settings))
    work = _claim(output, {"settings": config.settings, "loop": asdict(config.loop)}, given)
    remote, made = f"{output}/{WORK}" if is_s3(output) else None, work / "_checkpoint"
    # Beside the checkpoints, where workers on other machines find them too.
    examples = f"{remote or work.resolve()}/{EXAMPLES}"
    figures = _finished(output)
    if figures is None:
        if not (work / "_last" / STATE).is_file():
            with prepare(config, work, examples) as ready:
                say("starting the workers")
                fit(ready, work, lambda row: say(_line(row)), remote)
        figures = finish(config.settings, work / "_last", made)
        publish_checkpoint(made, output)
    else:
        say("this training is finished; nothing to do")
    # Also what a finished one left that was killed here.
    storage_for(examples).remove_folder(examples)
    shutil.rmtree(made if remote is None else work, ignore_errors=True)
    if remote is not None:
        storage_for(remote).remove(f"{remote}/{STATE}")
    return figures


def continues(output: str) -> str:
    """What the same command does next with an output, for who has interrupted it."""
    output = full_path(os.path.expanduser(output))
    note = read(output, _TRAINING)
    if note is None:
        return "nothing is trained yet; the same command begins anew"
    work = _work(output, note)
    if _finished(output) is not None:
        return "the checkpoint is whole; the same command shows its figures"
    if (work / "_last" / STATE).is_file():
        return "all steps are done; the same command goes on with measuring"
    saved = last_saved(work)
    if saved is not None:
        return f"the same command goes on after step {saved['step']} of {saved['steps']}"
    if is_s3(output) and storage_for(output).stat(f"{output}/{WORK}/{STATE}") is not None:
        return "the same command goes on from the checkpoint that is there"
    return "no step is saved yet; the same command begins at the first"


def train_site_classifier(
    config: FitConfig,
    output: str,
    *,
    command: str,
    say: Callable[[str], None],
    baseline: Callable[..., Mapping[str, Any]] | None,
    evidence_sample: int,
) -> dict[str, Any]:
    """Trains the site classifier; see `train_system`."""
    from engine.training.finish import finish
    from engine.training.site_classifier import classifier_config, write_examples

    data = DataConfig(**_anywhere(config.settings)["data"])
    given, found = _listed(data), survey(data)
    found.require()
    classifier = classifier_config(_anywhere(config.settings)["model"], found.labels, data)

    @contextmanager
    def prepared(config: FitConfig, work: Path, examples: str) -> Iterator[FitConfig]:
        say("tokenizing the reports")
        # Of one piece Ray has nothing to read ahead, and fitting starts it soon enough.
        with session() if len(list(pieces(data))) > 1 else nullcontext():
            write_examples(data, classifier, found, examples, work / "_sorting")
            yield replace(config, settings={**config.settings, "examples": examples})

    def finished(settings: Mapping[str, Any], state: Path, made: Path) -> dict[str, Any]:
        if _listed(data) != given:
            raise InputChanged(CHANGED)
        figures = finish(
            state,
            classifier,
            load_examples(data, ("valid", "test"), found),
            made,
            found=found,
            everything=lambda: load_examples(data, found=found),
            command=command,
            say=say,
            baseline=baseline,
            evidence_sample=evidence_sample,
        )
        if data.highlighted:
            pq.write_table(found.rejected, made / REJECTED_FILE)
        return figures

    for line in found.told():
        say(line)
    return train_system(config, output, given=given, say=say, finish=finished, prepare=prepared)


def _listed(data: DataConfig) -> list[list[Any]]:
    return [[file.path, file.size, file.version] for file in listing(data)]


def _anywhere(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with whole paths: a worker does not stand in the folder where the command was given."""
    data, model = dict(settings["data"]), dict(settings["model"])
    for name in ("path", "rationale_table"):
        if data.get(name):
            data[name] = full_path(os.path.expanduser(data[name]))
    kind, colon, folder = model.get("encoder", "").partition(":")
    if kind == "path" and colon:
        model["encoder"] = f"path:{os.path.abspath(os.path.expanduser(folder))}"
    return {**settings, "data": data, "model": model}


def _claim(output: str, settings: Mapping[str, Any], given: Any) -> Path:
    """Makes the output this training's own, or sees that it already is; returns the folder on this machine to work in."""
    # The id tells this training from one of before whose output was removed.
    return _work(output, claim(output, settings, _TRAINING, given, id=uuid.uuid4().hex))


def _work(output: str, note: Mapping[str, Any]) -> Path:
    """The folder on this machine that the training with such a note works in."""
    name = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder("training") / name if is_s3(output) else Path(output, WORK)


def _finished(output: str) -> dict[str, Any] | None:
    """The figures of the checkpoint at `output`, if it is there and whole."""
    storage = storage_for(output)
    listed, figures = (storage.read(f"{output}/{name}") for name in ("digest.json", "figures.json"))
    if listed is None or figures is None:
        return None
    found = json.loads(figures)
    return found if found["digest"] == json.loads(listed)["digest"] else None


def _line(row: Mapping[str, Any]) -> str:
    left = (row["steps"] - row["step"]) / max(row["steps_per_second"], 1e-9)
    parts = [f"step {row['step']} of {row['steps']}", f"epoch {row['epoch']:.2f}", f"{row['tokens_per_second']:,.0f} tokens/s"]
    parts += [f"{name.removeprefix('loss_')} loss {value:.3f}" for name, value in row.items() if name.startswith("loss_")]
    parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name.startswith("valid_")]
    # The last step is not the end: what is left then says its own name.
    left = f"{left / 60:.0f} min left for the steps" if left >= 90 else f"{left:.0f} s left for the steps"
    return ", ".join([*parts, left] if row["step"] < row["steps"] else parts)
