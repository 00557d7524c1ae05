"""YOLO label rows: every form is read, every fault named by file and line, a round trip keeps every box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.formats.yolo_txt import label_files, label_path, parse_labels, read_labels, write_labels
from utils.errors import DataError


def test_boxes_and_polygons_may_be_mixed() -> None:
    labels = parse_labels("1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.3 0.2 0.2 0.6\n2 0.25 0.25 0.5 0.5\n", 3)
    assert labels.classes.tolist() == [1, 0, 2]
    expected = [[0.4, 0.3, 0.6, 0.7], [0.1, 0.2, 0.3, 0.6], [0, 0, 0.5, 0.5]]
    np.testing.assert_allclose(labels.boxes, expected, atol=1e-6)
    assert labels.boxes.dtype == np.float32 and labels.classes.dtype == np.int64
    assert labels.keypoints.shape == (3, 0, 3)


def test_keypoints() -> None:
    labels = parse_labels("0 0.5 0.5 0.4 0.2 0.4 0.5 2 0 0 0\n", 1, num_keypoints=2)
    np.testing.assert_allclose(labels.boxes, [[0.3, 0.4, 0.7, 0.6]], atol=1e-6)
    np.testing.assert_allclose(labels.keypoints, [[[0.4, 0.5, 2], [0, 0, 0]]])


def test_no_rows_are_no_objects() -> None:
    labels = parse_labels("\n  \n", 3, num_keypoints=4)
    assert len(labels) == 0 and labels.boxes.shape == (0, 4) and labels.keypoints.shape == (0, 4, 3)


def test_rounding_outside_is_clipped_and_boxes_end_at_the_border() -> None:
    labels = parse_labels("0 1.0005 0.5 0.1 0.2\n0 0.05 0.5 0.3 0.2\n", 1)
    np.testing.assert_allclose(labels.boxes, [[0.95, 0.4, 1, 0.6], [0, 0.4, 0.2, 0.6]], atol=1e-6)


def test_repetitions_and_rows_without_area_are_counted() -> None:
    labels = parse_labels("1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n1 0.5 0.5 0.2 0.2\n0 .5 .5 0 .2\n0 .1 .1 .1 .5 .1 .9\n", 2)
    assert labels.classes.tolist() == [1, 0]
    assert (labels.duplicates, labels.degenerate) == (1, 2)


@pytest.mark.parametrize(
    ("row", "keypoints", "fault"),
    [
        ("0 0.5 0.5 0.2", 0, "4 columns"),
        ("0 0.5 0.5 0.2 0.2 0.9", 0, "6 columns"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", 0, "8 columns"),
        ("0 0.5 0.5 0.2 0.2", 1, "5 columns; write 8"),
        ("0 0.5 0.5 0.2 0.2 0.5 0.5 3", 1, "visibility"),
        ("car 0.5 0.5 0.2 0.2", 0, "'car' is not a number"),
        ("0 0.5 0,5 0.2 0.2", 0, "'0,5' is not a number"),
        ("0.5 0.5 0.5 0.2 0.2", 0, "class 0.5 is not a whole number"),
        ("3 0.5 0.5 0.2 0.2", 0, "class 3 is out of range"),
        ("-1 0.5 0.5 0.2 0.2", 0, "class -1 is out of range"),
        ("0 nan 0.5 0.2 0.2", 0, "nan"),
        ("0 0.5 inf 0.2 0.2", 0, "inf"),
        ("0 0.5 0.5 1.2 0.2", 0, "coordinate 1.2 is outside"),
        ("0 0.5 0.5 -0.2 0.2", 0, "coordinate -0.2 is outside"),
        ("0 0.1 0.1 0.2 0.2 0.3 320", 0, "coordinate 320 is outside"),
        ("0 0.5 0.5 0.2 0.2 0.5 1.5 2", 1, "coordinate 1.5 is outside"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, row: str, keypoints: int, fault: str) -> None:
    file = tmp_path / "a.txt"
    good = "2 0.5 0.5 0.2 0.2" + " 0.5 0.5 1" * keypoints
    file.write_text(f"{good}\n\n{row}\n{good}\n")
    with pytest.raises(DataError, match=fault) as caught:
        read_labels(file, 3, keypoints)
    assert str(caught.value).startswith(f"{file}:3: ")


def test_a_binary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"a\.txt: not a text file"):
        read_labels(tmp_path / "a.txt", 1)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("/set/images/train/a.jpg", "/set/labels/train/a.txt"),
        ("/images/set/images/train/sub/a.b.png", "/images/set/labels/train/sub/a.b.txt"),
        ("/set/pictures/a.jpg", "/set/pictures/a.txt"),
        ("images/a.jpg", "labels/a.txt"),
    ],
)
def test_the_last_images_folder_becomes_labels(image: str, expected: str) -> None:
    assert label_path(image) == Path(expected)


folders = st.lists(st.sampled_from(["images", "train", "a.b", "..", "labels", "my images"]), max_size=4)


@given(
    st.lists(st.tuples(st.booleans(), folders, st.sampled_from(["x.jpg", "x.y.png", "images.jpg", "x y.JPEG"]))),
    st.sampled_from(["labels", "labels_pose", "deep/labels"]),
)
def test_many_label_files_are_those_of_their_images(images: list[tuple[bool, list[str], str]], folder: str) -> None:
    names = [str(Path("/" if absolute else "", *parts, name)) for absolute, parts, name in images]
    assert label_files(names, folder) == [str(label_path(name, folder)) for name in names]


@given(arrays(np.float64, st.tuples(st.integers(0, 12), st.just(5)), elements=st.floats(0, 1)))
def test_written_boxes_come_back(tmp_path_factory: pytest.TempPathFactory, numbers: np.ndarray) -> None:
    file = tmp_path_factory.mktemp("labels") / "a.txt"
    low, high = np.minimum(numbers[:, :2], numbers[:, 2:4]), np.maximum(numbers[:, :2], numbers[:, 2:4])
    boxes, classes = np.hstack([low, high]), np.arange(len(numbers))
    solid = (high - low > 1e-6).all(axis=1)
    write_labels(file, classes[solid], boxes[solid])
    labels = read_labels(file, 12)
    assert labels.classes.tolist() == classes[solid].tolist()
    np.testing.assert_allclose(labels.boxes, boxes[solid], atol=1e-6)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DataError, match=r"a\.txt: cannot be read"):
        read_labels(tmp_path / "a.txt", 1)
