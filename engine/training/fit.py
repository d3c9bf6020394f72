"""Training on Ray Train: the same loop on one CPU worker or many GPUs, with checkpoints to resume from.

The work folder keeps `_train/`, Ray's own run folder: the same command again goes on from its last checkpoint. Where the output
is on S3, checkpoints go there instead, so that any machine can go on from them.
"""

import json
import logging
import os
import pkgutil
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import local_ray
from engine.errors import ContractError, EngineError, where
from engine.machine import processors
from engine.storage import S3Config, s3_config, storage_for, use_s3
from engine.training.config import LoopConfig
from engine.training.failures import ours, stopped, worth_retrying
from engine.training.loop import Worker, train
from engine.training.state import STATE

# Below the work folder: a line for each report of the workers.
PROGRESS = "_progress.jsonl"


@dataclass(frozen=True)
class FitConfig:
    """What to train and on what. `learner` is `module:function`, called in each worker as `function(settings, worker)`."""

    learner: str
    settings: Mapping[str, Any]
    loop: LoopConfig = field(default_factory=LoopConfig)
    workers: int = 1
    gpu: bool = False
    threads: int = 0
    max_failures: int = 3


def fit(config: FitConfig, work: Path, progress: Callable[[Mapping[str, Any]], None], remote: str | None = None) -> Path:
    """Trains and returns the folder with `state.safetensors`, which also holds the learning curve.

    Args:
        work: folder on this machine for Ray's files and the result. remote: folder on S3 for the checkpoints; None leaves them
            to Ray, in `work`, which all nodes must then share.
    Raises:
        RetryableError: workers died more often than `max_failures` allows.
        EngineError: what the training code raised; a mistake of the user's stops it at once.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
    from ray.train.torch import TorchTrainer

    class Report(UserCallback):
        """Runs in Ray's controller, which stands on the driver's node: a file reaches the driver."""

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            with open(told, "a") as file:
                file.write(json.dumps(metrics[0]) + "\n")

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            # An error raised here ends the training; Ray would else try a mistake again like a lost worker.
            if not worth_retrying(worker_exceptions.values()):
                raise ours(worker_exceptions.values())

    class Trainer(TorchTrainer):
        def _register_sigint_handler(self, controller: Any) -> None:
            """Sets none: Ray's ends the process by SystemExit, and outlives the training. Here KeyboardInterrupt does."""

    work.mkdir(parents=True, exist_ok=True)
    told = work.resolve() / PROGRESS
    last = last_saved(work)
    told.write_text("" if last is None else json.dumps(last) + "\n")
    threads = config.threads or max(1, processors() // config.workers)
    # In a closure, since Ray keeps the loop's settings in its records of runs.
    s3 = replace(s3_config(), proven=True)
    # Workers claim little of the CPUs, so that some is left for the tasks that read ahead for them.
    trainer = Trainer(
        lambda values: _work(values, s3, remote),
        train_loop_config={**asdict(config), "threads": threads},
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=config.gpu, resources_per_worker=None if config.gpu else {"CPU": 0.25}
        ),
        run_config=RunConfig(
            name="_train",
            storage_path=str(work.resolve()),
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            callbacks=[Report()],
        ),
    )
    try:
        with session(), _told(told, progress):
            result = trainer.fit()
    except TrainingFailedError as error:
        raise stopped(error) from None
    kept = work / "_last"
    if remote is None and result.checkpoint is not None:
        with result.checkpoint.as_directory() as folder:
            _keep(Path(folder), str(kept))
    elif remote is None or not _fetch(remote, kept):
        raise ContractError("training ended without a checkpoint")
    return kept


def last_saved(work: Path) -> dict[str, Any] | None:
    """The last progress that a checkpoint was kept of in a work folder on this machine; None before the first."""
    path = work / PROGRESS
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    # The last line is torn where its writer was killed.
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return next((row for row in reversed(rows) if row.get("saved")), None)


def _keep(folder: Path, kept: str) -> None:
    """Copies the last state: whoever finds it under its name goes on from it, so it has that name only when it is whole."""
    with open(folder / STATE, "rb") as source, storage_for(kept).writer(f"{kept}/{STATE}") as file:
        shutil.copyfileobj(source, file, 2**20)


@contextmanager
def session() -> Iterator[None]:
    """Ray for the block, started here if RAY_ADDRESS names none; one that runs already is used and left as it is.

    Raises:
        ConfigError: Ray's folder cannot be had or has too long a name, or the cluster of RAY_ADDRESS will not have us.
        RetryableError: Ray did not start in time.
    """
    import ray

    from engine.pipeline.cluster import not_started

    if ray.is_initialized():
        yield
        return
    address, local = os.environ.get("RAY_ADDRESS") or "local", {}
    if address == "local":
        local, line = local_ray.arguments(), local_ray.note()
        if line is not None:
            logging.getLogger("marginalia").warning(line)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **local)
    except Exception as error:
        ray.shutdown()
        raise not_started(error, None if address == "local" else address, local.get("object_store_memory")) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _told(path: Path, progress: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Calls `progress` for each line as it is added to a file, until the block ends."""
    over, begin = threading.Event(), path.stat().st_size

    def follow() -> None:
        with open(path) as file:
            file.seek(begin)
            while True:
                last = over.wait(0.5)
                for line in file.readlines():
                    progress(json.loads(line))
                if last:
                    return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _work(values: Mapping[str, Any], s3: S3Config, remote: str | None) -> None:
    """One worker. What another library raises is told by class and place, since Ray logs all that an exception says."""
    use_s3(s3)
    try:
        _train(values, remote)
    except EngineError:
        raise
    except Exception as error:
        raise ContractError(f"training raised {type(error).__name__} at {where(error)}") from None


def _train(values: Mapping[str, Any], remote: str | None) -> None:
    import torch
    from ray import train as ray_train

    context = ray_train.get_context()
    torch.set_num_threads(values["threads"])
    device = torch.device("cuda", context.get_local_rank()) if values["gpu"] else torch.device("cpu")

    def report(metrics: Mapping[str, Any], folder: Path | None) -> None:
        checkpoint = None
        if folder and remote is not None:
            _keep(folder, remote)
        elif folder:
            checkpoint = ray_train.Checkpoint.from_directory(str(folder))
        ray_train.report({**metrics, "saved": folder is not None}, checkpoint=checkpoint)

    loop = LoopConfig(**values["loop"])
    worker = Worker(context.get_world_rank(), context.get_world_size(), device, report, loop.batch)
    learner = pkgutil.resolve_name(values["learner"])(values["settings"], worker)
    with tempfile.TemporaryDirectory() as scratch, _saved(remote) as resume:
        train(learner, loop, worker, Path(scratch), resume)


@contextmanager
def _saved(remote: str | None) -> Iterator[Path | None]:
    """The folder of the last checkpoint, if there is one."""
    from ray import train as ray_train

    if remote is not None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) if _fetch(remote, Path(folder)) else None
        return
    found = ray_train.get_checkpoint()
    if found is None:
        yield None
        return
    with found.as_directory() as folder:
        yield Path(folder)


def _fetch(remote: str, folder: Path) -> bool:
    """Copies the last checkpoint on S3 to a folder; whether there is one."""
    data = storage_for(remote).read(f"{remote}/{STATE}")
    if data is None:
        return False
    with storage_for(str(folder)).writer(str(folder / STATE)) as file:
        file.write(data)
    return True
