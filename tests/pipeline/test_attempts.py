import pytest

from engine.errors import RetryableError
from engine.pipeline import attempts
from engine.pipeline.attempts import MODEL, READ
from engine.pipeline.layout import Layout
from engine.storage import LocalStorage


@pytest.fixture
def place(tmp_path):
    return LocalStorage(), Layout(str(tmp_path))


def test_tries_are_numbered_by_stage_and_shard(place):
    assert [attempts.begin(*place, "0000-000000", READ, "d", 10) for _ in range(3)] == [1, 2, 3]
    assert attempts.begin(*place, "0000-000000", MODEL, "d", 10) == 1
    assert attempts.begin(*place, "0000-000001", READ, "d", 10) == 1


def test_the_third_try_of_either_stage_is_isolated():
    assert [attempts.isolated(number) for number in (1, 2, 3, 7)] == [False, False, True, True]


def test_a_drivers_tries_are_bounded_and_a_dead_drivers_do_not_count(place):
    for _ in range(5):
        attempts.begin(*place, "0000-000000", MODEL, "dead", 5)
    for _ in range(5):
        attempts.begin(*place, "0000-000000", MODEL, "alive", 5)
    with pytest.raises(RetryableError, match="0000-000000 was lost 5 times"):
        attempts.begin(*place, "0000-000000", MODEL, "alive", 5)
    assert attempts.begin(*place, "0000-000000", MODEL, "next", 5) == 11


def test_an_unreadable_marker_still_counts(place):
    storage, layout = place
    storage.create(layout.attempt("0000-000000", READ, 1), b"\xff not json")
    assert attempts.begin(*place, "0000-000000", READ, "d", 3) == 2
