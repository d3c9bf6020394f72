from hypothesis import given
from hypothesis import strategies as st

from engine.text.windows import window_bounds, window_count


def test_lengths_differ_by_at_most_one():
    assert window_bounds(10, 4) == [(0, 4), (4, 7), (7, 10)]
    assert window_bounds(8, 4) == [(0, 4), (4, 8)]
    assert window_bounds(0, 4) == []


@given(st.integers(0, 5000), st.integers(1, 600))
def test_windows_cover_everything_once(tokens, size):
    bounds = window_bounds(tokens, size)
    assert len(bounds) == window_count(tokens, size)
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(tokens))
    assert all(0 < stop - start <= size for start, stop in bounds)
