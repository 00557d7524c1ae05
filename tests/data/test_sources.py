"""Finding what detect.py shall read."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.sources import find_sources, read_frames
from utils.errors import DataError, UsageError
from utils.streams.live_source import LiveSource


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


def test_subfolders_are_looked_into_where_that_is_asked(tree):
    (tree / ".cache").mkdir()
    (tree / ".cache" / "thumb.png").touch()
    (tree / "sub" / "round").symlink_to(tree)
    found = find_sources(str(tree), recursive=True)
    assert [str(path.relative_to(tree)) for path in found.images] == ["a.png", "b.JPG", "odd[1].png", "sub/c.png"]
    assert names(found.videos) == ["y.avi", "z.mp4"] and found.left_out == 1
    assert find_sources(str(tree)).left_out == 1, "notes.md"
    for source in ("a.png", "*.png", "gone"):
        with pytest.raises(UsageError, match="--recursive looks into the subfolders of a folder"):
            find_sources(str(tree / source), recursive=True)


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_source_is_not_the_working_directory(source):
    with pytest.raises(UsageError, match="--source is empty"):
        find_sources(source)


def test_an_empty_tree_is_named(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match="add --recursive"):
        find_sources(str(tmp_path))
    with pytest.raises(DataError, match=r"holds no image and no video \(0 other files\)") as caught:
        find_sources(str(tmp_path), recursive=True)
    assert "--recursive" not in str(caught.value)


@pytest.fixture
def standard_input(monkeypatch):
    """A function that puts bytes where standard input is read."""

    def put(data: bytes | None) -> None:
        stream = None if data is None else io.TextIOWrapper(io.BytesIO(data), encoding="ascii")
        monkeypatch.setattr("sys.stdin", stream)

    return put


def test_a_list_on_standard_input(tree, standard_input, monkeypatch):
    monkeypatch.chdir(tree)
    standard_input("z.mp4\n\nsub/c.png\n  gr\u00fcn.png \nrtsp://door/live\n".encode())
    found = find_sources("-")
    assert [str(path) for path in found.images] == ["sub/c.png", "gr\u00fcn.png"]
    assert names(found.videos) == ["z.mp4"] and [source.name for source in found.live] == ["door_live"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "standard input: the list is empty"),
        (None, "standard input: the list is empty"),
        (b"a.png\nb.doc\n", "standard input, line 2: 'b.doc' is neither"),
        (b"\xff\xfe\x80", "standard input: not a text file"),
    ],
)
def test_faults_on_standard_input_are_named(standard_input, data, words):
    standard_input(data)
    with pytest.raises(DataError, match=words):
        find_sources("-")


def test_live_sources(tree, monkeypatch):
    assert find_sources("0").live == [LiveSource("0", "webcam0")]
    found = find_sources("https://host/a.mp4")
    assert found.live == [LiveSource("https://host/a.mp4", "host_a-mp4")] and len(found) == 1
    (tree / "mixed.txt").write_text("a.png\n2\nrtsp://host/stream\n2\n")
    found = find_sources(str(tree / "mixed.txt"))
    assert found.images == [tree / "a.png"] and [source.address for source in found.live] == ["2", "rtsp://host/stream"]
    (tree / "0").mkdir()
    (tree / "0" / "p.png").touch()
    monkeypatch.chdir(tree)
    assert names(find_sources("0").images) == ["p.png"], "a folder comes before a webcam"


def test_files_of_streams(tree):
    file = tree / "cameras.streams"
    file.write_text("\ufeff# doors\nrtsp://door/live  # front\n\n0\nhttp://yard/a#b\n", encoding="utf-8")
    assert [source.address for source in find_sources(str(file)).live] == ["rtsp://door/live", "0", "http://yard/a#b"]
    for text, words in (
        ("# nothing\n", "cameras.streams: the list is empty"),
        ("0\n# door\na.png\n", "cameras.streams, line 3: 'a.png' is neither a URL nor the index of a webcam"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=words):
            find_sources(str(file))


LINES = st.lists(
    st.text("abc #0-\u00e4", min_size=1, max_size=6).map(str.strip).filter(bool).map(lambda stem: f"{stem}.png"),
    min_size=1,
    max_size=5,
    unique=True,
)


@given(LINES, st.sampled_from(["\n", "\r\n", "\n\n"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_written_list_is_read_back(tmp_path, lines, end):
    (tmp_path / "list.txt").write_bytes(end.join(lines).encode())
    assert find_sources(str(tmp_path / "list.txt")).images == [tmp_path / line for line in lines]


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
