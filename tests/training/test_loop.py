import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from engine.errors import ConfigError
from engine.training.config import LoopConfig
from engine.training.loop import Worker, _restore, train

CONFIG = LoopConfig(epochs=3, batch=4, rate=0.05, checkpoint_every=2, report_every=1, seed=1, watch="macro_f1")


class Line:
    """y = w x + b on ten points."""

    def __init__(self):
        self.x = torch.linspace(-1, 1, 10)
        self.y = 3 * self.x + 1
        self.shown = []
        self.weights = {"w": torch.zeros(1, requires_grad=True), "b": torch.zeros(1, requires_grad=True)}

    def parameters(self):
        return self.weights

    def order(self, epoch):
        return np.random.default_rng([1, epoch]).permutation(10).tolist()

    def losses(self, examples, epoch):
        for part in (examples[:2], examples[2:]):
            if part:
                self.shown += part
                x = self.x[part]
                yield {"square": ((self.weights["w"] * x + self.weights["b"] - self.y[part]) ** 2).sum()}, len(part)

    def validate(self):
        return {"w": float(self.weights["w"].detach())}

    def further_figures(self):
        figures, self.shown = {"shown": (float(sum(self.shown)), len(self.shown))}, []
        return figures


class Rising(Line):
    """A learner whose figure rises to the third epoch and falls after it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def validate(self):
        self.seen.append(values(self))
        return {"macro_f1": (0.1, 0.5, 0.6, 0.55, 0.6, 0.1)[len(self.seen) - 1]}


def values(learner):
    return [float(v.detach()) for v in learner.weights.values()]


def test_a_training_need_not_look_at_held_back_records(tmp_path):
    learner = Rising()
    curve = train(learner, LoopConfig(**{**vars(CONFIG), "validated": False}), Worker(), tmp_path)
    assert not learner.seen and not any(name.startswith("valid_") for row in curve for name in row)
    with pytest.raises(ConfigError, match="without a validation"):
        LoopConfig(patience=1, validated=False)


def test_the_first_step_by_hand(tmp_path):
    learner = Line()
    curve = train(learner, LoopConfig(epochs=1, batch=10, rate=0.1, warmup=0.0, weight_decay=0.0), Worker(), tmp_path)
    assert values(learner) == pytest.approx([0.1, 0.1], abs=1e-6)
    assert curve[0]["loss_square"] == pytest.approx(float((learner.y**2).mean()), rel=1e-6)


def test_a_resumed_training_is_the_one_that_never_stopped(tmp_path):
    whole = Line()
    full = train(whole, CONFIG, Worker(), tmp_path / "whole")
    assert len(full) == 9
    first = Line()
    train(first, LoopConfig(**{**vars(CONFIG), "stop_after": 5}), Worker(), tmp_path / "part")
    second = Line()
    curve = train(second, CONFIG, Worker(), tmp_path / "part", resume=tmp_path / "part" / "last")
    assert values(second) == values(whole)
    assert [row["step"] for row in curve] == list(range(1, 10))


def test_a_tensor_that_no_loss_reaches_is_no_reason_not_to_go_on(tmp_path):
    class Idle(Line):
        def __init__(self):
            super().__init__()
            self.weights["idle"] = torch.ones(2, requires_grad=True)

    def trained(resume=None, **changes):
        learner = Idle()
        train(learner, LoopConfig(**{**vars(CONFIG), **changes}), Worker(), tmp_path / str(resume is None), resume)
        return [value.tolist() for value in learner.weights.values()]

    whole = trained()
    trained(stop_after=5)
    assert trained(tmp_path / "True" / "last") == whole and whole[2] == [1.0, 1.0]


def test_moments_are_restored_to_where_their_tensor_is(tmp_path):
    train(Line(), LoopConfig(**{**vars(CONFIG), "stop_after": 2}), Worker(), tmp_path)
    weights = {name: torch.zeros(1, device="meta", requires_grad=True) for name in ("w", "b")}
    optimiser = torch.optim.AdamW(weights.values())
    assert _restore(tmp_path / "last", CONFIG, weights, optimiser)[0] == 2
    moments = [optimiser.state[value][key] for value in weights.values() for key in ("exp_avg", "exp_avg_sq")]
    assert {each.device.type for each in moments} == {"meta"}


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train(Line(), LoopConfig(**{**vars(CONFIG), "stop_after": 2}), Worker(), tmp_path)
    with pytest.raises(ConfigError, match="rate"):
        train(Line(), LoopConfig(**{**vars(CONFIG), "rate": 0.1}), Worker(), tmp_path, resume=tmp_path / "last")


def test_training_ends_when_nothing_rises_and_leaves_the_best_weights(tmp_path):
    config, learner = LoopConfig(**{**vars(CONFIG), "epochs": 6, "patience": 2}), Rising()
    curve = train(learner, config, Worker(), tmp_path)
    assert [row["valid_macro_f1"] for row in curve if "valid_macro_f1" in row] == [0.1, 0.5, 0.6, 0.55, 0.6]
    assert curve[-1]["best_epoch"] == 3.0 and curve[-1]["step"] == 15
    assert values(learner) == learner.seen[2] != learner.seen[4]
    again = Rising()
    assert train(again, config, Worker(), tmp_path, resume=tmp_path / "last") == curve
    assert values(again) == learner.seen[2] and again.seen == []


def test_a_resumed_training_knows_the_best_epoch(tmp_path):
    config = LoopConfig(**{**vars(CONFIG), "epochs": 6, "patience": 2})
    first = Rising()
    train(first, LoopConfig(**{**vars(config), "stop_after": 12}), Worker(), tmp_path)
    second = Rising()
    second.seen = list(first.seen)
    curve = train(second, config, Worker(), tmp_path, resume=tmp_path / "last")
    assert values(second) == first.seen[2] and curve[-1]["step"] == 15


def test_a_figure_that_nobody_measures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no figure 'macro_f1'; it has w"):
        train(Line(), LoopConfig(**{**vars(CONFIG), "patience": 1}), Worker(), tmp_path)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="patience"):
        LoopConfig(patience=-1)
    with pytest.raises(ConfigError, match="epochs"):
        LoopConfig(epochs=0)
    for clip in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"train\.clip"):
            LoopConfig(clip=clip)


def _told(learner, curve):
    return [*values(learner), *(row[name] for row in curve for name in ("loss_square", "shown"))]


def _work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    learner = Line()
    curve = train(learner, CONFIG, Worker(rank=rank, world=2), folder / "both")
    (folder / f"{rank}.json").write_text(json.dumps(_told(learner, curve)))
    dist.destroy_process_group()


def test_two_workers_do_what_one_does(tmp_path):
    alone = Line()
    expected = _told(alone, train(alone, CONFIG, Worker(), tmp_path / "alone"))
    mp.spawn(_work, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(expected, abs=1e-6)


def test_tensors_learn_at_rates_of_their_own(tmp_path):
    class Two(Line):
        def __init__(self):
            super().__init__()
            self.weights = {"w": torch.ones(1, requires_grad=True), "b": torch.ones(1, requires_grad=True)}

        def rates(self):
            return {"b": (2.0, 0.0)}

        def losses(self, examples, epoch):
            yield {"none": (self.weights["w"] + self.weights["b"]).sum() * 1e-30}, 1

    learner = Two()
    train(learner, LoopConfig(epochs=1, batch=10, rate=0.1, warmup=0.0, weight_decay=0.5), Worker(), tmp_path)
    # One step of AdamW with a gradient of nothing: w decays by rate times decay, and b does not.
    assert float(learner.weights["w"].detach()) == pytest.approx(1 - 0.1 * 0.5)
    assert float(learner.weights["b"].detach()) == pytest.approx(1.0)
    learner = Two()
    learner.losses = lambda examples, epoch: iter([({"sum": learner.weights["w"].sum() + learner.weights["b"].sum()}, 1)])
    train(learner, LoopConfig(epochs=1, batch=10, rate=0.1, warmup=0.0, weight_decay=0.0), Worker(), tmp_path)
    # The first step of Adam is the rate, whatever the gradient.
    assert float(learner.weights["w"].detach()) == pytest.approx(0.9, abs=1e-5)
    assert float(learner.weights["b"].detach()) == pytest.approx(0.8, abs=1e-5)
