"""Objects in YOLO label files: a round trip in pixels, polygons of parts, what a file of indices cannot say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.yolo_objects import YoloObjects
from tests.annotated_objects import check_equal, class_list, pictures
from utils.errors import DataError

FORMAT = YoloObjects()
SIZE = (48, 64)


def picture_of(objects: Objects) -> AnnotatedPicture:
    return AnnotatedPicture(Path("a.jpg"), "a.jpg", SIZE, objects)


@settings(max_examples=30)
@given(st.data(), st.integers(0, 2))
def test_written_objects_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, keypoints: int
) -> None:
    keeps = FORMAT.keeps - {"outlines"} if keypoints else FORMAT.keeps
    picture = data.draw(pictures(keeps, keypoints=keypoints))
    file = tmp_path_factory.mktemp("yolo") / "a.txt"
    FORMAT.write(file, picture, class_list(keypoints))
    found, objects = FORMAT.read(file, picture.size, class_list(keypoints)), picture.objects
    # A row has one polygon; tests/data/test_polygons.py has what becomes of several.
    single = [parts if len(parts) < 2 else found.outlines[i] for i, parts in enumerate(objects.outlines)]
    check_equal(found, make_objects(objects.names, objects.boxes, single, objects.keypoints), tolerance=1e-9)
    assert [len(parts) for parts in found.outlines] == [min(len(parts), 1) for parts in objects.outlines]


def test_rows_are_shares_and_end_at_the_edge(tmp_path: Path) -> None:
    triangle = np.array([[-32.0, 24], [32, 24], [32, 48]])
    beside = np.array([[100.0, 1], [120, 1], [110, 5]])
    boxes = [[16, 12, 48, 36], [-8, 0, 8, 60], [-32, 24, 32, 48], [100, 1, 120, 5]]
    objects = make_objects(["car", "a & <b>", "car", "car"], boxes, [[], [], [triangle], [beside]])
    FORMAT.write(tmp_path / "a.txt", picture_of(objects), class_list())
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "0 0.5 0.5 0.5 0.5",
        "3 0.0625 0.5 0.125 1",
        "0 0 0.5 0.5 0.5 0.5 1 0 0.75",
        f"0 1 {3 / 48!r} 0 {4 / 48!r}",
    ]
    found = FORMAT.read(tmp_path / "a.txt", SIZE, class_list())
    assert found.boxes[:3].tolist() == [[16, 12, 48, 36], [0, 0, 8, 48], [0, 24, 32, 48]]
    assert found.boxes[3, 0] == found.boxes[3, 2], "outside the picture is no area"


def test_empty_files_are_pictures_without_objects(tmp_path: Path) -> None:
    FORMAT.write(tmp_path / "a.txt", picture_of(make_objects([], np.zeros((0, 4)))), class_list())
    assert (tmp_path / "a.txt").read_bytes() == b""
    found = FORMAT.read(tmp_path / "a.txt", SIZE, class_list(2))
    assert len(found) == 0 and found.outlines == [] and found.keypoints.shape == (0, 2, 3)


def test_boxes_keep_their_edges_beyond_the_picture_and_repetitions_stay(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 0 0.5 0.5 0.5\n1 0 0.5 0.5 0.5\n")
    found = FORMAT.read(tmp_path / "a.txt", SIZE, class_list())
    assert found.names == ["traffic light"] * 2 and found.boxes.tolist() == [[-16, 12, 16, 36]] * 2


def test_keypoints_outside_move_to_the_edge(tmp_path: Path) -> None:
    objects = make_objects(["car"], np.array([[1, 2, 3, 4]]), keypoints=np.array([[[-3, 60, 2], [32, 24, 1]]]))
    FORMAT.write(tmp_path / "a.txt", picture_of(objects), class_list(2))
    found = FORMAT.read(tmp_path / "a.txt", SIZE, class_list(2))
    assert found.keypoints.tolist() == [[[0, 48, 2], [32, 24, 1]]]


@pytest.mark.parametrize(
    ("classes", "fault"),
    [
        (ClassList(["bus"]), r"a\.txt: the list of classes lacks 'car', so it has no index"),
        (ClassList(["car"], ("nose", "tail")), r"a\.txt: its objects have 1 keypoints, but the set names 2"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, classes: ClassList, fault: str) -> None:
    objects = make_objects(["car"], np.ones((1, 4)), keypoints=np.zeros((1, 1, 3)))
    with pytest.raises(DataError, match=fault):
        FORMAT.write(tmp_path / "a.txt", picture_of(objects), classes)
    assert not list(tmp_path.iterdir())


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n4 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=r"a\.txt:2: class 4 is out of range"):
        FORMAT.read(tmp_path / "a.txt", SIZE, class_list())


def test_labels_lie_as_pictures_do() -> None:
    found = FORMAT.label_file(Path("set/images/city/a.b.jpg"), Path("set/images"), Path("other"))
    assert found == Path("other/city/a.b.txt")
