from collections import OrderedDict

import pytest
import torch

from engine.models.site_classifier.remembered import Remembered
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
    known, encode = Remembered(room), Encoder()
    for rows in ([[1, 2], [3, 4], [1, 2]], [[3, 4], [5, 6]], [[1, 2], [5, 6], [3, 4], [3, 4]]):
        found = known.states(windows(*rows), encode)
        assert torch.equal(found, windows(*rows).ids.unsqueeze(-1).expand(-1, -1, 2).float())


def test_a_window_is_encoded_once_while_there_is_room():
    known, encode = Remembered(4), Encoder()
    known.states(windows([1, 2], [3, 4], [1, 2]), encode)
    assert encode.calls == [[[1, 2], [3, 4]]]
    known.states(windows([1, 2], [3, 4]), encode)
    assert len(encode.calls) == 1
    known.states(windows([1, 2]), encode)
    # There is room for two: the one that was asked for longest ago goes.
    known.states(windows([5, 6]), encode)
    known.states(windows([1, 2], [3, 4]), encode)
    assert encode.calls[1:] == [[[5, 6]], [[3, 4]]]


def test_windows_that_differ_in_padding_or_segment_are_others():
    known, encode = Remembered(100), Encoder()
    one = windows([1, 0])
    padded = windows([1, 0])
    padded.mask = torch.tensor([[1, 0]])
    paired = windows([1, 0])
    paired.types = torch.tensor([[0, 1]])
    for batch in (one, padded, paired):
        known.states(batch, encode)
    assert len(encode.calls) == 3


def test_what_is_kept_holds_no_more_memory_than_its_own_and_can_be_forgotten():
    known, encode = Remembered(2), Encoder()
    known.states(windows(*([n, n] for n in range(50))), encode)
    (kept,) = known._states.values()
    assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()
    known.forget()
    known.states(windows([49, 49]), encode)
    assert len(encode.calls) == 2


def test_room_is_for_tokens_of_windows_of_any_length_and_stays_right_over_many_calls():
    known, encode = Remembered(10), Encoder()
    for number in range(200):
        known.states(windows([number] * (1 + number % 7)), encode)
        held = [len(states) for states in known._states.values()]
        assert sum(held) == known._held <= 10
        if number % 50 == 49:
            known.forget()
            assert known._held == 0
    # Of 4, 3, 2 and 1 tokens that came last, all are still there; a longer window turns out the oldest of them.
    for length in (4, 3, 2, 1, 5):
        known.states(windows([length] * length), encode)
    assert [len(states) for states in known._states.values()] == [2, 1, 5]


def test_a_call_costs_no_more_for_what_is_held_from_before():
    """Counted and not timed: looks at what is held, for each window that is asked for."""

    class Counted(OrderedDict):
        looks = 0

        def __iter__(self):
            for key in super().__iter__():
                Counted.looks += 1
                yield key

        def values(self):
            Counted.looks += len(self)
            return super().values()

    known, encode = Remembered(10_000), Encoder()
    known._states = Counted()
    known.states(windows(*([n, n] for n in range(1000))), encode)
    known.states(windows([1, 1], [2, 2]), encode)
    assert Counted.looks == 0
