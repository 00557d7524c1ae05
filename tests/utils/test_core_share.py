"""Cores that are shared out come back: what a block has set for its threads does not outlast it."""

from __future__ import annotations

import threading

import cv2
import pytest
import torch

from utils.core_share import CoreShare


@pytest.fixture
def four_threads():
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(4)
    cv2.setNumThreads(3)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def numbers_in_a_new_thread() -> tuple[int, int]:
    found = []
    thread = threading.Thread(target=lambda: found.append((torch.get_num_threads(), cv2.getNumThreads())))
    thread.start()
    thread.join()
    return found[0]


def test_threads_take_their_share_within_a_block_alone(four_threads) -> None:
    share = CoreShare.of(torch.device("cpu"), wanted=2)
    assert share == CoreShare(passes=2, threads=2)
    with share.held():
        thread = threading.Thread(target=share.enter_thread)
        thread.start()
        thread.join()
        assert numbers_in_a_new_thread() == (2, 1)
    assert numbers_in_a_new_thread() == (4, 3)


def test_cores_are_shared_out():
    threads = torch.get_num_threads()
    try:
        for cores, wanted, batches, passes, each in (
            (2, None, None, 2, 1),
            (16, None, None, 4, 4),
            (4, None, 1, 1, 4),
            (4, 3, 100, 3, 1),
            (1, 2, None, 2, 1),
        ):
            torch.set_num_threads(cores)
            assert CoreShare.of(torch.device("cpu"), wanted, batches) == CoreShare(passes, each)
        assert CoreShare.of(torch.device("cuda")).passes == 1
    finally:
        torch.set_num_threads(threads)
