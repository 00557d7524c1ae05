"""labelme files: a round trip, shapes of one object together, other shapes counted, one sentence for every fault."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations import AnnotatedPicture, ClassList, make_objects
from data.formats.labelme_json import LabelmeObjects
from data.formats.picture_json import MOST_BYTES
from data.mask_outlines import fill_outlines
from tests.annotated_objects import check_equal, class_list, pictures
from utils.errors import DataError

FORMAT = LabelmeObjects()
SIZE = (48, 64)
CAR = {"label": "car", "shape_type": "rectangle", "points": [[30, 40], [10.5, 2]]}


def png(pixels: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


CUT = base64.b64encode(base64.b64decode(png(np.ones((3, 3), np.uint8)))[:40]).decode()
HUGE = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">II", 60000, 60000)).decode()


def written(folder: Path, *shapes: Any, **keys: Any) -> Path:
    file = folder / "a.json"
    file.write_text(json.dumps({"shapes": shapes, **keys}), encoding="utf-8")
    return file


def shape(label: str, kind: str, *points: list[float], group: Any = None, **keys: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": list(points), "group_id": group, **keys}


@settings(max_examples=30)
@given(st.data(), st.integers(0, 2))
def test_written_objects_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, keypoints: int
) -> None:
    picture = data.draw(pictures(FORMAT.keeps, keypoints=keypoints, beyond=20))
    file = tmp_path_factory.mktemp("labelme") / "a.json"
    FORMAT.write(file, picture, class_list(keypoints))
    check_equal(FORMAT.read(file, picture.size, class_list(keypoints)), picture.objects)


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    square = [[0, 0], [4, 0], [4, 4]]
    file = written(
        tmp_path,
        shape("car", "polygon", *square, group=1),
        shape("nose", "point", [9, 8], group=2),
        shape("dog", "rectangle", [1, 2], [21, 12], group=2),
        shape("car", "polygon", [50, 9], [60, 9], [60, 30], group=1, flags={"crowd": True}),
        shape("dog", "polygon", *square, group=2),
        shape("tail", "point", [3, 4], group=2, flags={"occluded": True}),
        shape("car", "polygon", *square),
        shape("cat", "rectangle", [1, 1], [2, 2], group=3),
        shape("cat", "rectangle", [5, 5], [9, 9], group=3),
        CAR,
        imageHeight=48,
        imageWidth=64,
        imagePath="../elsewhere.jpg",
        imageData="AAAA",
    )
    objects = FORMAT.read(file, SIZE, class_list(2))
    assert objects.names == ["car", "dog", "car", "cat", "cat", "car"]
    assert objects.boxes[[0, 1, 5]].tolist() == [[0, 0, 60, 30], [1, 2, 21, 12], [10.5, 2, 30, 40]]
    assert [len(parts) for parts in objects.outlines] == [2, 1, 1, 0, 0, 0]
    assert objects.crowd.tolist() == [True, False, False, False, False, False]
    assert objects.keypoints[1].tolist() == [[9, 8, 2], [3, 4, 1]] and objects.keypoints[[0, 2]].sum() == 0


def test_masks_become_the_outlines_of_their_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8), np.uint8)
    pixels[1:3, 1:4] = pixels[4, 6] = 1
    file = written(
        tmp_path,
        shape("car", "mask", [10.0, 20.0], [17.0, 25.0], mask=png(pixels)),
        shape("bus", "mask", [-2, 44], [5, 49], mask=png(pixels * 255)),
    )
    objects = FORMAT.read(file, SIZE, ClassList([]))
    assert objects.boxes.tolist() == [[11, 21, 17, 25], [0, 45, 2, 47]]
    expected = np.zeros(SIZE, bool)
    expected[20:26, 10:18] = pixels > 0
    np.testing.assert_array_equal(fill_outlines(objects.outlines[0], SIZE), expected)
    assert len(objects.outlines[0]) == 2 and len(objects.outlines[1]) == 1


def test_what_is_no_object_is_counted(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        shape("wheel", "circle", [5, 5], [7, 5]),
        shape("lane", "linestrip", [5, 5], [7, 5], [8, 9]),
        shape("lane", "line", [5, 5], [7, 5]),
        shape("car", "mask", [5, 5], [7, 5], mask=png(np.zeros((1, 3), np.uint8))),
        shape("car", "cuboid"),
        shape("car", "polygon", [5, 5], [7, 5]),
        shape("nose", "point", [5, 5]),
        shape("nose", "point", [5, 5], group=4),
        shape("ear", "point", [5, 5], group=5),
        {**CAR, "group_id": 5},
    )
    objects = FORMAT.read(file, SIZE, class_list(1))
    assert objects.names == ["car"] and objects.left_out == {
        "circles": 1, "strips of lines": 1, "lines": 1, "shapes of other kinds": 1,
        "masks without a pixel in the picture": 1, "outlines with fewer than three points": 1,
        "points that are no keypoint of an object": 3,
    }  # fmt: skip
    bare = FORMAT.read(file, SIZE, ClassList(["car"]))
    assert bare.keypoints.shape == (1, 0, 3) and bare.left_out["points that are no keypoint of an object"] == 3


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"{", "broken JSON at line 1, column 2 (Expecting property name"),
        (b"[]", "its outermost value is no JSON object; give a labelme file"),
        (b"\xff\xfe\xd8", "not a text file"),
        (b"[" * 100_000, "cannot be read as JSON (maximum recursion depth"),
        (b'{"shapes": 1%s}' % (b"0" * 5000), "cannot be read as JSON (Exceeds the limit"),
        (b"{}", "has no list `shapes`; give a labelme file"),
        ({"shapes": [CAR, 5]}, "entry 2 of `shapes` is no JSON object"),
        ({"shapes": [{**CAR, "label": " "}]}, "shape 1 has no label; give it the name of its class"),
        ({"shapes": [{**CAR, "group_id": [1]}]}, "shape 1 ('car') has a shape_type or a group_id"),
        ({"shapes": [{**CAR, "points": [[1, 2], [3]]}]}, "shape 1 ('car') has points that are no list of pairs"),
        ({"shapes": [{**CAR, "points": [[1, 2], [3, float("nan")]]}]}, "points that are no list of pairs"),
        ({"shapes": [{**CAR, "points": [[1, 2], [3, 10**400]]}]}, "points that are no list of pairs"),
        ({"shapes": [{**CAR, "points": [[1, 2], [3, True]]}]}, "points that are no list of pairs"),
        ({"shapes": [{**CAR, "points": [[1, 2]]}]}, "is a rectangle of 1 points; give it two opposite corners"),
        ({"shapes": [shape("nose", "point")]}, "is a point with 0 places"),
        ({"shapes": [shape("car", "mask", [1, 2])]}, "shape 1 ('car') is a mask with 1 corners; give it two"),
        ({"shapes": [shape("car", "mask", [1, 2], [3, 4])]}, "has a `mask` that is no PNG in base64"),
        ({"shapes": [shape("car", "mask", [1, 2], [3, 4], mask="iVBORw0KGgo=")]}, "has a `mask` that is no PNG"),
        ({"shapes": [shape("car", "mask", [1, 2], [3, 4], mask=CUT)]}, "has a `mask` that is damaged"),
        ({"shapes": [shape("car", "mask", [1, 2], [3, 5], mask=CUT)]}, "a mask of 3x3 pixels (width x height), which"),
        ({"shapes": [shape("car", "mask", [0, 0], [59999, 59999], mask=HUGE)]}, "a mask of 60000x60000 pixels"),
        (
            {"shapes": [], "imageHeight": 64, "imageWidth": 48},
            "says that its picture is 48x64, but it is 64x48 (width x height)",
        ),
        (
            {"shapes": [shape("nose", "point", [1, 2], group=1), {**CAR, "group_id": 1}, shape("dog", "rectangle",
             [1, 2], [3, 4], group=1)]},
            "shape 1 ('nose') is in the group 1 with 2 objects, so it belongs to none",
        ),
        (
            {"shapes": [{**CAR, "group_id": 1}, *[shape("nose", "point", [1, 2], group=1)] * 2]},
            "shape 3 ('nose') is twice in the group 1",
        ),
    ],
)  # fmt: skip
def test_faults_name_file_and_shape(tmp_path: Path, content: Any, fault: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(DataError) as caught:
        FORMAT.read(file, SIZE, class_list(1))
    assert str(caught.value).startswith(str(file)) and fault in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none_or_too_large_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read \(No such file"):
        FORMAT.read(tmp_path / "none.json", SIZE, class_list())
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        FORMAT.read(tmp_path, SIZE, class_list())
    file = written(tmp_path, CAR, imageData="QUJD" * 3_000_000, imagePath="a.jpg")
    assert FORMAT.read(file, SIZE, class_list()).names == ["car"], "a picture inside is no label"
    with file.open("wb") as sparse:
        sparse.truncate(MOST_BYTES + 1)
    with pytest.raises(DataError, match=r"a\.json: is larger than 64 MB; give a labelme file, which has one picture"):
        FORMAT.read(tmp_path / "a.json", SIZE, class_list())


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    nameless = AnnotatedPicture(tmp_path / "a.jpg", "a.jpg", SIZE, make_objects([" "], [[1, 2, 3, 4]]))
    with pytest.raises(DataError, match=r"a\.json: the class of object 1 has an empty name"):
        FORMAT.write(file, nameless, class_list())
    with pytest.raises(DataError, match="its objects have 0 keypoints, but the set names 2"):
        FORMAT.write(file, nameless, class_list(2))
    assert not file.exists()


def test_labels_lie_as_pictures_do() -> None:
    found = FORMAT.label_file(Path("set/images/city/a.b.jpg"), Path("set/images"), Path("other"))
    assert found == Path("other/city/a.b.json")
