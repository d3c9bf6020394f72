"""Trains any system, from settings to a checkpoint folder. An interrupted training resumes at the step where it stopped.

The texts become examples, and each phase is fitted on them. Between two phases a table may be computed with the tensors of the
first. The result of the last phase is written as a checkpoint and loaded as the product loads it. Its thresholds are set on valid
(`Recipe.settle`) and it is measured on test, so all figures come from the product's own predictions.

The checkpoint is written to `_training/` and moved to the output folder when it is complete, so nobody reads half of one. If the
output is on S3, the work folder is on this machine, and `_training/` on S3 has only what other machines need: `settings.json`,
which claims the folder for this training, the last state of each phase, from which any machine can resume, and the files that a
phase hands over to the next.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from engine.errors import InputChanged
from engine.models import base
from engine.models.base import Corpus, ModelSpec, Phase, Recipe, Say
from engine.models.checkpoint import LIST, publish_checkpoint, revise
from engine.pipeline import tables
from engine.storage import cache_folder, full_path, is_s3, probe, storage_for
from engine.storage.claim import Kind, claim, read
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.fit import STATE, FitConfig, fit, last_saved, session
from engine.training.here import fit_here
from engine.training.state import State, read_state, write_curve, write_weights

WORK, CLAIM = "_training", "settings.json"
EXAMPLES, CACHE, WEIGHTS = "_examples", "_cache", "weights.safetensors"
# Users' own questions, which are settings, may contain words of the texts, so messages name changed settings without values.
_TRAINING = Kind(
    "training",
    "holds a training with other settings ({changes}); choose a new folder",
    note=f"{WORK}/{CLAIM}",
)
CHANGED = "data.path: the input has changed since this training began; bring it back, or choose a new folder"


def train_system(
    system: str,
    settings: Mapping[str, Any],
    output: str,
    *,
    loop: LoopConfig,
    command: str,
    say: Say,
    cluster: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a system into `output`, a checkpoint folder; returns the figures of its card. A finished training is not repeated.

    Only one driver at a time may work on an output. The same call again continues where the last one stopped.

    Args:
        settings: see `engine.models.base.Recipe`. loop: the loop settings of all phases; a phase may override some of them.
        command: the command for the card, which trains the same model again. cluster: `workers`, `gpu`, `threads` and
            `max_failures` of `FitConfig`.
    Raises:
        ConfigError: the folder holds something else, or a training with other settings; or see `Recipe.corpus`.
        InputChanged: the input has changed since the training began.
    """
    recipe, cluster = base.recipe(system), dict(cluster or {})
    corpus = recipe.corpus(settings)
    for line in corpus.lines():
        say(line)
    output = full_path(os.path.expanduser(output))
    probe(output)
    phases = recipe.phases(corpus.settings)
    part, folders = recipe.part(corpus.settings), _folders(phases)
    claimed = {"settings": _learning_settings(recipe, corpus.settings), "loop": asdict(loop)}
    # `resume_message` reads `part` and `phases`. The id distinguishes this training from an earlier one whose output was removed.
    note = claim(output, claimed, _TRAINING, corpus.given, part=part, phases=folders, id=uuid.uuid4().hex)
    files = _Files.of(output, note)
    figures = _finished(output, part)
    if figures is None:
        _fit(corpus, phases, FitConfig("", corpus.settings, loop, **cluster), files, say)
        if corpus.changed():
            raise InputChanged(CHANGED)
        shutil.rmtree(files.checkpoint, ignore_errors=True)
        figures = finish(recipe, corpus, _state(files), files.checkpoint, device=_device(cluster), command=command, say=say)
        publish_checkpoint(files.checkpoint, output)
    else:
        say("this training is finished; nothing to do")
    # Also if it was finished before: that call may have been killed at this point.
    files.clear()
    return figures


def train_phases(recipe: Recipe, corpus: Corpus, loop: LoopConfig, work: Path, say: Say, *, gpu: bool = False) -> State:
    """Trains all phases in this process, without Ray; returns the trained tensors and the curve.

    Args:
        work: folder for the examples and the states; the same call again continues where the last one stopped.
    Raises:
        InputChanged: the input has changed since the training began.
    """
    phases = recipe.phases(corpus.settings)
    files = _Files(work, None, _folders(phases))
    _fit(corpus, phases, FitConfig("", corpus.settings, loop, gpu=gpu), files, say, in_process=True)
    if corpus.changed():
        raise InputChanged(CHANGED)
    return _state(files)


def resume_message(output: str) -> str:
    """What the same command will do next with this output: a message for the user who interrupted it."""
    output = full_path(os.path.expanduser(output))
    note = read(output, _TRAINING)
    if note is None:
        return "nothing is trained yet; the same command starts from scratch"
    if _finished(output, note["part"]) is not None:
        return "the checkpoint is complete; the same command shows its figures"
    files, names = _Files.of(output, note), note["phases"]
    number = next((number for number in range(len(names)) if not files.trained(number)), None)
    if number is None:
        return "all steps are done; the same command goes on with measuring"
    of_phase = f" of the phase {names[number]}" if len(names) > 1 else ""
    saved = last_saved(files.local(number))
    if saved is not None:
        return f"the same command goes on after step {saved['step']} of {saved['steps']}{of_phase}"
    remote = files.remote(number)
    if remote is not None and storage_for(output).stat(f"{remote}/{STATE}") is not None:
        return "the same command goes on from the last checkpoint in the output"
    return f"no step{of_phase} is saved yet; the same command starts at the first step"


@dataclass(frozen=True)
class _Files:
    """The work files of a training: in `work` on this machine and, if the output is on S3, also in `work_remote` there.

    `folders` has the folder of each phase within these.
    """

    work: Path
    work_remote: str | None
    folders: Sequence[str]

    @classmethod
    def of(cls, output: str, note: Mapping[str, Any]) -> "_Files":
        """The work files of the training that claimed an output with this note."""
        if not is_s3(output):
            return cls(Path(output, WORK), None, note["phases"])
        name = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:32]
        return cls(cache_folder("training") / name, f"{output}/{WORK}", note["phases"])

    @property
    def shared(self) -> str:
        """A folder that all workers can reach. Workers on other machines must reach the folder of a local checkpoint anyway."""
        return self.work_remote or str(self.work.resolve())

    @property
    def checkpoint(self) -> Path:
        return self.work / "_checkpoint"

    def local(self, phase: int) -> Path:
        return self.work / self.folders[phase]

    def remote(self, phase: int) -> str | None:
        return self.work_remote and f"{self.work_remote}/{self.folders[phase]}".rstrip("/")

    def handover(self, phase: int) -> str:
        """A folder that all workers can reach, for the files that a phase hands over to the next."""
        return f"{self.shared}/{self.folders[phase]}".rstrip("/")

    def last(self, phase: int) -> Path:
        """The folder for the last state of a phase; it exists once the phase is trained."""
        return self.local(phase) / "_last"

    def trained(self, phase: int) -> bool:
        return (self.last(phase) / STATE).is_file()

    def clear(self) -> None:
        """Removes everything but the claim."""
        if self.work_remote is not None:
            storage, note = storage_for(self.work_remote), f"{self.work_remote}/{CLAIM}"
            storage.remove_all(file.path for file in storage.list(self.work_remote) if file.path != note)
            shutil.rmtree(self.work, ignore_errors=True)
            return
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != CLAIM:
                path.unlink()


def _fit(
    corpus: Corpus, phases: Sequence[Phase], config: FitConfig, files: _Files, say: Say, *, in_process: bool = False
) -> None:
    """Trains the phases that are not trained yet, on Ray or in this process, and computes the tables that they need."""
    examples, inherited = f"{files.shared}/{EXAMPLES}", {}
    cache = str(files.work.resolve() / CACHE)
    with _examples(corpus, phases, files, examples, say, in_process):
        for number, phase in enumerate(phases):
            settings = {**config.settings, **phase.settings, **inherited, "examples": examples}
            for table in phase.needs:
                say(f"building the table {table.name}")
                # The path of the cache differs between machines, and so would those of the tables.
                built = tables.make(table, settings, files.handover(number), say)
                settings["tables"] = {**settings.get("tables", {}), table.name: built}
            inherited |= {"tables": settings["tables"]} if "tables" in settings else {}
            settings["cache"] = cache
            if not files.trained(number):
                if len(phases) > 1:
                    say(f"phase {number + 1} of {len(phases)}: {phase.name}")
                phase_loop = replace(config.loop, **phase.loop)
                phase_config = replace(config, learner=phase.learner, settings=settings, loop=phase_loop)
                if in_process:
                    fit_here(phase_config, files.local(number), lambda row: say(_line(row)))
                else:
                    say("starting the workers")
                    fit(phase_config, files.local(number), lambda row: say(_line(row)), files.remote(number))
            if number + 1 < len(phases):
                inherited["before"] = f"{files.handover(number)}/{WEIGHTS}"
                write_weights(read_state(files.last(number))[0], inherited["before"])


@contextmanager
def _examples(
    corpus: Corpus, phases: Sequence[Phase], files: _Files, folder: str, say: Say, in_process: bool = False
) -> Iterator[None]:
    """Writes the examples, if a phase still needs them. Ray runs during the block if the block uses it more than once,
    and never for a training in this process."""
    if files.trained(len(phases) - 1):
        yield
        return
    plan = corpus.preparation()
    say("tokenizing the texts")
    # A single piece leaves Ray nothing to read ahead, and a single phase starts Ray itself.
    with session() if not in_process and (len(plan.pieces) > 1 or len(phases) > 1) else nullcontext():
        write_examples(plan, folder, files.work / "_sorting")
        yield


def finish(recipe: Recipe, corpus: Corpus, state: State, folder: Path, *, device: str, command: str, say: Say) -> dict[str, Any]:
    """Writes a checkpoint of a trained state, sets its thresholds and measures it as the product; returns its figures.

    Args:
        state: tensors by name, and the learning curve. folder: the folder to write, which must not exist.
    """
    tensors, curve = state
    spec, settled = write_settled(recipe, corpus, tensors, folder, device=device, say=say)
    figures = {**recipe.measure(spec, corpus, settled, say), "curve": curve}
    part = recipe.part(corpus.settings)
    figures["digest"] = revise(folder, {}, recipe.card(spec, figures, command), part or None)
    (folder / part / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    write_curve(folder / part, curve)
    return figures


def write_settled(
    recipe: Recipe, corpus: Corpus, tensors: Mapping[str, Any], folder: Path, *, device: str, say: Say
) -> tuple[ModelSpec, Mapping[str, Any]]:
    """Writes a checkpoint of trained tensors and settles it; returns the spec that loads it and the result of `Recipe.settle`."""
    spec = recipe.write(folder, corpus, tensors)
    spec = replace(spec, runtime={**spec.runtime, "device": device})
    return spec, recipe.settle(spec, corpus, say)


def _state(files: _Files) -> State:
    """The tensors of all phases, with the latest value of each name, and their curves one after the other."""
    states = [read_state(files.last(number)) for number in range(len(files.folders))]
    tensors = {name: value for trained, _ in states for name, value in trained.items()}
    if len(states) == 1:
        return tensors, states[0][1]
    return tensors, [{"phase": number, **row} for number, (_, rows) in enumerate(states, start=1) for row in rows]


def _device(cluster: Mapping[str, Any]) -> str:
    """The device on which the product is measured; the driver of a training on GPUs may run on a machine without one."""
    import torch

    return "cuda" if cluster.get("gpu") and torch.cuda.is_available() else "cpu"


def _folders(phases: Sequence[Phase]) -> list[str]:
    """The folder of each phase; a single phase needs none of its own."""
    return [phase.name if len(phases) > 1 else "" for phase in phases]


def _learning_settings(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that affect what the model learns; keys outside all sections only affect how it is measured."""
    sections = get_type_hints(recipe.Settings)
    return {name: value for name, value in settings.items() if name not in sections or is_dataclass(sections[name])}


def _finished(output: str, part: str) -> dict[str, Any] | None:
    """The figures of the checkpoint at `output`, or of its part; None if missing or incomplete. The list is written last."""
    storage = storage_for(output)
    if storage.stat(f"{output}/{LIST}") is None:
        return None
    figures = storage.read(f"{output}/{part}/figures.json" if part else f"{output}/figures.json")
    return None if figures is None else json.loads(figures)


def _line(row: Mapping[str, Any]) -> str:
    """A row of the curve as a progress line."""
    parts = [f"step {row['step']} of {row['steps']}", f"epoch {row['epoch']:.2f}", f"{row['tokens_per_second']:,.0f} tokens/s"]
    parts += [f"{name.removeprefix('loss_')} loss {value:.3f}" for name, value in row.items() if name.startswith("loss_")]
    parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name.startswith("valid_")]
    # The work after the last step has progress lines of its own.
    if row["step"] < row["steps"]:
        left = (row["steps"] - row["step"]) / max(row["steps_per_second"], 1e-9)
        parts.append(f"{left / 60:.0f} min left for the steps" if left >= 90 else f"{left:.0f} s left for the steps")
    return ", ".join(parts)
