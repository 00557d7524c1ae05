"""BDD100K: both releases and folders of single files are read, other kinds of labels counted, a round trip, faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations import AnnotatedPicture, make_objects
from data.formats.bdd100k import CLASSES, Bdd100kObjects
from tests.annotated_objects import check_equal, class_list, pictures
from utils.errors import DataError

FORMAT = Bdd100kObjects()
LANE = {"category": "lane", "poly2d": [{"vertices": [[1, 2], [3, 4]], "types": "LL", "closed": False}]}
AREA = {"category": "drivable area", "poly2d": [{"vertices": [[1, 2], [3, 4], [5, 6]], "types": "LLL", "closed": True}]}


def box(category: str, *sides: Any, **attributes: Any) -> dict[str, Any]:
    box2d = dict(zip(("x1", "y1", "x2", "y2"), sides or (1.5, 2, 30, 40), strict=False))
    return {"category": category, "attributes": attributes, "box2d": box2d, "id": 3}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with one of 48 x 64 pixels, and one in a folder below it."""
    folder = tmp_path_factory.mktemp("bdd") / "images/100k/train"
    (folder / "night").mkdir(parents=True)
    for name in ("0000f77c-6257be58.jpg", "night/b1.png"):
        cv2.imwrite(str(folder / name), np.zeros((48, 64, 3), np.uint8))
    return folder


def file_with(folder: Path, content: Any) -> Path:
    file = folder / "labels.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def test_lists_of_both_releases_have_the_same_classes(tmp_path: Path, images: Path) -> None:
    first = ["person", "rider", "car", "truck", "bus", "train", "motor", "bike", "traffic light", "traffic sign"]
    classes, (one, two, missing) = FORMAT.read(
        file_with(
            tmp_path,
            [
                {
                    "name": "0000f77c-6257be58.jpg",
                    "attributes": {"weather": "clear", "scene": "highway", "timeofday": "dawn/dusk"},
                    "timestamp": 10000,
                    "labels": [*map(box, first), LANE, AREA, AREA],
                },
                {
                    "name": "night/b1.png",
                    "labels": [*map(box, CLASSES), box("trailer"), {"category": "crosswalk", "poly2d": []},
                               box("car", -3, 4, 70.25, 50, crowd=True, occluded=True)],
                },
                {"name": "b2.jpg", "labels": None},
            ],
        ),
        [images],
    )  # fmt: skip
    assert classes.names == list(CLASSES) and classes.names.index("bicycle") == 7
    assert one.objects.names == list(CLASSES) and two.objects.names == [*CLASSES, "car"]
    assert (one.image, one.relative, one.size) == (images / one.relative, "0000f77c-6257be58.jpg", (48, 64))
    assert one.objects.left_out == {"lanes": 1, "drivable areas": 2}
    assert two.objects.left_out == {"boxes of other classes": 1, "labels without a box": 1}
    assert one.objects.boxes.tolist() == [[1.5, 2, 30, 40]] * 10 and not one.objects.crowd.any()
    assert two.objects.boxes[-1].tolist() == [-3, 4, 70.25, 50] and two.objects.crowd.tolist() == [False] * 10 + [True]
    assert len(missing.objects) == 0 and missing.size == (0, 0) and missing.image == images / "b2.jpg"


def test_a_folder_has_a_file_for_every_picture(tmp_path: Path, images: Path) -> None:
    (tmp_path / "night").mkdir()
    lane = {"category": "lane/road curb", "poly2d": [[1, 2, "L"], [3, 4, "C"]]}
    area = {"category": "area/drivable", "poly2d": [[1, 2, "L"]]}
    frames = [{"timestamp": 10000, "objects": [box("bike"), lane, area]}]
    (tmp_path / "0000f77c-6257be58.json").write_text(json.dumps({"name": "../../etc/passwd", "frames": frames}))
    (tmp_path / "night/b1.json").write_text(json.dumps({"name": "b1.png", "labels": [box("car")]}))
    _, (one, two) = FORMAT.read(tmp_path, [images])
    assert (one.relative, one.size, one.objects.names) == ("0000f77c-6257be58.jpg", (48, 64), ["bicycle"])
    assert one.objects.left_out == {"lanes": 1, "drivable areas": 1}
    assert (two.relative, two.size, two.objects.names) == ("night/b1.png", (48, 64), ["car"])


def test_a_list_may_give_the_size_of_its_pictures(tmp_path: Path, images: Path) -> None:
    config = {"imageSize": {"width": 1280, "height": 720}, "categories": [{"name": "car"}]}
    root = {"frames": [{"name": "gone"}, {"name": "night/b1"}], "groups": None, "config": config}
    _, (gone, there) = FORMAT.read(file_with(tmp_path, root), [images / "none", images])
    assert (gone.relative, gone.size, gone.image) == ("gone.jpg", (720, 1280), images / "none/gone.jpg")
    assert (there.relative, there.size, there.image) == ("night/b1.png", (48, 64), images / "night/b1.png")


@settings(max_examples=20)
@given(st.lists(pictures(FORMAT.keeps, names=CLASSES, beyond=20), max_size=3))
def test_written_boxes_come_back(tmp_path_factory: pytest.TempPathFactory, given_ones: list[AnnotatedPicture]) -> None:
    folder = tmp_path_factory.mktemp("bdd")
    split = [AnnotatedPicture(p.image, f"a/{i}.jpg", p.size, p.objects) for i, p in enumerate(given_ones)]
    FORMAT.write(folder / "labels.json", split, class_list())
    _, found = FORMAT.read(folder / "labels.json", [folder])
    assert [entry.relative for entry in found] == [entry.relative for entry in split]
    for ours, theirs in zip(found, split, strict=True):
        check_equal(ours.objects, theirs.objects)


def test_a_class_that_bdd100k_lacks_is_not_written(tmp_path: Path) -> None:
    picture = AnnotatedPicture(tmp_path / "a.jpg", "a.jpg", (9, 9), make_objects(["cars"], np.ones((1, 4))))
    with pytest.raises(DataError, match=r"BDD100K has no class 'cars', which a\.jpg has; .* Did you mean 'car'\?"):
        FORMAT.write(tmp_path / "a.json", [picture], class_list())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[{", ": broken JSON at line 1, column 3"),
        (b"\xff\xfe\xd8", ": not a text file; give the BDD100K labels of a split (JSON)"),
        ({"name": "a.jpg", "labels": []}, ": is no list of pictures with `name` and `labels`; give"),
        ([{"name": "a.jpg"}, 5], ": picture 2 is no JSON object"),
        ([{"name": 5}], ": 5 is the `name` of a picture that no file can have"),
        ([{"name": "a\0.jpg"}], ": 'a\\x00.jpg' is the `name` of a picture that no file can have"),
        ([{"name": "../a.jpg"}], ": '../a.jpg' is the `name` of a picture outside the folder of images; give names"),
        ([{"name": "/etc/a.jpg"}], ": '/etc/a.jpg' is the `name` of a picture outside the folder"),
        ([{"name": "a.jpg"}, {"name": "a.jpg"}], ": has two entries for the picture 'a.jpg'; remove one of them"),
        ([{"name": "a.jpg", "labels": {}}], ": 'a.jpg' has labels that are no list"),
        ([{"name": "a.jpg", "labels": [box("car"), {"id": 1}]}], ": 'a.jpg', label 2 has no category"),
        ([{"name": "a.jpg", "labels": [box("car", 1, 2, 3)]}], ": 'a.jpg', label 1 ('car') has a box2d whose x1"),
        ([{"name": "a.jpg", "labels": [box("car", 1, 2, 3, float("inf"))]}], "label 1 ('car') has a box2d"),
        ([{"name": "a.jpg", "labels": [{"category": "bus", "box2d": [1, 2, 3, 4]}]}], "label 1 ('bus') has a box2d"),
    ],
)
def test_faults_name_file_picture_and_label(tmp_path: Path, content: Any, fault: str) -> None:
    file = file_with(tmp_path, content)
    with pytest.raises(DataError) as caught:
        FORMAT.read(file, [tmp_path])
    assert str(caught.value).startswith(str(file)) and fault in str(caught.value) and "\n" not in str(caught.value)


def test_faults_of_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.json is in this folder; give the BDD100K labels of a split"):
        FORMAT.read(tmp_path, [tmp_path])
    file_with(tmp_path, {"name": "a", "frames": [{}, {}]})
    with pytest.raises(DataError, match=r"labels\.json: its `frames` is no list of one entry"):
        FORMAT.read(tmp_path, [tmp_path])
