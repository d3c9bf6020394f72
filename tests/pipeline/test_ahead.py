import time

import pytest

from engine.pipeline.ahead import WORKERS, ahead


def test_results_come_in_order_whatever_is_ready_first():
    assert list(ahead(lambda n: (time.sleep(0.02 * (n % 3)), n)[1], range(40))) == list(range(40))
    assert list(ahead(lambda n: n, [])) == []


def test_no_more_than_a_few_are_under_way():
    taken = []
    results = ahead(lambda n: n, (taken.append(n) or n for n in range(1000)))
    next(results)
    assert len(taken) <= WORKERS + 1
    results.close()


def test_an_error_comes_where_its_item_would_have_and_ends_it():
    results = ahead(lambda n: 6 // (3 - n), range(100))
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
