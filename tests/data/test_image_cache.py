"""Where pictures are cached: a key that follows the files, room that is asked for before, and nothing left lying."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import data.image_cache as image_cache
from data.image_cache import StoreName, files_key, open_store
from data.label_cache import stamp_of_files

SHAPES = np.array([[4, 5, 3], [6, 2, 3]])
FORK = multiprocessing.get_context("fork")
Usage = namedtuple("Usage", "total used free")


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, SHAPES[index], dtype=np.uint8)


@pytest.fixture(autouse=True)
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the system's shared memory."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(image_cache, "SHARED_MEMORY", folder)
    return folder


def name(key: str = "k1", size: str = "640", kind: str = "pictures") -> StoreName:
    return StoreName("train-detect", key, size, kind)


def test_the_key_follows_path_size_and_time_of_every_file(tmp_path: Path) -> None:
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for file in files:
        file.write_bytes(b"1")
    listed = [str(file) for file in files]
    both = np.array([0, 1])

    def key() -> str:
        return files_key(stamp_of_files(listed), both)

    keys = [key(), files_key(stamp_of_files(listed), both, "other"), files_key(stamp_of_files(listed), both[:1])]
    assert key() == keys[0]
    os.utime(files[1], ns=(0, 1))
    keys.append(key())
    files[0].write_bytes(b"12")
    keys.append(key())
    files[0].rename(tmp_path / "c.jpg")
    listed[0] = str(tmp_path / "c.jpg")
    keys.append(key())
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("where", ["disk", "ram"])
def test_a_store_is_found_again_by_another_user(tmp_path: Path, where: str) -> None:
    first = open_store(where, tmp_path / "cache", name(), SHAPES)
    first.put(1, picture(1))
    second = open_store(where, tmp_path / "cache", name(), SHAPES)
    assert np.array_equal(second.get(1), picture(1)) and second.get(0) is None


def test_on_the_disk_files_of_another_key_go_and_other_sizes_stay(tmp_path: Path) -> None:
    used = open_store("disk", tmp_path, name("used"), SHAPES)
    for each in (name("old"), name("old", "320"), name("old", kind="masks")):
        open_store("disk", tmp_path, each, SHAPES)
    for each in (name("new"), name("new", "320")):
        open_store("disk", tmp_path, each, SHAPES)
    left = {path.name.removeprefix("train-detect-") for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"used-640.pictures", "old-640.masks", "new-640.pictures", "new-320.pictures"}
    used.put(0, picture(0))
    assert np.array_equal(used.get(0), picture(0))


def test_in_memory_nothing_is_left_after_the_end_and_a_killed_run_is_cleared_away(
    tmp_path: Path, shared_memory: Path
) -> None:
    def die() -> None:
        open_store("ram", tmp_path, name("old"), SHAPES).put(0, picture(0))
        kept = [open_store("ram", tmp_path, each, SHAPES) for each in (name("older"), name("k1"))]
        kept[1].put(0, picture(0))
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=die)
    process.start()
    process.join()
    assert len(list(shared_memory.iterdir())) == 2
    store = open_store("ram", tmp_path, name("k1"), SHAPES)
    assert [path.name.endswith("train-detect-k1-640.pictures") for path in shared_memory.iterdir()] == [True]
    assert np.array_equal(store.get(0), picture(0)), "the leftover of the same pictures is taken up"
    del store
    assert list(shared_memory.iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100))
    assert open_store("disk", tmp_path / "cache", name(), SHAPES) is None
    assert list((tmp_path / "cache").iterdir()) == []
    assert caplog.text.count("has 0.0 GB to spare: they are not cached but decoded each time") == 1


def test_a_filled_store_needs_no_further_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = np.array([[300, 300, 3]])
    store = open_store("disk", tmp_path, name(), shapes)
    store.put(0, np.ones((300, 300, 3), np.uint8))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 8000))
    assert open_store("disk", tmp_path, name(), shapes).get(0).all()


@pytest.mark.parametrize("where", ["disk", "ram"])
def test_room_that_an_earlier_store_has_yet_to_fill_is_not_given_twice(
    tmp_path: Path, shared_memory: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    shapes = np.array([[300, 300, 3]])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 500_000))
    first = open_store(where, tmp_path, name("k1"), shapes)
    second = open_store(where, tmp_path, name("k1", kind="masks"), shapes)
    if where == "disk":
        assert second is None
    else:
        assert second.path is None, "it would leave no room in /dev/shm"
    del second
    monkeypatch.setattr(image_cache, "free_host_memory", lambda: 500_000)
    assert open_store(where, tmp_path, name("k1", "320"), shapes) is None
    first.put(0, np.ones((300, 300, 3), np.uint8))
    assert open_store(where, tmp_path, name("k1", kind="masks"), shapes) is not None


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert open_store("disk", tmp_path / "file" / "cache", name(), SHAPES) is None
    assert caplog.text.count("are not cached") == 1


def test_too_little_memory_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_cache, "free_host_memory", lambda: 100)
    assert open_store("ram", tmp_path, name(), SHAPES) is None
    assert "memory has 0.0 GB to spare" in caplog.text


@pytest.mark.parametrize("reason", ["absent", "small"])
def test_without_named_shared_memory_forked_processes_share_a_nameless_one(
    tmp_path: Path, shared_memory: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "absent":
        shared_memory.rmdir()
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 64))
    store = open_store("ram", tmp_path, name(), SHAPES)
    assert store.path is None
    process = FORK.Process(target=store.put, args=(0, picture(0)))
    process.start()
    process.join()
    assert np.array_equal(store.get(0), picture(0))
