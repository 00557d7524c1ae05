"""Work in threads: results in order, few items in memory, errors where they belong, no thread left."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.ordered_work import InOrder, Outlet


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 4), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(waits, workers, ahead):
    def work(item):
        time.sleep(item[1] / 2000)
        return item[0]

    before = threads()
    with InOrder(work, enumerate(waits), workers, ahead) as found:
        assert list(found) == list(range(len(waits)))
        assert list(found) == []
    done = []
    with Outlet(work, done.append, workers, ahead) as outlet:
        for item in enumerate(waits):
            outlet.put(item)
    assert done == list(range(len(waits)))
    assert threads() == before


def test_no_more_items_are_taken_than_there_is_room_for():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with InOrder(lambda item: item, items(), workers=2, ahead=3) as found:
        time.sleep(0.05)
        assert len(taken) == 3
        assert next(found) == 0
        time.sleep(0.05)
        assert len(taken) == 4


def test_what_fails_is_raised_in_its_turn_and_ends_all_threads():
    def work(item):
        if item == 3:
            raise OSError("work")
        return item

    def items():
        yield from range(2)
        raise KeyError("items")

    before = threads()
    for source, error, count in ((range(100), OSError, 3), (items(), KeyError, 2)):
        seen = []
        with pytest.raises(error), InOrder(work, source, workers=2, ahead=2) as found:
            for each in found:
                seen.append(each)
        assert seen == list(range(count))
    assert threads() == before


def test_leaving_early_closes_the_generator_and_does_not_wait_for_the_rest():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before, held = threads(), items()
    with InOrder(lambda item: item, held, workers=2, ahead=4) as found:
        assert next(found) == 1
    assert closed.is_set() and threads() == before


@pytest.mark.parametrize("where", ["work", "last"])
def test_an_outlet_that_fails_says_so_and_does_nothing_more(where):
    done = []

    def work(item):
        if where == "work" and item == 2:
            raise OSError("full")
        return item

    def last(item):
        if where == "last" and item == 2:
            raise OSError("full")
        done.append(item)

    before = threads()
    with pytest.raises(OSError, match="full"), Outlet(work, last, workers=2, ahead=2) as outlet:
        for item in range(1000):
            outlet.put(item)
    assert done == [0, 1] and item < 20, "putting does not go on for ever"
    with pytest.raises(OSError, match="full"), Outlet(work, last, workers=2, ahead=8) as outlet:
        for item in range(4):
            outlet.put(item)
    assert threads() == before


@pytest.mark.parametrize(("error", "finished"), [(KeyboardInterrupt, True), (ValueError, False)])
def test_only_an_interrupted_outlet_finishes_what_it_was_given(error, finished):
    done, gate = [], threading.Event()

    def work(item):
        gate.wait(5)
        return item

    with pytest.raises(error), Outlet(work, done.append, workers=1, ahead=4) as outlet:
        for item in range(4):
            outlet.put(item)
        threading.Timer(0.02, gate.set).start()
        raise error
    assert (done == [0, 1, 2, 3]) == finished
