"""Objects of Cityscapes: the ten classes from a tree with the set's folders and names, a round trip, faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from data.annotations import AnnotatedPicture, ClassList, make_objects
from data.formats.cityscapes_objects import CLASSES, CityscapesObjects
from tests.annotated_objects import check_equal, pictures
from utils.errors import DataError

FORMAT = CityscapesObjects()
SIZE = (1024, 2048)
NONE = ClassList([])
TRIANGLE = [[100, 50], [140, 60], [110, 90]]


def entry(label: str, *points: list[float], **keys: Any) -> dict[str, Any]:
    return {"label": label, "polygon": list(points) or TRIANGLE, **keys}


def tree(folder: Path, *objects: Any) -> tuple[Path, Path, Path]:
    """Return an image, the folder of its split and that of the labels, with a file of polygons there."""
    images, labels = folder / "leftImg8bit/train", folder / "gtFine/train"
    file = labels / "ulm/ulm_000001_000019_gtFine_polygons.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": objects}))
    return images / "ulm/ulm_000001_000019_leftImg8bit.png", images, labels


def test_the_ten_classes_have_the_indices_of_the_specification() -> None:
    assert CityscapesObjects.names == CLASSES and list(CLASSES) == [
        "car", "traffic sign", "rider", "person", "bicycle", "traffic light", "bus", "motorcycle", "truck", "train"
    ]  # fmt: skip


def test_a_tree_is_read_by_its_folders_and_labels(tmp_path: Path) -> None:
    scenery = ["road", "sky", "pole", "ego vehicle", "out of roi", "caravan", "trailer", "license plate", "roadgroup"]
    image, images, labels = tree(
        tmp_path,
        *[entry(name) for name in scenery],
        *[entry(name) for name in CLASSES],
        *[entry(f"{name}group") for name in ("car", "person", "bicycle")],
        entry("car", [-20, 1000], [30, 990], [40, 1100]),
        entry("car", [2040.5, 0], [2060, 0], [2050, 30], deleted=0),
        entry("bus", deleted=1),
        entry("truck", [1, 1], [2, 2]),
    )
    file = FORMAT.label_file(image, images, labels)
    objects = FORMAT.read(file, SIZE, NONE)
    assert objects.names == [*CLASSES, "car", "car"]
    assert objects.boxes[0].tolist() == [100, 50, 140, 90]
    assert objects.boxes[10:].tolist() == [[0, 990, 40, 1024], [2040.5, 0, 2048, 30]]
    assert objects.outlines[10][0].tolist() == [[-20, 1000], [30, 990], [40, 1100]]
    assert objects.left_out == {"groups": 3, "deleted objects": 1, "outlines with fewer than three points": 1}


def test_pictures_of_other_sets_have_labels_of_their_name() -> None:
    found = FORMAT.label_file(Path("leftImg8bit/train/bdd/b1.jpg"), Path("leftImg8bit/train"), Path("gtFine/train"))
    assert found == Path("gtFine/train/bdd/b1_gtFine_polygons.json")


@settings(max_examples=20)
@given(pictures(frozenset({"outlines"}), names=CLASSES, beyond=30))
def test_written_polygons_come_back(tmp_path_factory: pytest.TempPathFactory, picture: AnnotatedPicture) -> None:
    file = tmp_path_factory.mktemp("polygons") / "a_gtFine_polygons.json"
    FORMAT.write(file, picture, NONE)
    found, objects = FORMAT.read(file, picture.size, NONE), picture.objects
    inside = np.clip(objects.boxes, 0, np.tile(picture.size[::-1], 2))
    single = [parts if len(parts) == 1 else found.outlines[i] for i, parts in enumerate(objects.outlines)]
    check_equal(found, make_objects(objects.names, inside, single))
    assert all(len(parts) == 1 for parts in found.outlines)


def test_crowds_become_groups(tmp_path: Path) -> None:
    objects = make_objects(["car", "bus"], np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), crowd=np.array([True, False]))
    FORMAT.write(tmp_path / "a.json", AnnotatedPicture(tmp_path / "a.png", "a.png", (9, 9), objects), NONE)
    found = FORMAT.read(tmp_path / "a.json", (9, 9), NONE)
    assert found.names == ["bus"] and found.left_out == {"groups": 1}
    assert found.outlines[0][0].tolist() == [[5, 6], [7, 6], [7, 8], [5, 8]]


def test_a_class_that_cityscapes_lacks_is_not_written(tmp_path: Path) -> None:
    objects = make_objects(["bicycles"], np.ones((1, 4)))
    with pytest.raises(
        DataError, match=r"a\.json: Cityscapes has no class 'bicycles' of objects; .* Did you mean 'bicycle'"
    ):
        FORMAT.write(tmp_path / "a.json", AnnotatedPicture(tmp_path / "a.png", "a.png", (9, 9), objects), NONE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("root", "fault"),
    [
        ({}, ": has no list `objects`; give the polygons of a Cityscapes picture"),
        ({"objects": [entry("car"), {"polygon": TRIANGLE}]}, ": object 2 has no label"),
        ({"objects": [entry("car", [1, 2], ["3", 4])]}, ": object 1 ('car') has points that are no list of pairs"),
        ({"objects": [], "imgHeight": 2048, "imgWidth": 1024}, ": says that its picture is 1024x2048, but it is 2048x"),
    ],
)
def test_faults_name_file_and_object(tmp_path: Path, root: Any, fault: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(root))
    with pytest.raises(DataError) as caught:
        FORMAT.read(file, SIZE, NONE)
    assert str(caught.value).startswith(f"{file}{fault}")
