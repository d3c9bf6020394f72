"""The learner of pairs: what it learns, and two workers that learn what one does."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from engine.models.clear.learner import PairLearner, Pairs
from engine.models.clear.network import DualEncoder
from engine.models.clear.towers import Tower
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train

CONFIG = LoopConfig(epochs=3, batch=5, rate=0.01, warmup=0.0, report_every=1)


class Made:
    """Eleven pairs: a step of an epoch has five, the last one; so one of two workers sometimes has none."""

    def __init__(self):
        rng = np.random.default_rng(0)
        hidden = rng.normal(size=(11, 3))
        images, texts = (hidden @ rng.normal(size=(3, 6)) for _ in range(2))
        self.pairs = Pairs(list(images.astype(np.float32)), list(texts.astype(np.float32)), np.arange(11) % 10)

    def order(self, epoch, ratio, seed):
        return list(range(11))

    def hold(self, members, epoch):
        return self.pairs, list(members)

    def held_back(self):
        yield self.pairs, list(range(11))

    def close(self):
        pass


def _learner(worker):
    torch.manual_seed(0)
    return PairLearner(DualEncoder(6, 6, 4), Tower(), Tower(), Made(), 0, worker)


def _result(learner, curve):
    weights = [float(value.detach().abs().sum()) for value in learner.parameters().values()]
    return [*weights, *(row["loss_pairs"] for row in curve)]


def _work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    worker = Worker(rank=rank, world=2)
    learner = _learner(worker)
    curve = train(learner, CONFIG, worker, folder / "both")
    (folder / f"{rank}.json").write_text(json.dumps(_result(learner, curve)))
    dist.destroy_process_group()


def test_two_workers_learn_what_one_does(tmp_path):
    alone = _learner(Worker())
    expected = _result(alone, train(alone, CONFIG, Worker(), tmp_path / "alone"))
    mp.spawn(_work, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(expected, abs=1e-5)


def test_it_learns_to_tell_pairs_apart(tmp_path):
    learner = _learner(Worker())
    before = learner.validate()["rank"]
    train(learner, LoopConfig(epochs=60, batch=11, rate=0.02), Worker(), tmp_path)
    after = learner.validate()
    assert after["rank"] > max(0.95, before) and after["recall_5"] == 1.0


def test_norms_and_scale_do_not_decay():
    learner = _learner(Worker())
    rates = learner.rates()
    assert "dual.logit_scale" in rates and "dual.image.norm.weight" in rates and "dual.image.linear.weight" not in rates


def test_pixels_come_as_bytes_and_features_as_lists():
    pixels = [bytes(range(4)), bytes(4)]
    table = pa.table(
        {
            "image": pa.array(pixels, pa.binary()),
            "text": pa.array([[0.5, 1.0], [2.0, 3.0]], pa.list_(pa.float32())),
            "key": pa.array([7, 8], pa.int64()),
        }
    )
    pairs = Pairs.of(table)
    assert [each.tolist() for each in pairs.images] == [[0, 1, 2, 3], [0, 0, 0, 0]] and pairs.images[0].dtype == np.uint8
    assert pairs.texts[1].tolist() == [2.0, 3.0] and pairs.keys.tolist() == [7, 8]
    assert Pairs.of(table.set_column(0, "image", table["text"])).images[0].tolist() == [0.5, 1.0]
