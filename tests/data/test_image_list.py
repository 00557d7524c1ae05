"""Splits as folders, list files, images and lists of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.image_list import list_image_files, list_images
from utils.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images/b.jpg", "images/a.PNG", "images/sub/c.webp", "images/notes.txt", "images/.hidden/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_is_searched_with_its_subfolders_and_sorted(folder: Path) -> None:
    found = [path.relative_to(folder).as_posix() for path in list_images([folder / "images"])]
    assert found == ["images/a.PNG", "images/b.jpg", "images/sub/c.webp"]


def test_files_come_in_the_order_of_the_parts_of_their_paths(tmp_path: Path) -> None:
    names = ["a/x.jpg", "a-b/x.jpg", "a.jpg", "a/b/c.jpg", "a/b.jpg", "ab.jpg", "A/z.jpg", "a b/x.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_images([tmp_path]) == sorted(tmp_path / name for name in names)
    assert list_image_files([tmp_path]) == [str(path) for path in list_images([tmp_path])]


def test_the_working_folder_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "images")
    assert list_image_files([Path()]) == ["a.PNG", "b.jpg", "sub/c.webp"]


def test_a_list_file_keeps_its_order_and_resolves_lines(folder: Path) -> None:
    (folder / "lists").mkdir()
    listing = folder / "lists/train.txt"
    listing.write_text(f"./../images/b.jpg\n\nimages/a.PNG\n{folder}/images/sub/c.webp\n")
    found = list_images([listing], root=folder)
    assert [path.name for path in found] == ["b.jpg", "a.PNG", "c.webp"]
    assert all(path.is_file() for path in found)


def test_entries_add_up_and_repetitions_count_once(folder: Path) -> None:
    entries = [folder / "images/sub", folder / "images/b.jpg", folder / "images"]
    assert [path.name for path in list_images(entries)] == ["c.webp", "b.jpg", "a.PNG"]


def test_a_missing_folder_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        list_images([folder / "nowhere"])


def test_an_empty_folder_is_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty: the set is empty"):
        list_images([folder / "empty"])


def test_a_subfolder_that_cannot_be_read_is_named_and_not_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def guarded(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=r"sub: cannot be read \(Permission denied\)"):
        list_images([folder / "images"])
