"""The label cache: whole or absent, never trusted when its key or its bytes do not fit."""

from __future__ import annotations

import io
import os
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from data.config import TaskData
from data.label_cache import (
    cache_file,
    cache_folder,
    content_key,
    load_index,
    save_index,
    set_name,
    stamp_of_files,
)
from data.report import DataReport
from data.scan import LabelIndex


def key_of(data: TaskData, images: list[Path], labels: list[Path | None]) -> str:
    return content_key(data, stamp_of_files(images), stamp_of_files(labels))


def index() -> LabelIndex:
    rng = np.random.default_rng(0)
    return LabelIndex(
        kept=np.array([0, 2]),
        sizes=np.array([[3, 4], [5, 6]], np.int32),
        offsets=np.array([0, 1, 3]),
        classes=np.array([1, 0, 2]),
        boxes=rng.random((3, 4), np.float32),
        keypoints=rng.random((3, 2, 3), np.float32),
        areas=np.array([4, 5, 6], np.float32),
        crowd=np.array([False, True, False]),
        report=DataReport("detect train", 3, 2, corrupt=["ü.jpg"], reasons=["ü.jpg: zero"]),
    )


def test_an_index_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.npz"
    save_index(file, "key", index())
    loaded = load_index(file, "key")
    for entry in fields(LabelIndex):
        assert np.array_equal(getattr(loaded, entry.name), getattr(index(), entry.name)), entry.name
    save_index(file, "key", replace(index(), areas=None, crowd=None))
    loaded = load_index(file, "key")
    assert loaded.areas is None and loaded.crowd is None and len(loaded.boxes) == 3
    assert [path.name for path in file.parent.iterdir()] == ["a.npz"]


def test_another_key_or_damage_gives_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    assert load_index(file, "key") is None
    save_index(file, "key", index())
    assert load_index(file, "other") is None
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"junk" * 50):
        file.write_bytes(damaged)
        assert load_index(file, "key") is None


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.array([{"key": "key"}], dtype=object))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    assert load_index(tmp_path / "a.npz", "key") is None


def test_where_nothing_can_be_written_it_goes_on_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    save_index(tmp_path / "file" / "a.npz", "key", index())
    assert "no label cache" in caplog.text


def test_the_key_depends_on_what_decides_the_result(tmp_path: Path) -> None:
    image, label = tmp_path / "a.jpg", tmp_path / "a.txt"
    image.write_bytes(b"1")
    data = TaskData("detect", "detect", "yolo_txt", ["x"], {"train": [tmp_path]})
    keys = [key_of(data, [image], [label]), key_of(data, [image], [None])]
    label.write_text("")
    keys.append(key_of(data, [image], [label]))
    image.write_bytes(b"12")
    keys.append(key_of(data, [image], [label]))
    more = TaskData("detect", "detect", "yolo_txt", ["x", "y"], {"train": [tmp_path]})
    keys.append(key_of(more, [image], [label]))
    assert len(set(keys)) == len(keys)
    assert key_of(more, [image], [label]) == keys[-1]
    assert cache_file(tmp_path, data, "train") != cache_file(tmp_path, more, "train")
    assert set_name(data, "train") == set_name(more, "train") != set_name(replace(data, key="cars"), "train")
    one, other = (replace(data, annotations={"train": tmp_path / name}) for name in ("a.json", "b.json"))
    assert set_name(one, "train") != set_name(other, "train"), "two sets of the same images keep their own pictures"


def test_the_folder_lies_beside_the_labels_or_above_missing_ones(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    assert cache_folder(tmp_path / "labels/a.txt") == tmp_path / "labels/.yolograph"
    assert cache_folder(tmp_path / "nowhere/train/a.txt") == tmp_path / ".yolograph"


def test_an_edit_that_keeps_size_and_time_changes_the_key(tmp_path: Path) -> None:
    label = tmp_path / "a.txt"
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    data = TaskData("detect", "detect", "yolo_txt", ["x"], {"train": [tmp_path]})
    key, before = key_of(data, [], [label]), label.stat()
    time.sleep(0.02)  # longer than the clock of a file system takes to tick
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (label.stat().st_size, label.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert key_of(data, [], [label]) != key
