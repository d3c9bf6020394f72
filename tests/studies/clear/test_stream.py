"""The cost of a training on streamed pairs, at toy size: what is measured and how it is extrapolated."""

from types import SimpleNamespace

import pytest

from engine.benchmarks import child
from engine.studies.clear import stream
from engine.studies.clear.stream import Cost, Costs
from engine.studies.study import read_study


@pytest.fixture
def task(tmp_path):
    settings = {"stream.pairs": 40, "stream.epochs": 1, "stream.batch": 8, "stream.held": 16}
    return SimpleNamespace(settings=settings, models=tmp_path, threads=1, say=print, arm=SimpleNamespace(seed=1))


def test_figures_for_the_published_number_follow_from_the_measured_ones(task, monkeypatch):
    costs = Costs(Cost(20.0, 500.0, 200.0, 300.0), Cost(9.0, 700.0, 250.0, 450.0), examples=40, rate=100.0, bytes=8000)
    called = []
    monkeypatch.setattr(child, "call", lambda function, *arguments: called.append(function) or costs)
    pairs = stream.Pairs(task.models, "x", 40, "bank")
    rows = {(row.metric, row.slice): row for row in stream.measure(pairs, task).rows}
    assert called == [stream.streamed]
    assert rows["peak_mib", "preparing"].value == 500 and rows["workers_mib", "training"].value == 450
    # 40 pairs in 20 s are 2 a second: 435,000 s.
    assert rows["hours_for_published", "preparing"].value == pytest.approx(435_000 / 3600)
    assert rows["hours_for_published", "training"].value == pytest.approx(8700 / 3600)
    assert rows["bytes_of_a_pair", "all"].value == 200 and rows["gb_for_published", "all"].value == pytest.approx(0.174)


def test_the_study_is_whole():
    study = read_study("clear/stream")
    assert [arm.settings["stream.pairs"] for arm in study.arms()] == [10_000, 200_000]


@pytest.mark.long
def test_pairs_are_streamed_and_trained_on(task):
    pairs = stream.fit(task)
    assert stream.fit(task) == pairs
    rows = {(row.metric, row.slice): row.value for row in stream.measure(pairs, task).rows}
    # Those of test are no pairs.
    assert 20 < rows["examples", "all"] <= 40
    assert rows["bytes_of_a_pair", "all"] > 1000 and rows["pairs_per_second", "training"] > 0
    assert rows["peak_mib", "training"] > rows["driver_mib", "training"] > 50
