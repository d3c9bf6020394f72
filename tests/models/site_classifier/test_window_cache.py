from collections import OrderedDict

import pytest
import torch

from engine.models.site_classifier.window_cache import WindowCache
from engine.models.tokens import Batch


def windows(*rows):
    ids = torch.tensor(rows)
    ones = torch.ones_like(ids)
    return Batch(ids, ones, ones.bool(), 0 * ones, torch.zeros(len(rows), dtype=torch.long), ids, [0])


class Encoder:
    """The states of a token are its id, twice; counts windows."""

    def __init__(self):
        self.calls = []

    def __call__(self, batch):
        self.calls.append(batch.ids.tolist())
        return batch.ids.unsqueeze(-1).expand(-1, -1, 2).float()


@pytest.mark.parametrize("room", [0, 4, 100])
def test_states_are_those_of_the_windows_in_their_order(room):
    cache, encode = WindowCache(room), Encoder()
    for rows in ([[1, 2], [3, 4], [1, 2]], [[3, 4], [5, 6]], [[1, 2], [5, 6], [3, 4], [3, 4]]):
        states = cache.states(windows(*rows), encode)
        assert torch.equal(states, windows(*rows).ids.unsqueeze(-1).expand(-1, -1, 2).float())


def test_a_window_is_encoded_once_while_the_cache_has_room():
    cache, encode = WindowCache(4), Encoder()
    cache.states(windows([1, 2], [3, 4], [1, 2]), encode)
    assert encode.calls == [[[1, 2], [3, 4]]]
    cache.states(windows([1, 2], [3, 4]), encode)
    assert len(encode.calls) == 1
    cache.states(windows([1, 2]), encode)
    # There is room for two: the window that was used longest ago goes.
    cache.states(windows([5, 6]), encode)
    cache.states(windows([1, 2], [3, 4]), encode)
    assert encode.calls[1:] == [[[5, 6]], [[3, 4]]]


def test_windows_that_differ_in_padding_or_segment_are_encoded_apart():
    cache, encode = WindowCache(100), Encoder()
    one = windows([1, 0])
    padded = windows([1, 0])
    padded.mask = torch.tensor([[1, 0]])
    paired = windows([1, 0])
    paired.types = torch.tensor([[0, 1]])
    for batch in (one, padded, paired):
        cache.states(batch, encode)
    assert len(encode.calls) == 3


def test_cached_states_hold_no_other_memory_and_can_be_cleared():
    cache, encode = WindowCache(2), Encoder()
    cache.states(windows(*([n, n] for n in range(50))), encode)
    (states,) = cache._states.values()
    assert states.untyped_storage().nbytes() == states.numel() * states.element_size()
    cache.clear()
    cache.states(windows([49, 49]), encode)
    assert len(encode.calls) == 2


def test_the_limit_counts_tokens_of_windows_of_any_length_over_many_calls():
    cache, encode = WindowCache(10), Encoder()
    for number in range(200):
        cache.states(windows([number] * (1 + number % 7)), encode)
        sizes = [len(states) for states in cache._states.values()]
        assert sum(sizes) == cache._tokens <= 10
        if number % 50 == 49:
            cache.clear()
            assert cache._tokens == 0
    # The windows of 4, 3, 2 and 1 tokens all fit; a longer one pushes out the oldest of them.
    for length in (4, 3, 2, 1, 5):
        cache.states(windows([length] * length), encode)
    assert [len(states) for states in cache._states.values()] == [2, 1, 5]


def test_a_call_does_not_look_at_everything_in_the_cache():
    """Counts reads of the cache, since times would depend on the machine."""

    class Counted(OrderedDict):
        looks = 0

        def __iter__(self):
            for key in super().__iter__():
                Counted.looks += 1
                yield key

        def values(self):
            Counted.looks += len(self)
            return super().values()

    cache, encode = WindowCache(10_000), Encoder()
    cache._states = Counted()
    cache.states(windows(*([n, n] for n in range(1000))), encode)
    cache.states(windows([1, 1], [2, 2]), encode)
    assert Counted.looks == 0
