"""Training on Ray Train: the same loop on one CPU worker or many GPUs, with checkpoints to resume from.

The work folder keeps Ray's own run folder, `_train/`, and the same command again resumes from its last checkpoint. Where the
output is on S3, checkpoints go there instead, so that any machine can resume.
"""

import json
import logging
import os
import pkgutil
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import ContractError, EngineError, where
from engine.machine import processors
from engine.pipeline.config import ClusterConfig
from engine.storage import S3Config, s3_config, storage_for, use_s3
from engine.training.config import LoopConfig
from engine.training.failures import engine_error, training_error, worth_retrying
from engine.training.loop import Worker, train
from engine.training.state import STATE

# In the work folder: one line for each report of the workers.
PROGRESS = "_progress.jsonl"


@dataclass(frozen=True)
class FitConfig:
    """What to train and on what. `learner` is `module:function`, called in each worker as `function(settings, worker)`.

    `threads` are the CPU threads of a worker; 0 shares out this machine's cores.
    """

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
        work: folder on this machine for Ray's files and the result. progress: called with each report of the first worker.
        remote: folder on S3 for the checkpoints; None leaves them to Ray, in `work`, which all nodes must then share.
    Raises:
        RetryableError: workers died more often than `max_failures` allows.
        EngineError: what the training code raised; a user's mistake ends the training at once.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
    from ray.train.torch import TorchTrainer

    class Report(UserCallback):
        """Runs in Ray's controller, on the driver's node, so a file reaches the driver."""

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            with open(reports, "a") as file:
                file.write(json.dumps(metrics[0]) + "\n")

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            # Raising ends the training; otherwise Ray would retry after a mistake as it does after a lost worker.
            if not worth_retrying(worker_exceptions.values()):
                raise engine_error(worker_exceptions.values())

    class Trainer(TorchTrainer):
        def _register_sigint_handler(self, controller: Any) -> None:
            """Sets no handler: Ray's would outlive the training and end the process by SystemExit, not KeyboardInterrupt."""

    work.mkdir(parents=True, exist_ok=True)
    reports = work.resolve() / PROGRESS
    last = last_saved(work)
    reports.write_text("" if last is None else json.dumps(last) + "\n")
    config = replace(config, threads=config.threads or max(1, processors() // config.workers))
    s3 = replace(s3_config(), proven=True)
    trainer = Trainer(
        # A closure, since Ray keeps what it is given as settings of the loop in its records of runs.
        lambda: _work(config, s3, remote),
        # Workers claim few CPUs, so that some are left for the tasks that read ahead for them.
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
        with session(), _followed(reports, progress):
            result = trainer.fit()
    except TrainingFailedError as error:
        raise training_error(error) from None
    last_folder = work / "_last"
    if remote is None and result.checkpoint is not None:
        with result.checkpoint.as_directory() as folder:
            _copy_state(Path(folder), str(last_folder))
    elif remote is None or not _fetch_state(remote, last_folder):
        raise ContractError("training ended without a checkpoint")
    return last_folder


def last_saved(work: Path) -> dict[str, Any] | None:
    """The last report with a checkpoint, of a work folder on this machine; None before the first."""
    path = work / PROGRESS
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    # The last line is incomplete where its writer was killed.
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return next((row for row in reversed(rows) if row.get("saved")), None)


def _copy_state(folder: Path, target: str) -> None:
    """Copies the last state. It gets its name only when it is whole, since a training resumes from any file of that name."""
    with open(folder / STATE, "rb") as source, storage_for(target).writer(f"{target}/{STATE}") as file:
        shutil.copyfileobj(source, file, 2**20)


@contextmanager
def session() -> Iterator[None]:
    """Ray for the block, started here unless RAY_ADDRESS names a cluster; one that runs already is used and left as it is.

    Raises:
        ConfigError, RetryableError: as `engine.pipeline.cluster.connected`.
    """
    from engine.pipeline import cluster

    line = cluster.note(ClusterConfig())
    if line is not None:
        logging.getLogger("marginalia").warning(line)
    with cluster.connected(ClusterConfig()):
        yield


@contextmanager
def _followed(path: Path, progress: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Calls `progress` for each line as it is added to a file, until the block ends."""
    ended, start = threading.Event(), path.stat().st_size

    def follow() -> None:
        with open(path) as file:
            file.seek(start)
            last = False
            while not last:
                last = ended.wait(0.5)
                for line in file.readlines():
                    progress(json.loads(line))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _work(config: FitConfig, s3: S3Config, remote: str | None) -> None:
    """One worker. Ray logs all that an exception says, so another library's is named by its class and place alone."""
    use_s3(s3)
    try:
        _train(config, remote)
    except EngineError:
        raise
    except Exception as error:
        raise ContractError(f"training raised {type(error).__name__} at {where(error)}") from None


def _train(config: FitConfig, remote: str | None) -> None:
    import torch
    from ray import train as ray_train

    context = ray_train.get_context()
    torch.set_num_threads(config.threads)
    device = torch.device("cuda", context.get_local_rank()) if config.gpu else torch.device("cpu")

    def report(metrics: Mapping[str, Any], folder: Path | None) -> None:
        checkpoint = None
        if folder and remote is not None:
            _copy_state(folder, remote)
        elif folder:
            checkpoint = ray_train.Checkpoint.from_directory(str(folder))
        ray_train.report({**metrics, "saved": folder is not None}, checkpoint=checkpoint)

    worker = Worker(context.get_world_rank(), context.get_world_size(), device, report, config.loop.batch)
    learner = pkgutil.resolve_name(config.learner)(config.settings, worker)
    with ExitStack() as stack:
        scratch, resume = Path(stack.enter_context(tempfile.TemporaryDirectory())), None
        if remote is not None:
            resume = scratch / "resumed" if _fetch_state(remote, scratch / "resumed") else None
        elif (checkpoint := ray_train.get_checkpoint()) is not None:
            resume = Path(stack.enter_context(checkpoint.as_directory()))
        train(learner, config.loop, worker, scratch, resume)


def _fetch_state(remote: str, folder: Path) -> bool:
    """Copies the last state on S3 to a folder; False where there is none."""
    data = storage_for(remote).read(f"{remote}/{STATE}")
    if data is not None:
        with storage_for(str(folder)).writer(str(folder / STATE)) as file:
            file.write(data)
    return data is not None
