"""The part of `jobs.bench` that concerns the site classifier alone, see `engine.benchmarks.alone`."""

from dataclasses import replace
from pathlib import Path

from engine.models.base import ModelSpec
from engine.models.checkpoint import MODEL
from engine.models.options import with_options
from engine.models.site_classifier.checkpoint import read_checkpoint, write_checkpoint

CORE = 3.0
"""How many times as fast as its rival the compute core must be."""
PRICES = (2.2, 3.4)
"""The highest cost of evidence for one task and for two, relative to the same answers without evidence."""


def evidence(spec: ModelSpec, folder: Path) -> dict[str, tuple[ModelSpec, float]]:
    """The model with its first task, and with its first two."""
    names = [task.name for task in read_checkpoint(spec.path).config.tasks]
    return {
        f"evidence for {n} task{'s'[: n - 1]}: {', '.join(names[:n])}": (with_tasks(spec, n, folder / f"tasks-{n}"), price)
        for n, price in enumerate(PRICES[: len(names)], start=1)
    }


def with_tasks(spec: ModelSpec, count: int, folder: Path) -> ModelSpec:
    """The checkpoint with its first `count` tasks alone, written to `folder` without the pools and heads of the others."""
    from safetensors.torch import load_file

    whole = read_checkpoint(spec.path)
    kept, dropped = whole.config.tasks[:count], whole.config.tasks[count:]
    prefixes = tuple(f"{part}.{task.name}." for task in dropped for part in ("pools", "heads"))
    tensors = load_file(whole.folder / MODEL)
    write_checkpoint(
        folder,
        replace(whole.config, tasks=kept),
        {name: value for name, value in tensors.items() if not name.startswith(prefixes)},
        {task.name: whole.calibration[task.name] for task in kept if task.name in whole.calibration},
        whole.evidence_method,
        whole.pairs,
        "A part of another checkpoint, for a benchmark.",
    )
    return replace(with_options(spec, tasks=(kept[0].name,), thresholds={}), path=str(folder))
