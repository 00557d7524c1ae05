"""The file of decoded pictures: shared, filled by many, and never believed further than it was written."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import data.picture_store as picture_store
from data.picture_store import PictureStore, remove_unused, stored_bytes

SHAPES = np.array([[4, 5, 3], [6, 2, 3], [3, 3, 3], [700, 500, 3]])
FORK = multiprocessing.get_context("fork")


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, SHAPES[index], dtype=np.uint8)


def run(work: Callable[[], object]) -> int:
    """Run in a forked process and return its exit code."""
    process = FORK.Process(target=work)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("named", [True, False])
def test_it_gives_read_only_views_of_what_was_put(tmp_path: Path, named: bool) -> None:
    store = PictureStore(SHAPES, tmp_path / "a" if named else None)
    assert store.get(1) is None
    for i in (1, 0):
        store.put(i, picture(i))
    assert np.array_equal(store.get(0), picture(0)) and np.array_equal(store.get(1), picture(1))
    assert store.get(2) is None
    assert not store.get(0).flags.writeable
    store.put(2, picture(0))
    assert store.get(2) is None, "a picture of another shape is not this one"
    masks = PictureStore(SHAPES[:, :2])
    masks.put(3, picture(3)[..., 0])
    assert np.array_equal(masks.get(3), picture(3)[..., 0])


def test_another_process_finds_what_one_has_filled(tmp_path: Path) -> None:
    run(lambda: PictureStore(SHAPES, tmp_path / "a").put(3, picture(3)))
    store = PictureStore(SHAPES, tmp_path / "a")
    assert np.array_equal(store.get(3), picture(3)) and store.get(0) is None


@pytest.mark.parametrize("named", [True, False])
def test_forked_processes_share_it(tmp_path: Path, named: bool) -> None:
    store = PictureStore(SHAPES, tmp_path / "a" if named else None)
    run(lambda: store.put(0, picture(0)))
    assert np.array_equal(store.get(0), picture(0))


def test_a_process_killed_within_a_picture_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def half_and_die(file: int, data: memoryview, offset: int) -> int:
        write(file, data[: len(data) // 2], offset)
        os.kill(os.getpid(), signal.SIGKILL)

    def die() -> None:
        store = PictureStore(SHAPES, tmp_path / "a")
        store.put(0, picture(0))
        monkeypatch.setattr(os, "pwrite", half_and_die)
        store.put(3, picture(3))

    assert run(die) == -signal.SIGKILL
    store = PictureStore(SHAPES, tmp_path / "a")
    assert np.array_equal(store.get(0), picture(0)) and store.get(3) is None
    assert store._bytes.any()
    store.put(3, picture(3))
    assert np.array_equal(store.get(3), picture(3))


def test_many_processes_fill_it_at_once(tmp_path: Path) -> None:
    shapes = np.tile([[90, 70, 3]], (40, 1))

    def pixels(index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, shapes[index], dtype=np.uint8)

    def fill(seed: int) -> None:
        store = PictureStore(shapes, tmp_path / "a")
        for index in np.random.default_rng(seed).permutation(len(shapes)).tolist():
            kept = store.get(index)
            assert kept is None or np.array_equal(kept, pixels(index))
            store.put(index, pixels(index))

    workers = [FORK.Process(target=fill, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = PictureStore(shapes, tmp_path / "a")
    assert all(np.array_equal(store.get(index), pixels(index)) for index in range(len(shapes)))


def test_a_full_disk_is_said_once_and_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = PictureStore(SHAPES, tmp_path / "a")
    store.put(0, picture(0))

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        for index in (1, 2):
            store.put(index, picture(index))
            assert store.get(index) is None
    assert np.array_equal(store.get(0), picture(0))
    assert caplog.text.count("no further pictures are cached (No space left on device)") == 1


def die_after_putting(path: Path) -> None:
    store = PictureStore(SHAPES, path)
    store.put(0, picture(0))
    os.kill(os.getpid(), signal.SIGKILL)


def test_after_a_restart_of_the_machine_only_a_file_closed_in_order_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lambda: die_after_putting(tmp_path / "killed"))
    store = PictureStore(SHAPES, tmp_path / "closed")
    store.put(0, picture(0))
    del store
    monkeypatch.setattr(picture_store, "_BOOT", b"the next start")
    assert PictureStore(SHAPES, tmp_path / "killed").get(0) is None
    assert np.array_equal(PictureStore(SHAPES, tmp_path / "closed").get(0), picture(0))


def test_a_file_is_marked_as_in_use_on_the_disk_before_any_picture_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PictureStore(SHAPES, tmp_path / "a")
    store.put(0, picture(0))
    del store
    on_disk = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (sync(file), on_disk.append(os.pread(file, 100, 0)))[0])
    store = PictureStore(SHAPES, tmp_path / "a")
    assert len(on_disk) == 1 and picture_store._BOOT in on_disk[0]
    assert np.array_equal(store.get(0), picture(0))


def test_a_file_that_another_machine_uses_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PictureStore(SHAPES, tmp_path / "a")
    store.put(0, picture(0))
    with monkeypatch.context() as patch:
        patch.setattr(picture_store, "_BOOT", b"another machine")
        patch.setattr(picture_store, "_KNOWN_BOOT", b"another machine")
        with pytest.raises(OSError, match="another machine uses the file"):
            PictureStore(SHAPES, tmp_path / "a")
    assert np.array_equal(store.get(0), picture(0))


def test_no_part_that_says_which_pictures_are_there_is_a_hole(tmp_path: Path) -> None:
    shapes = np.tile([[10, 10, 3]], (100_000, 1))
    store = PictureStore(shapes, tmp_path / "a")
    # A look into a hole of a full /dev/shm ends the process.
    assert os.lseek(store._file, 0, os.SEEK_HOLE) >= len(shapes)


@pytest.mark.parametrize("content", [b"", b"something else entirely" * 1000])
def test_a_file_that_is_no_store_is_made_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    store = PictureStore(SHAPES, tmp_path / "a")
    assert all(store.get(index) is None for index in range(len(SHAPES)))
    store.put(2, picture(2))
    assert np.array_equal(store.get(2), picture(2))


def test_the_last_user_removes_a_file_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first, second = (PictureStore(SHAPES, path, remove_at_end=True) for _ in range(2))
    first.put(0, picture(0))
    view = first.get(0)
    del first
    assert path.exists() and np.array_equal(second.get(0), picture(0))
    run(lambda: None)  # a forked process that ends is no end of its parent's use
    assert path.exists()
    del second
    assert not path.exists() and np.array_equal(view, picture(0)), "a view outlives the file"


def test_the_leftover_of_a_killed_process_is_taken_up_or_removed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(lambda name=name: die_after_putting(tmp_path / name))
    store = PictureStore(SHAPES, tmp_path / "a", remove_at_end=True)
    assert np.array_equal(store.get(0), picture(0))
    assert remove_unused([tmp_path / "a", tmp_path / "b", tmp_path / "absent"]) == [tmp_path / "b"]
    assert store.path.exists()


def test_a_spawned_process_opens_the_same_file_and_begins_empty_without_one(tmp_path: Path) -> None:
    store, nameless = PictureStore(SHAPES, tmp_path / "a"), PictureStore(SHAPES)
    for each in (store, nameless):
        each.put(0, picture(0))
    assert np.array_equal(pickle.loads(pickle.dumps(store)).get(0), picture(0))
    arrived = pickle.loads(pickle.dumps(nameless))
    assert arrived.get(0) is None
    arrived.put(1, picture(1))
    assert np.array_equal(arrived.get(1), picture(1)) and nameless.get(1) is None


def test_room_that_is_taken_already_is_known(tmp_path: Path) -> None:
    total, filled = stored_bytes(SHAPES, tmp_path / "absent")
    assert total > SHAPES.prod(axis=1).sum() and filled == 0
    store = PictureStore(SHAPES, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size == total
    store.put(3, picture(3))
    assert stored_bytes(SHAPES, tmp_path / "a")[1] >= SHAPES[3].prod()
