"""Training from shards: exact order, exact resumption, exact shares, and no more in memory than a window."""

import polars as pl
import pytest
import torch

from engine.errors import ContractError, InputChanged
from engine.models.examples import read_index
from engine.models.site_classifier.build import learner
from engine.models.site_classifier.recipe import corpus
from engine.sources.synthetic import generate
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.loop import Worker, train

MODEL = {"encoder": "tiny:bert", "rank": 2, "window": 30}
LOOP = LoopConfig(epochs=2, batch=8, rate=0.01, checkpoint_every=3, report_every=5)
HELD = 32


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A training of 90 reports in shards of 2, a window of 32."""
    folder = tmp_path_factory.mktemp("stream")
    table = pl.from_arrow(generate(130, 3, median_words=25, skew="uniform")).with_row_index("n")
    split = pl.when(pl.col("n") >= 110).then(pl.lit("test")).when(pl.col("n") >= 90).then(pl.lit("valid"))
    table.with_columns(split=split.otherwise(pl.lit("train")), patient_id="record_id").write_parquet(folder / "r.parquet")
    data = {"path": str(folder / "r.parquet"), "held": HELD}
    made(data, folder)
    return {
        "data": data,
        "model": MODEL,
        "learn": {"masking": 0.5},
        "precision": "fp32",
        "seed": 7,
        "examples": str(folder / "x"),
    }


def made(data, folder):
    plan = corpus({"data": data, "model": MODEL, "learn": {}}).preparation()
    return write_examples(plan, str(folder / "x"), folder / "scratch")


@pytest.fixture(autouse=True)
def by_itself(monkeypatch):
    """One thread and no reading ahead, whatever Ray other tests have left running; `test_flow` is about that."""
    monkeypatch.setattr("engine.training.examples.ray_runs", lambda: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learner_of(settings, worker=None):
    return learner(settings, worker or Worker())


class Watched:
    """A learner that writes down what it is shown and how much it holds."""

    def __init__(self, inner):
        self.inner, self.shown, self.resident = inner, [], 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def losses(self, examples, epoch):
        yield from self.inner.losses(examples, epoch)
        self.shown.append(list(self.inner.examples.record_id))
        self.resident = max(self.resident, self.inner.source.resident)


def trained(settings, folder, resume=None, **changes):
    found = Watched(learner(settings, Worker()))
    train(found, LoopConfig(**{**vars(LOOP), **changes}), Worker(), folder, resume)
    return found


def weights(found):
    return {name: value.detach().numpy().tobytes() for name, value in found.parameters().items()}


def test_a_resumed_training_sees_what_an_unbroken_one_sees_and_ends_byte_for_byte_the_same(settings, tmp_path):
    whole = trained(settings, tmp_path / "whole")
    index = read_index(settings["examples"])
    assert sum(index.reports) == 90 and max(index.reports) == 2 and sum(index.valid) == 20
    epochs = [[name for step in steps for name in step] for steps in (whole.shown[:12], whole.shown[12:])]
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1]) and len(set(epochs[0])) == 90
    # In the middle of a window and of an epoch, and in the second epoch.
    for stop in (7, 15):
        first = trained(settings, tmp_path / str(stop), stop_after=stop)
        second = trained(settings, tmp_path / str(stop), tmp_path / str(stop) / "last")
        assert first.shown + second.shown == whole.shown
        assert weights(second) == weights(whole)


def test_no_more_than_a_window_is_resident(settings, tmp_path):
    assert trained(settings, tmp_path, epochs=1).resident == HELD


def test_workers_hold_their_share_and_together_see_every_example_of_every_step(settings):
    alone = learner(settings, Worker())
    both = [learner(settings, Worker(rank=rank, world=2, batch=8)) for rank in (0, 1)]
    order = alone.order(1)
    assert list(order) == list(both[0].order(1)) == list(both[1].order(1))
    for start in range(0, len(order), 8):
        everyone = order[start : start + 8]
        ids = alone.source.hold(everyone, 1)[0].record_id
        shares = [each.source.hold(everyone[rank::2], 1)[0].record_id for rank, each in enumerate(both)]
        assert [ids[0::2], ids[1::2]] == shares
        assert all(each.source.resident <= HELD / 2 for each in both)
    with pytest.raises(ContractError, match="not its own"):
        both[0].source.hold(order[1:2], 1)


def test_examples_asked_for_out_of_order_are_the_same_examples(settings):
    source = learner(settings, Worker()).source
    order = source.order(0, -1.0, 7)
    forward = [source.hold([member], 0)[0].record_id[0] for member in order]
    assert [source.hold([member], 0)[0].record_id[0] for member in reversed(order[::9])] == forward[::9][::-1]
    assert source.hold([], 0)[1] == []


def test_shards_of_another_input_are_refused(settings, tmp_path):
    table = pl.read_parquet(settings["data"]["path"])
    table.write_parquet(tmp_path / "r.parquet")
    data = {**settings["data"], "path": str(tmp_path / "r.parquet")}
    index = made(data, tmp_path)
    assert made(data, tmp_path) == index
    pl.concat([table, table.with_columns(record_id=pl.col("record_id") + "x")]).write_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputChanged, match="have changed since"):
        made(data, tmp_path)
