"""Finding what detect.py shall read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.sources import find_sources, read_frames
from utils.errors import DataError, UsageError


@pytest.fixture
def tree(tmp_path):
    """A folder with images, videos, other files, hidden files and a subfolder."""
    for name in ("b.JPG", "a.png", "z.mp4", "y.avi", "notes.md", ".hidden.jpg", "sub/c.png", "odd[1].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_folder_is_sorted_and_flat(tree):
    found = find_sources(str(tree))
    assert names(found.images) == ["a.png", "b.JPG", "odd[1].png"]
    assert names(found.videos) == ["y.avi", "z.mp4"]
    assert len(found) == 5


def test_single_files(tree):
    assert names(find_sources(str(tree / "b.JPG")).images) == ["b.JPG"]
    assert names(find_sources(str(tree / "z.mp4")).videos) == ["z.mp4"]


def test_globs(tree):
    assert names(find_sources(str(tree / "*.png")).images) == ["a.png", "odd[1].png"]
    assert names(find_sources(str(tree / "**" / "*.png")).images) == ["a.png", "odd[1].png", "c.png"]
    assert len(find_sources(str(tree / "*"))) == 5


def test_a_file_with_brackets_in_its_name_is_no_glob(tree):
    assert names(find_sources(str(tree / "odd[1].png")).images) == ["odd[1].png"]


def test_list_keeps_its_order_and_reads_paths_from_its_own_folder(tree, monkeypatch):
    (tree / "list.txt").write_text("\ufeffz.mp4\n\nsub/c.png\na.png\na.png\n", encoding="utf-8")
    found = find_sources(str(tree / "list.txt"))
    assert found.images == [tree / "sub/c.png", tree / "a.png"]
    assert found.videos == [tree / "z.mp4"]
    (tree / "sub" / "list.txt").write_text("a.png\nmissing.png\n")
    monkeypatch.chdir(tree)
    found = find_sources("sub/list.txt")
    assert [str(path) for path in found.images] == ["a.png", "sub/missing.png"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("gone", "no such file or folder"),
        ("notes.md", "neither an image nor a video"),
        ("*.jpg", "no file matches"),
        ("*.md", "none of the 1 matching files"),
        ("only_other", "holds no image and no video"),
        ("empty.txt", "the list is empty"),
        ("binary.txt", "not a text file"),
        ("strange.txt", "line 2: 'notes.md' is neither"),
    ],
)
def test_faults_are_named(tree, source, words):
    (tree / "only_other").mkdir()
    (tree / "only_other" / "x.md").touch()
    (tree / "empty.txt").write_text("\n\n")
    (tree / "binary.txt").write_bytes(b"\xff\xfe\x80")
    (tree / "strange.txt").write_text("a.png\nnotes.md\n")
    with pytest.raises(DataError, match="(?s)" + words.replace("*", r"\*")) as caught:
        find_sources(str(tree / source))
    assert source in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["0", "rtsp://host/stream", "https://host/a.mp4"])
def test_streams_are_refused(tree, source):
    with pytest.raises(UsageError, match="cannot be read yet"):
        find_sources(source)
    (tree / "streams.txt").write_text(f"a.png\n{source}\n")
    with pytest.raises(UsageError, match="cannot be read yet"):
        find_sources(str(tree / "streams.txt"))


def test_reading_goes_on_after_a_broken_file(tree):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 2] = 200
    cv2.imwrite(str(tree / "a.png"), image)
    cv2.imwrite(str(tree / "sub" / "c.png"), image)
    failed = []
    paths = [tree / "a.png", tree / "b.JPG", tree / "gone.png", tree / "sub" / "c.png"]
    frames = list(read_frames(paths, lambda path, error: failed.append((path.name, str(error)))))
    assert [(frame.path.name, frame.number) for frame in frames] == [("a.png", 1), ("c.png", 4)]
    assert frames[0].image[0, 0].tolist() == [200, 0, 0], "RGB"
    assert [name for name, _ in failed] == ["b.JPG", "gone.png"]
    assert "corrupt" in failed[0][1] and "no such image" in failed[1][1]
