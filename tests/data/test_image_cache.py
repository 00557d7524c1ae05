"""Picture caches: what goes in comes out, what does not fit is left out with a warning."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest

import data.image_cache as image_cache
from data.image_cache import DiskCache, MemoryCache

SHAPES = np.array([[4, 5, 3], [6, 2, 3], [3, 3, 3]])


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, SHAPES[index], dtype=np.uint8)


def test_memory_gives_copies_of_what_was_put() -> None:
    cache = MemoryCache(SHAPES)
    assert cache.get(1) is None
    for i in (1, 0):
        cache.put(i, picture(i))
    cache.get(1)[:] = 0
    assert np.array_equal(cache.get(0), picture(0)) and np.array_equal(cache.get(1), picture(1))
    assert cache.get(2) is None
    cache.put(2, picture(0))
    assert cache.get(2) is None


def test_a_memory_cache_arrives_empty_in_a_spawned_process() -> None:
    cache = MemoryCache(SHAPES)
    cache.put(0, picture(0))
    arrived = copy.copy(cache)  # by the same state that a pickle would carry
    assert arrived.get(0) is None
    arrived.put(1, picture(1))
    assert np.array_equal(arrived.get(1), picture(1)) and cache.get(1) is None


def test_too_little_memory_is_said_and_nothing_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_cache, "_free_memory", lambda: 100)
    cache = MemoryCache(SHAPES)
    cache.put(0, picture(0))
    assert cache.get(0) is None and "not cached in memory" in caplog.text


def test_disk_gives_what_was_put_until_the_source_changes(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(b"1")
    cache = DiskCache(tmp_path / "cache")
    assert cache.get(source) is None
    cache.put(source, picture(0))
    assert np.array_equal(DiskCache(tmp_path / "cache").get(source), picture(0))
    os.utime(source, ns=(0, 1))
    assert cache.get(source) is None


def test_disk_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "cache")
    for _ in range(2):
        cache.put(tmp_path / "file", picture(0))
        assert cache.get(tmp_path / "file") is None
    assert caplog.text.count("not cached") == 1
