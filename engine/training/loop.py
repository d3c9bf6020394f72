"""The training loop, the same for every system, one process or many.

A system brings a `Learner`: its trainable parameters, the examples of each step, and a loss that is a sum over records. The loop
owns the optimiser, the schedule, accumulation, the exchange between workers, checkpoints and the exact place to resume from. The
gradient of a step is the sum over all its records divided by their number, so two workers learn what one would.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import ConfigError, ContractError
from engine.models.examples import Stored
from engine.storage import whole_file
from engine.training.config import LoopConfig
from engine.training.examples import Written
from engine.training.stream import Share

# Size of the message in which workers exchange their sums, in bytes.
_MESSAGE_BYTES = 16384
# The state that AdamW keeps for each tensor.
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Worker:
    """This process among the workers, and how it reports its progress.

    Of each `batch` of an epoch's order it takes every `world`-th example from `rank` on. With `batch` 0 its stream holds all.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Callable[[Mapping[str, Any], Path | None], None] = lambda metrics, folder: None
    batch: int = 0

    def examples(self, folder: str) -> Stored:
        """This worker's share of the examples that a training has written to a folder."""
        return Written(folder, Share(self.rank, self.world, self.batch))


class Learner(Protocol):
    """What a system brings to the loop.

    It may also have `rates() -> Mapping[str, tuple[float, float]]`: learning rate and weight decay of some of its tensors, by
    name, relative to the loop's. And `close()`, called when the training has ended or failed.
    """

    def parameters(self) -> Mapping[str, Tensor]:
        """The trained tensors by name, the same on every worker."""

    def order(self, epoch: int) -> Sequence[int]:
        """The examples of an epoch, in order; depends on the seed and the epoch alone. May be a lazy sequence."""

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        """For micro-batches that cover the examples: named loss terms, each a sum over records, and the number of tokens."""

    def validate(self) -> Mapping[str, float]:
        """Figures on held-back records, the same on every worker."""

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        """Further figures since the last call: the sum over this worker's records and their number, by name."""


@dataclass
class Best:
    """The best epoch so far by the watched figure, with its weights; `stale` counts the epochs since."""

    value: float = -math.inf
    epoch: float = 0.0
    stale: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, value: float, epoch: float, parameters: Mapping[str, Tensor]) -> None:
        if value > self.value:
            self.value, self.epoch, self.stale = value, epoch, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        else:
            self.stale += 1


def train(learner: Learner, config: LoopConfig, worker: Worker, folder: Path, resume: Path | None = None) -> list[dict[str, Any]]:
    """Trains in place and writes `folder/last`, a checkpoint to resume from. Returns the curve, one row for each report.

    Raises:
        ConfigError: `resume` belongs to other settings, or the validation has no figure to watch.
    """
    try:
        return _train(learner, config, worker, folder, resume)
    finally:
        getattr(learner, "close", lambda: None)()


def _train(learner: Learner, config: LoopConfig, worker: Worker, folder: Path, resume: Path | None) -> list[dict[str, Any]]:
    parameters = {name: value for name, value in learner.parameters().items() if value.requires_grad}
    optimiser = torch.optim.AdamW(_groups(learner, parameters, config), lr=config.rate, betas=(0.9, 0.98))
    per_epoch = math.ceil(len(learner.order(0)) / config.batch)
    steps = max(1, round(per_epoch * config.epochs))
    step, curve, best, done = 0, [], Best(), False
    if resume is not None:
        step, curve, best, done = _restore(resume, config, parameters, optimiser)
    order: Sequence[int] = []
    sums: dict[str, float] = {}
    tokens, since, began = 0, step, time.perf_counter()
    while step < steps and not done and not (config.stop_after and step >= config.stop_after):
        epoch, place = divmod(step, per_epoch)
        if not order or place == 0:
            order = learner.order(epoch)
        batch = order[place * config.batch : (place + 1) * config.batch]
        for terms, count in learner.losses(batch[worker.rank :: worker.world], epoch):
            (sum(terms.values()) / len(batch)).backward()
            tokens += count
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batch)
        _exchange(parameters, worker.world)
        torch.nn.utils.clip_grad_norm_(parameters.values(), config.clip)
        for group in optimiser.param_groups:
            group["lr"] = config.rate * group["factor"] * _rate(step, steps, config.warmup)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        done, ended_epoch, stopped = step == steps, step % per_epoch == 0, step == config.stop_after
        if step % config.report_every == 0 or done or stopped or ended_epoch:
            seconds = time.perf_counter() - began
            tokens, sums, means = _sum_over_workers(tokens, sums, learner.further_figures(), worker)
            row: dict[str, Any] = {"step": step, "steps": steps, "epoch": step / per_epoch}
            row |= {"tokens_per_second": tokens / seconds, "steps_per_second": (step - since) / seconds}
            row |= {f"loss_{name}": value / (step - since) for name, value in sums.items()} | means
            if config.validated and (ended_epoch or done or stopped):
                row |= {f"valid_{name}": value for name, value in learner.validate().items()}
            if config.patience and (ended_epoch or done):
                best.update(_watched(row, config.watch), row["epoch"], parameters)
                done = done or best.stale >= config.patience
                row["best_epoch"] = best.epoch
            if done and best.weights:
                set_weights(parameters, best.weights)
            curve.append(row)
            save = done or stopped or ended_epoch or step // config.checkpoint_every > since // config.checkpoint_every
            if save and worker.rank == 0:
                _save(folder / "last", config, parameters, optimiser, best, {"step": step, "curve": curve, "done": done})
            worker.report(row, folder / "last" if save and worker.rank == 0 else None)
            sums, tokens, since, began = {}, 0, step, time.perf_counter()
    return curve


def _groups(learner: Learner, parameters: Mapping[str, Tensor], config: LoopConfig) -> list[dict[str, Any]]:
    """AdamW's parameter groups: the tensors of equal relative rate and decay, in the order of their names."""
    rates = getattr(learner, "rates", dict)()
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, value in parameters.items():
        groups.setdefault(rates.get(name, (1.0, 1.0)), []).append(value)
    return [
        {"params": values, "factor": factor, "weight_decay": config.weight_decay * decay}
        for (factor, decay), values in groups.items()
    ]


def _watched(row: Mapping[str, Any], name: str) -> float:
    if f"valid_{name}" not in row:
        names = ", ".join(key.removeprefix("valid_") for key in row if key.startswith("valid_"))
        raise ConfigError(f"train.watch: the validation has no figure '{name}'; it has {names}")
    return row[f"valid_{name}"]


def _rate(step: int, steps: int, warmup: float) -> float:
    """The factor of the learning rate: a linear rise in the warmup, then a linear fall to 0."""
    rise = max(1, round(steps * warmup))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def _exchange(parameters: Mapping[str, Tensor], world: int) -> None:
    """Sums the gradients of all workers; a worker without a record contributes zeros."""
    if world == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters.values()]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for p, piece in zip(parameters.values(), flat.split([g.numel() for g in grads]), strict=True):
        p.grad = piece.view_as(p)


def _sum_over_workers(
    tokens: int, sums: Mapping[str, float], figures: Mapping[str, tuple[float, int]], worker: Worker
) -> tuple[int, dict[str, float], dict[str, float]]:
    """Tokens, named sums and means of the figures over all workers; a worker without a record may lack some names."""
    reports = [[tokens, sums, figures]]
    if worker.world > 1:
        data = json.dumps(reports[0]).encode()
        if len(data) > _MESSAGE_BYTES:
            raise ContractError(f"the sums of a worker take {len(data)} bytes, more than {_MESSAGE_BYTES}")
        message = torch.tensor(list(data.ljust(_MESSAGE_BYTES)), dtype=torch.uint8, device=worker.device)
        messages = [torch.empty_like(message) for _ in range(worker.world)]
        dist.all_gather(messages, message)
        reports = [json.loads(bytes(message.tolist())) for message in messages]
    names = dict.fromkeys(name for _, terms, _ in reports for name in terms)
    total = {name: sum(terms.get(name, 0.0) for _, terms, _ in reports) for name in names}
    means = {}
    for name in sorted({name for _, _, by_name in reports for name in by_name}):
        value, count = map(sum, zip(*(by_name[name] for _, _, by_name in reports if name in by_name), strict=True))
        if count:
            means[name] = value / count
    return sum(report[0] for report in reports), total, means


def _save(
    folder: Path, config: LoopConfig, parameters: Mapping[str, Tensor], optimiser: Any, best: Best, place: Mapping[str, Any]
) -> None:
    """Writes weights, moments and the place to resume from as one safetensors file, whole or not at all."""
    tensors = {f"weight/{name}": value.detach().contiguous() for name, value in parameters.items()}
    tensors |= {f"best/{name}": value.contiguous() for name, value in best.weights.items()}
    for name, value in parameters.items():
        moments = optimiser.state.get(value, {})
        tensors |= {f"{key}/{name}": moments[key].contiguous() for key in _MOMENTS if key in moments}
    best_facts = {"value": best.value, "epoch": best.epoch, "stale": best.stale} if best.weights else None
    with whole_file(folder / "state.safetensors") as part:
        save_file(tensors, part, metadata={"place": json.dumps({**place, "config": asdict(config), "best": best_facts})})


def _restore(folder: Path, config: LoopConfig, parameters: Mapping[str, Tensor], optimiser: Any) -> tuple[int, list, Best, bool]:
    """The step, the curve, the best epoch and whether training had ended."""
    path = folder / "state.safetensors"
    with safe_open(path, "pt") as file:
        place = json.loads(file.metadata()["place"])
    before, now = place["config"] | {"stop_after": 0}, asdict(config) | {"stop_after": 0}
    if before != now:
        changed = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
        raise ConfigError(f"train: the checkpoint in {folder} was made with other settings ({', '.join(changed)})")
    tensors = load_file(path)
    step = place["step"]
    set_weights(parameters, {name: tensors[f"weight/{name}"] for name in parameters})
    for name, value in parameters.items():
        # A tensor that no loss reaches, such as an encoder's unused last layer, has none.
        moments = {key: tensors[f"{key}/{name}"].to(value.device) for key in _MOMENTS if f"{key}/{name}" in tensors}
        if moments:
            optimiser.state[value] = {"step": torch.tensor(float(step)), **moments}
    best = Best()
    if place["best"]:
        best = Best(**place["best"], weights={name: tensors[f"best/{name}"] for name in parameters})
    return step, place["curve"], best, place["done"]


@torch.no_grad()
def set_weights(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, value in parameters.items():
        value.copy_(weights[name])
