from __future__ import annotations

import threading

import numpy as np

from data.transforms.scratch import scratch


def test_memory_is_used_again_by_the_same_name_and_by_no_other():
    large, small = scratch("a", (8, 9, 3)), scratch("a", (4, 5))
    assert large.shape == (8, 9, 3) and small.shape == (4, 5) and large.dtype == small.dtype == np.uint8
    assert np.shares_memory(large, small) and not np.shares_memory(large, scratch("b", (8, 9, 3)))
    assert scratch("a", (30, 30)).flags.c_contiguous


def test_threads_do_not_share_it():
    ours, theirs = scratch("a", (5, 5)), []
    thread = threading.Thread(target=lambda: theirs.append(scratch("a", (5, 5))))
    thread.start()
    thread.join()
    assert not np.shares_memory(ours, theirs[0])
