from __future__ import annotations

import gc
import itertools
import threading
import time

import pytest

from data.background import Ahead


def wait_for(condition) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_items_come_in_their_order_and_end():
    assert list(Ahead(iter(range(50)), 2)) == list(range(50))


def test_another_thread_works_ahead_but_not_far():
    made = []

    def source():
        for number in itertools.count():
            made.append((number, threading.current_thread()))
            yield number

    ahead = Ahead(source(), 2)
    assert wait_for(lambda: len(made) >= 3)
    time.sleep(0.2)
    assert len(made) == 3, "two wait and one is in hand"
    assert next(ahead) == 0
    assert wait_for(lambda: len(made) == 4)
    assert made[0][1] is not threading.current_thread()
    ahead.close()


def test_errors_arrive_after_the_good_items():
    def source():
        yield 1
        raise ValueError("wrong")

    ahead = Ahead(source(), 2)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="wrong"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_closing_ends_the_thread_even_when_nothing_was_fetched():
    ahead = Ahead(itertools.count(), 1)
    thread = ahead._thread
    assert thread.is_alive()
    ahead.close()
    assert not thread.is_alive()
    with pytest.raises(StopIteration):
        next(ahead)


def test_a_forgotten_one_ends_its_thread():
    ahead = Ahead(itertools.count(), 1)
    thread = ahead._thread
    del ahead
    gc.collect()
    assert wait_for(lambda: not thread.is_alive())
