from collections import Counter

import numpy as np
import pytest

from engine.shuffling import Shuffle

REPORTS, SAMPLES = (4, 3, 0, 5, 2), (1, 0, 2, 1, 0)


def shuffle(ratio=-1.0, window=2, seed=3):
    return Shuffle(REPORTS, SAMPLES, ratio, seed, window)


def test_numbers_go_shard_by_shard_reports_before_samples():
    made = shuffle()
    assert made.base.tolist() == [0, 5, 8, 10, 16, 18]
    assert [made.shard_of(number) for number in (0, 4, 5, 8, 9, 10, 17)] == [0, 0, 1, 2, 2, 3, 4]


def test_an_epoch_has_everyone_once_in_another_order_and_the_same_again():
    orders = [list(shuffle().epoch(epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(18)) for order in orders)
    assert len(set(map(tuple, orders))) == 4 and orders[2] == list(shuffle().epoch(2))
    assert list(shuffle(seed=4).epoch(0)) != orders[0]


def test_any_place_is_known_without_those_before_it():
    whole = list(shuffle().epoch(1))
    for start in range(18):
        assert shuffle().epoch(1)[start : start + 4] == whole[start : start + 4]
    assert shuffle().epoch(1)[17] == whole[17] == shuffle().epoch(1)[-1] and len(shuffle().epoch(1)) == 18


def test_a_window_is_a_few_whole_shards():
    made, epoch = shuffle(), shuffle().epoch(5)
    assert epoch.windows == 3
    for window in range(3):
        members, shards = epoch.window(window), set(epoch.shards_of(window).tolist())
        assert {made.shard_of(int(member)) for member in members} <= shards and len(shards) <= 2
        assert {epoch.window_of(int(member)) for member in members} == {window}
        assert epoch.bounds[window + 1] - epoch.bounds[window] == len(members)
    assert sorted(np.concatenate([epoch.shards_of(window) for window in range(3)]).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("ratio", "total", "counts"), [(0, 0, {0}), (0.2, 3, {0, 1}), (0.5, 7, {1, 2}), (2, 28, {7})])
def test_samples_are_drawn_by_the_ratio_and_each_about_as_often(ratio, total, counts):
    samples = [4, 8, 9, 15]
    seen = Counter()
    for epoch in range(5):
        found = Counter(shuffle(ratio).epoch(epoch))
        assert sum(found[each] for each in samples) == total == len(shuffle(ratio).epoch(epoch)) - 14
        assert {found[each] for each in samples} <= counts
        assert all(found[each] == 1 for each in range(18) if each not in samples)
        seen.update({each: found[each] for each in samples})
    assert len({tuple(shuffle(ratio).epoch(epoch)) for epoch in range(5)}) == 5
