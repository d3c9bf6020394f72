from hypothesis import given
from hypothesis import strategies as st

from engine.batching import micro_batch, token_budget_batches


def test_like_lengths_go_together_and_the_longest_first():
    assert token_budget_batches([1, 2, 1, 1], [10, 100, 12, 98], budget=300) == [[1, 3], [2, 0]]


def test_micro_batches_are_smaller_on_a_cpu_unless_asked_for():
    assert [micro_batch(0, device, on_cpu=1024) for device in ("cpu", "cuda")] == [1024, 8192]
    assert [micro_batch(300, device, on_cpu=1024) for device in ("cpu", "cuda")] == [300, 300]


def test_a_record_over_the_budget_goes_alone():
    assert token_budget_batches([50, 1], [100, 100], budget=400) == [[0], [1]]


def test_a_budget_of_one_gives_every_record_its_own_batch():
    assert sorted(token_budget_batches([1, 3, 1], [5, 5, 5], budget=1)) == [[0], [1], [2]]


def test_nothing():
    assert token_budget_batches([], [], budget=10) == []


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(2, 128)), max_size=60), st.integers(1, 5000))
def test_every_record_once_and_within_budget(records, budget):
    windows, lengths = [w for w, _ in records], [n for _, n in records]
    batches = token_budget_batches(windows, lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(records)))
    for batch in batches:
        cost = sum(windows[i] for i in batch) * max(lengths[i] for i in batch)
        assert cost <= budget or len(batch) == 1
