"""One training run of any system, from its settings to a checkpoint folder, in steps that can each be taken up again.

The texts become examples, each phase is fitted on them, and between two phases a table may be made of what the first has learned.
What comes of the last phase is written as a checkpoint, loaded as the product loads it, settled on valid and measured on test: no
figure comes from another way to predict.

The checkpoint is made beside and put in its place when it is whole, so that nobody reads half of one. Where that place is on S3,
the training's own files stay on this machine but for those under `_training/` there: `settings.json`, by which the folder is this
training's own, the last state of each phase to go on from, on this machine or another, and what passes between phases.
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
from engine.models.base import Corpus, ModelSpec, Phase, Recipe, Say, recipe
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
# A user's own questions may hold words of the texts: settings are named without their values.
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
    """Trains a system into `output`, a checkpoint folder; returns the figures of its card. A finished one is left as it is.

    One driver at a time may work on an output; the same call again goes on where one stopped.

    Args:
        settings: see `engine.models.base.Recipe`. loop: that of every phase, but for what a phase says otherwise.
        command: what makes the same model again, for the card. cluster: `workers`, `gpu`, `threads` and `max_failures` of
            `FitConfig`.
    Raises:
        ConfigError: the folder holds something else, or a training with other settings; or see `Recipe.corpus`.
        InputChanged: the input is not what it was when the training began.
    """
    how, cluster = recipe(system), dict(cluster or {})
    corpus = how.corpus(settings)
    for line in corpus.lines():
        say(line)
    output = full_path(os.path.expanduser(output))
    probe(output)
    phases = how.phases(corpus.settings)
    part, folders = how.part(corpus.settings), _folders([phase.name for phase in phases])
    told = {"settings": _told(how, corpus.settings), "loop": asdict(loop)}
    work = _claim(output, told, corpus.given, part=part, phases=folders)
    place = _Place(work, f"{output}/{WORK}" if is_s3(output) else None, folders)
    figures = _finished(output, part)
    if figures is None:
        _fit(corpus, phases, FitConfig("", corpus.settings, loop, **cluster), place, say)
        if corpus.changed():
            raise InputChanged(CHANGED)
        shutil.rmtree(place.made, ignore_errors=True)
        figures = finish(how, corpus, _state(place), place.made, device=_device(cluster), command=command, say=say)
        publish_checkpoint(place.made, output)
    else:
        say("this training is finished; nothing to do")
    # Also what a finished one left that was killed here.
    place.clear()
    return figures


def train_phases(how: Recipe, corpus: Corpus, loop: LoopConfig, work: Path, say: Say, *, gpu: bool = False) -> State:
    """Trains all phases in this process, without Ray; returns the trained tensors and the curve.

    Args:
        work: folder for the examples and the states; the same call again goes on where one stopped.
    Raises:
        InputChanged: the input is not what it was when the training began.
    """
    phases = how.phases(corpus.settings)
    place = _Place(work, None, _folders([phase.name for phase in phases]))
    _fit(corpus, phases, FitConfig("", corpus.settings, loop, gpu=gpu), place, say, here=True)
    if corpus.changed():
        raise InputChanged(CHANGED)
    return _state(place)


def continues(output: str) -> str:
    """What the same command does next with an output, for who has interrupted it."""
    output = full_path(os.path.expanduser(output))
    note = read(output, _TRAINING)
    if note is None:
        return "nothing is trained yet; the same command begins anew"
    if _finished(output, note["part"]) is not None:
        return "the checkpoint is whole; the same command shows its figures"
    names = note["phases"]
    place = _Place(_work(output, note), f"{output}/{WORK}" if is_s3(output) else None, names)
    done = [(place.home(number) / "_last" / STATE).is_file() for number in range(len(names))]
    if all(done):
        return "all steps are done; the same command goes on with measuring"
    number = done.index(False)
    of = f" of the phase {names[number]}" if len(names) > 1 else ""
    saved = last_saved(place.home(number))
    if saved is not None:
        return f"the same command goes on after step {saved['step']} of {saved['steps']}{of}"
    if place.remote is not None and storage_for(output).stat(f"{place.away(number)}/{STATE}") is not None:
        return "the same command goes on from the checkpoint that is there"
    return f"no step{of} is saved yet; the same command begins at the first"


@dataclass(frozen=True)
class _Place:
    """Where a training's own files are: `work` on this machine, and for one on S3 `remote` there; a folder for each phase."""

    work: Path
    remote: str | None
    folders: Sequence[str]

    @property
    def shared(self) -> str:
        """A folder that all workers reach; beside a local checkpoint, where those on other machines find it too."""
        return self.remote or str(self.work.resolve())

    @property
    def made(self) -> Path:
        return self.work / "_checkpoint"

    def home(self, phase: int) -> Path:
        return self.work / self.folders[phase]

    def away(self, phase: int) -> str | None:
        return self.remote and f"{self.remote}/{self.folders[phase]}".rstrip("/")

    def passed(self, phase: int) -> str:
        """A folder that all workers reach for what a phase leaves to the next."""
        return f"{self.shared}/{self.folders[phase]}".rstrip("/")

    def clear(self) -> None:
        """Removes what a whole checkpoint leaves over: all but the claim."""
        if self.remote is not None:
            storage = storage_for(self.remote)
            storage.remove_all(file.path for file in storage.list(self.remote) if not file.path.endswith(f"/{WORK}/{CLAIM}"))
            shutil.rmtree(self.work, ignore_errors=True)
            return
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != CLAIM:
                path.unlink()


def _folders(names: Sequence[str]) -> list[str]:
    """Of the phases; a single one needs none."""
    return list(names) if len(names) > 1 else [""]


def _fit(corpus: Corpus, phases: Sequence[Phase], config: FitConfig, place: _Place, say: Say, *, here: bool = False) -> None:
    """Trains the phases that are not trained yet, `here` in this process, and makes what stands between them."""
    examples, passed = f"{place.shared}/{EXAMPLES}", {}
    cache = str(place.work.resolve() / CACHE)
    with _examples(corpus, phases, place, examples, say, here):
        for number, phase in enumerate(phases):
            home = place.home(number)
            given = {**config.settings, **phase.settings, **passed, "examples": examples, "cache": cache}
            if not (home / "_last" / STATE).is_file():
                if len(phases) > 1:
                    say(f"phase {number + 1} of {len(phases)}: {phase.name}")
                of_phase = replace(config, learner=phase.learner, settings=given, loop=replace(config.loop, **phase.loop))
                if here:
                    fit_here(of_phase, home, lambda row: say(_line(row)))
                else:
                    say("starting the workers")
                    fit(of_phase, home, lambda row: say(_line(row)), place.away(number))
            if number + 1 < len(phases):
                passed = _passed(phase, given, home, place.passed(number), say)


@contextmanager
def _examples(corpus: Corpus, phases: Sequence[Phase], place: _Place, folder: str, say: Say, here: bool) -> Iterator[None]:
    """Writes the examples, where a phase still needs them; Ray runs in the block where more than one thing asks for it, and never
    for a training in this process."""
    if (place.home(len(phases) - 1) / "_last" / STATE).is_file():
        yield
        return
    plan = corpus.preparation()
    say("tokenizing the texts")
    # Of one piece Ray has nothing to read ahead, and fitting starts it soon enough.
    with session() if not here and (len(plan.pieces) > 1 or len(phases) > 1) else nullcontext():
        write_examples(plan, folder, place.work / "_sorting")
        yield


def _passed(phase: Phase, given: Mapping[str, Any], home: Path, folder: str, say: Say) -> dict[str, Any]:
    """What a phase leaves to the next: its tensors, and the tables that were made so far and after it."""
    before = f"{folder}/{WEIGHTS}"
    write_weights(read_state(home / "_last")[0], before)
    passed = {"before": before, "tables": dict(given.get("tables", {}))}
    if phase.between is not None:
        say(f"making the table {phase.between.name}")
        # Another machine that goes on has another cache.
        told = {name: value for name, value in {**given, **passed}.items() if name != "cache"}
        path = tables.make(phase.between, told, folder, say)
        passed["tables"][phase.between.name] = path
    return passed


def finish(how: Recipe, corpus: Corpus, state: State, made: Path, *, device: str, command: str, say: Say) -> dict[str, Any]:
    """Writes a checkpoint of what was trained, settles it and measures it as the product; returns its figures.

    Args:
        state: tensors by name and the curve. made: the folder to write, which is not there.
    """
    tensors, curve = state
    spec, settled = write_settled(how, corpus, tensors, made, device=device, say=say)
    figures = {**how.measure(spec, corpus, settled, say), "curve": curve}
    part = how.part(corpus.settings)
    figures["digest"] = revise(made, {}, how.card(spec, figures, command), part or None)
    (made / part / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    write_curve(made / part, curve)
    return figures


def write_settled(
    how: Recipe, corpus: Corpus, tensors: Mapping[str, Any], made: Path, *, device: str, say: Say
) -> tuple[ModelSpec, Mapping[str, Any]]:
    """Writes a checkpoint of trained tensors and settles it; returns how the product loads it, and what settling found."""
    spec = how.write(made, corpus, tensors)
    spec = replace(spec, runtime={**spec.runtime, "device": device})
    return spec, how.settle(spec, corpus, say)


def _state(place: _Place) -> State:
    """What all phases trained, of one name the last, and their curves one after the other."""
    found = [read_state(place.home(number) / "_last") for number in range(len(place.folders))]
    tensors = {name: value for trained, _ in found for name, value in trained.items()}
    if len(found) == 1:
        return tensors, found[0][1]
    return tensors, [{"phase": number, **row} for number, (_, rows) in enumerate(found, start=1) for row in rows]


def _device(cluster: Mapping[str, Any]) -> str:
    """Where the product is measured: the driver of a training on GPUs may stand on a machine without one."""
    import torch

    return "cuda" if cluster.get("gpu") and torch.cuda.is_available() else "cpu"


def _told(how: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make the model: the single keys of a system say only how it is measured."""
    sections = get_type_hints(how.Settings)
    return {name: value for name, value in settings.items() if name not in sections or is_dataclass(sections[name])}


def _claim(output: str, settings: Mapping[str, Any], given: Any, **told: Any) -> Path:
    """Makes the output this training's own, or sees that it already is; returns the folder on this machine to work in.

    Args:
        told: what `continues` must know.
    """
    # The id tells this training from one of before whose output was removed.
    return _work(output, claim(output, settings, _TRAINING, given, **told, id=uuid.uuid4().hex))


def _work(output: str, note: Mapping[str, Any]) -> Path:
    """The folder on this machine that the training with such a note works in."""
    name = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder("training") / name if is_s3(output) else Path(output, WORK)


def _finished(output: str, part: str) -> dict[str, Any] | None:
    """The figures of the checkpoint at `output`, or of its part, if it is there and whole: its list is written last."""
    storage = storage_for(output)
    if storage.stat(f"{output}/{LIST}") is None:
        return None
    figures = storage.read(f"{output}/{part}/figures.json" if part else f"{output}/figures.json")
    return None if figures is None else json.loads(figures)


def _line(row: Mapping[str, Any]) -> str:
    left = (row["steps"] - row["step"]) / max(row["steps_per_second"], 1e-9)
    parts = [f"step {row['step']} of {row['steps']}", f"epoch {row['epoch']:.2f}", f"{row['tokens_per_second']:,.0f} tokens/s"]
    parts += [f"{name.removeprefix('loss_')} loss {value:.3f}" for name, value in row.items() if name.startswith("loss_")]
    parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name.startswith("valid_")]
    # The last step is not the end: what is left then says its own name.
    left = f"{left / 60:.0f} min left for the steps" if left >= 90 else f"{left:.0f} s left for the steps"
    return ", ".join([*parts, left] if row["step"] < row["steps"] else parts)
