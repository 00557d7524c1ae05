"""The ring of lately decoded pictures: gives back what was put or nothing, whoever shares it and whoever dies."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal

import numpy as np
import pytest

from data.recent_pictures import RecentPictures

FORK = multiprocessing.get_context("fork")
SHAPE = (6, 5, 3)


def picture(index: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def test_the_newest_take_the_place_of_the_oldest() -> None:
    ring = RecentPictures(count=10, slots=3, slot_bytes=90)
    assert ring.get(4, SHAPE) is None
    for index in (4, 0, 9):
        ring.put(index, picture(index))
    assert all(np.array_equal(ring.get(index, SHAPE), picture(index)) for index in (4, 0, 9))
    ring.put(2, picture(2, (2, 3, 3)))
    assert np.array_equal(ring.get(2, (2, 3, 3)), picture(2, (2, 3, 3)))
    assert ring.get(4, SHAPE) is None and ring.get(0, SHAPE) is not None
    ring.put(7, np.zeros((6, 6, 3), np.uint8))
    assert ring.get(7, (6, 6, 3)) is None, "too large for a slot"


def test_what_it_gives_cannot_be_written() -> None:
    ring = RecentPictures(2, 2, 90)
    ring.put(0, picture(0))
    with pytest.raises(ValueError, match="read-only"):
        ring.get(0, SHAPE)[:] = 0


def test_a_picture_that_is_looked_at_keeps_its_slot_until_the_last_look() -> None:
    ring = RecentPictures(count=10, slots=2, slot_bytes=90)
    ring.put(0, picture(0))
    ring.put(1, picture(1))
    whole, again = ring.get(0, SHAPE), ring.get(0, SHAPE)
    corner = whole[1:3, 2:4][:, ::-1]
    for index in range(2, 6):
        ring.put(index, picture(index))
        assert np.array_equal(ring.get(index, SHAPE), picture(index))
    assert np.array_equal(whole, picture(0))
    del whole
    ring.put(6, picture(6))
    del again
    ring.put(7, picture(7))
    assert np.array_equal(corner, picture(0)[1:3, 2:4][:, ::-1])
    kept = ring.get(7, SHAPE)
    ring.put(8, picture(8))
    assert ring.get(8, SHAPE) is None, "both slots are in use"
    assert np.array_equal(kept, picture(7))
    del corner
    ring.put(9, picture(9))
    assert ring.get(0, SHAPE) is None and np.array_equal(ring.get(9, SHAPE), picture(9))


def test_a_picture_that_another_process_looks_at_keeps_its_slot() -> None:
    ring = RecentPictures(count=4, slots=2, slot_bytes=90)
    ring.put(0, picture(0))
    ours, theirs = FORK.Pipe()

    def look() -> None:
        seen = ring.get(0, SHAPE)
        theirs.send("looking")
        theirs.recv()
        assert np.array_equal(seen, picture(0))

    process = FORK.Process(target=look)
    process.start()
    assert ours.recv() == "looking"
    for index in (1, 2, 3):
        ring.put(index, picture(index))
    assert ring.get(0, SHAPE) is not None and ring.get(3, SHAPE) is not None
    ours.send("enough")
    process.join()
    assert process.exitcode == 0
    for index in (1, 2):
        ring.put(index, picture(index))
    assert ring.get(0, SHAPE) is None and ring.get(3, SHAPE) is None


def test_processes_that_share_it_never_see_a_mixture() -> None:
    ring = RecentPictures(count=30, slots=4, slot_bytes=300 * 300 * 3)
    shape = (300, 300, 3)

    def use(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 30, 300).tolist():
            found = ring.get(index, shape)
            if found is None:
                ring.put(index, np.full(shape, index, np.uint8))
            else:
                assert (found == index).all()

    workers = [FORK.Process(target=use, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sum(ring.get(index, shape) is not None for index in range(30)) == 4


def test_a_process_killed_while_it_writes_blocks_nobody_and_leaves_nothing() -> None:
    ring = RecentPictures(count=3, slots=1, slot_bytes=90)

    class Deadly:
        size = 90

        def reshape(self, _: int) -> np.ndarray:
            os.kill(os.getpid(), signal.SIGKILL)

    ring.put(1, picture(1))
    process = FORK.Process(target=ring.put, args=(0, Deadly()))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert ring.get(0, SHAPE) is None and ring.get(1, SHAPE) is None
    ring.put(2, picture(2))
    assert np.array_equal(ring.get(2, SHAPE), picture(2))


def test_a_ring_arrives_empty_in_a_spawned_process() -> None:
    ring = RecentPictures(2, 2, 90)
    ring.put(0, picture(0))
    arrived = copy.copy(ring)  # by the same state that a pickle would carry
    assert arrived.get(0, SHAPE) is None
    arrived.put(1, picture(1))
    assert np.array_equal(arrived.get(1, SHAPE), picture(1)) and ring.get(1, SHAPE) is None
