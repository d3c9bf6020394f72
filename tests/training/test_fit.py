"""What Ray Train makes of a worker that fails, and what a user is told."""

import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.errors import ConfigError, ContractError, RetryableError
from engine.models.site_classifier.build import learner
from engine.storage import storage_for
from engine.training.config import LoopConfig
from engine.training.fit import STATE, FitConfig, _copy_state, fit
from engine.training.loop import Worker, train
from tests.training.test_loop import CONFIG, Line
from tests.training.test_stream import LOOP, settings

CANARY = "CANARYPHRASE"
pytestmark = pytest.mark.timeout(300)
__all__ = ["settings"]


def failing(settings, worker):
    """A learner that cannot be built, each time in the way that is asked for; counts the tries."""
    with open(settings["tries"], "a") as file:
        file.write("x")
    if settings["how"] == "mistake":
        raise ConfigError("data: no column")
    if settings["how"] == "bug":
        raise ValueError(CANARY)
    os._exit(9)


class Dying(Line):
    """A line whose process dies in its fifth step, the first time."""

    def __init__(self, tries: Path) -> None:
        super().__init__()
        self.steps, self.tries = 0, tries

    def losses(self, examples, epoch):
        self.steps += 1
        if self.steps == 5 and len(self.tries.read_text()) == 1:
            os._exit(9)
        return super().losses(examples, epoch)


def dying(settings, worker):
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")
    with open(settings["tries"], "a") as file:
        file.write("x")
    return Dying(Path(settings["tries"]))


@pytest.mark.parametrize(
    ("how", "kind", "message", "tries"),
    [
        ("mistake", ConfigError, "data: no column", 1),
        ("bug", ContractError, r"training raised ValueError at test_fit\.py:\d+", 1),
        pytest.param("die", RetryableError, "run the same command", 2, marks=pytest.mark.long),
    ],
)
def test_a_failed_worker_is_told_as_what_it_is(tmp_path, session, how, kind, message, tries):
    settings = {"how": how, "tries": str(tmp_path / "tries")}
    retries = 0 if how == "bug" else 1
    with pytest.raises(kind, match=message) as caught:
        fit(FitConfig(f"{__name__}:failing", settings, max_failures=retries), tmp_path / "out", print)
    assert len((tmp_path / "tries").read_text()) == tries
    assert "\n" not in str(caught.value) and CANARY not in str(caught.value)
    for path in (session / "logs").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


@pytest.mark.long
def test_a_lost_worker_goes_on_from_the_checkpoint_on_s3(tmp_path, session, bucket, store):
    remote, rows = f"{bucket}/model/_training", []
    config = FitConfig(f"{__name__}:dying", {"tries": str(tmp_path / "tries")}, CONFIG, threads=1, max_failures=1)
    state = fit(config, tmp_path / "here", rows.append, remote)
    assert len((tmp_path / "tries").read_text()) == 2
    # The step that was lost was done again, and none before the checkpoint. Ray may lose what a worker told just before it died.
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and steps[-5:] == [5, 6, 7, 8, 9]
    train(Line(), CONFIG, Worker(), tmp_path / "whole")
    mine, theirs = load_file(state / STATE), load_file(tmp_path / "whole" / "last" / STATE)
    assert {name: value.tolist() for name, value in mine.items()} == {name: value.tolist() for name, value in theirs.items()}
    assert storage_for(remote).read(f"{remote}/{STATE}") == (state / STATE).read_bytes()
    assert not [path for path in (tmp_path / "here").rglob("checkpoint_*") if path.is_dir()]
    for path in [*(session / "logs").rglob("*"), *(tmp_path / "here").rglob("*")]:
        assert not path.is_file() or store.url.encode() not in path.read_bytes(), path


def killed(settings, worker):
    """A site learner on a stream whose second worker is killed in the middle of the second epoch, once."""
    made, tries = learner(settings, worker), Path(settings["tries"])
    inner, steps = made.losses, []

    def losses(examples, epoch):
        steps.append(epoch)
        if settings["kill"] and worker.rank == 1 and steps.count(1) == 5 and not tries.exists():
            tries.write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(examples, epoch)

    made.losses = losses
    return made


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_workers_are_one_and_a_killed_one_costs_nothing_but_time(tmp_path, session, settings):
    states, curves = {}, {}
    for name, workers, kill in (("one", 1, False), ("two", 2, False), ("killed", 2, True)):
        lines = []
        values = {**settings, "tries": str(tmp_path / "tries"), "kill": kill}
        config = FitConfig(f"{__name__}:killed", values, LoopConfig(**{**vars(LOOP), "report_every": 1}), workers, threads=1)
        folder = fit(config, tmp_path / name, lines.append)
        states[name] = {key: value for key, value in load_file(folder / STATE).items() if key.startswith("weight/")}
        curves[name] = lines[-1]
    assert (tmp_path / "tries").exists()
    # The same two workers add up in the same order; one worker adds in another, which is what the tolerance is for.
    assert all(value.equal(states["killed"][name]) for name, value in states["two"].items())
    for name, value in states["one"].items():
        assert value.allclose(states["two"][name], rtol=1e-3, atol=1e-4), name
    for name in ("loss_site", "loss_histology"):
        assert curves["two"][name] == pytest.approx(curves["one"][name], rel=1e-3)
        assert curves["killed"][name] == curves["two"][name]


def test_half_a_last_state_has_no_name(tmp_path, monkeypatch):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / STATE).write_bytes(b"state")

    def half(source, file, size):
        file.write(source.read(2))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("engine.training.fit.shutil.copyfileobj", half)
        with pytest.raises(KeyboardInterrupt):
            _copy_state(tmp_path / "from", str(tmp_path / "kept"))
    assert not (tmp_path / "kept" / STATE).exists()
    _copy_state(tmp_path / "from", str(tmp_path / "kept"))
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [STATE]
    assert (tmp_path / "kept" / STATE).read_bytes() == b"state"
