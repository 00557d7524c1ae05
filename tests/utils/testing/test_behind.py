"""Work in a thread behind the network: in order, bounded, and no failure is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from utils.testing.behind import MOST_WAITING, Behind


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "behind"]


def test_everything_is_done_in_order_when_the_block_ends() -> None:
    done: list[Any] = []

    def work(results: list[Any], batch: Any) -> None:
        assert torch.is_inference_mode_enabled() and threading.current_thread() is not threading.main_thread()
        done.append((results[0], batch))

    with Behind(work) as behind:
        for number in range(20):
            behind.update([number], -number)
    assert done == [(number, -number) for number in range(20)] and not threads()


def test_no_more_than_a_few_batches_wait() -> None:
    go, taken = threading.Event(), []

    def work(results: list[Any], batch: Any) -> None:
        taken.append(results)
        assert go.wait(10)

    handed: list[int] = []

    def hand_over(behind: Behind) -> None:
        for number in range(10):
            behind.update([number], None)
            handed.append(number)

    with Behind(work) as behind:
        giver = threading.Thread(target=hand_over, args=(behind,))
        giver.start()
        giver.join(0.3)
        # One is worked on, some wait, and whoever has the next one waits too.
        assert giver.is_alive() and len(handed) <= MOST_WAITING + 1 and len(taken) <= 1
        go.set()
        giver.join(10)
    assert len(handed) == len(taken) == 10


@pytest.mark.parametrize("failing", [0, 9])
def test_what_the_work_raises_is_raised_in_front(failing: int) -> None:
    done = []

    def work(results: list[Any], batch: Any) -> None:
        if results[0] == failing:
            raise ValueError("no room")
        done.append(results[0])

    with pytest.raises(ValueError, match="no room"), Behind(work) as behind:
        for number in range(10):
            behind.update([number], None)
    assert done == list(range(failing)), "nothing is done after a failure"
    assert not threads()


def test_a_failure_in_front_ends_the_work() -> None:
    started, go, done = threading.Event(), threading.Event(), []

    def work(results: list[Any], batch: Any) -> None:
        started.set()
        assert go.wait(10)
        done.append(results[0])

    def fail(release: Callable[[], None]) -> None:
        with Behind(work) as behind:
            behind.update([0], None)
            behind.update([1], None)
            assert started.wait(10)
            threading.Timer(0.05, release).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(go.set)
    assert done == [0] and not threads()
