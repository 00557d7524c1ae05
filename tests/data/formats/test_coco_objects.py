"""COCO files as annotated pictures: read as they are, written so that they come back, against pycocotools."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.coco_objects import CocoObjects
from data.mask_outlines import fill_outlines
from utils.errors import DataError

FORMAT = CocoObjects()
SIZE = (20, 30)
CLASSES = ClassList(["cat", "dog"], ("head", "tail"), ((0, 1),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with ``a.png``."""
    path = tmp_path_factory.mktemp("coco") / "images"
    path.mkdir()
    cv2.imwrite(str(path / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    return path


def read(folder: Path, root: dict[str, Any]) -> tuple[ClassList, list[AnnotatedPicture]]:
    file = folder.parent / "c.json"
    file.write_text(json.dumps(root))
    return FORMAT.read(file, [folder])


def with_outline(outline: Any, **more: Any) -> dict[str, Any]:
    annotation = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": outline, **more}
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [annotation],
    }


pixels = st.floats(0, 30, allow_nan=False).map(lambda value: round(value, 3))
polygons = st.lists(st.tuples(pixels, pixels), min_size=3, max_size=6).map(lambda points: np.array(points, np.float64))
keypoints = st.lists(st.tuples(pixels, pixels, st.integers(1, 2)), min_size=2, max_size=2)


@st.composite
def annotated(draw: st.DrawFn) -> Objects:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(CLASSES.names),
                st.tuples(pixels, pixels, pixels, pixels),
                st.lists(polygons, max_size=2),
                keypoints,
                st.booleans(),
                st.floats(0.5, 900),
            ),
            max_size=3,
        )
    )
    names, boxes, outlines, points, crowd, areas = map(list, zip(*rows, strict=True)) if rows else ([],) * 6
    return make_objects(
        names,
        np.array(boxes, np.float64).reshape(-1, 4),
        outlines,
        np.array(points, np.float64).reshape(-1, 2, 3),
        np.array(crowd, bool),
        areas=np.array(areas),
    )


@settings(max_examples=25)
@given(objects=st.lists(annotated(), max_size=3))
def test_what_is_written_is_read(folder: Path, objects: list[Objects]) -> None:
    names = ["a.png", "sub/b.jpg", "c.tif"][: len(objects)]
    pictures = [AnnotatedPicture(folder / name, name, SIZE, entry) for name, entry in zip(names, objects, strict=True)]
    file = folder.parent / "written.json"
    FORMAT.write(file, pictures, CLASSES)
    classes, found = FORMAT.read(file, [folder])
    assert classes == CLASSES and [(p.image, p.relative, p.size) for p in found] == [
        (p.image, p.relative, p.size) for p in pictures
    ]
    for one, other in zip(objects, (picture.objects for picture in found), strict=True):
        assert one.names == other.names and np.array_equal(one.crowd, other.crowd)
        assert np.allclose(one.boxes, other.boxes, rtol=0, atol=1e-9) and np.array_equal(one.areas, other.areas)
        assert np.array_equal(one.keypoints, other.keypoints) and not other.left_out
        for crowd, before, after in zip(one.crowd, one.outlines, other.outlines, strict=True):
            if crowd:  # A run-length mask keeps the pixels.
                assert np.array_equal(fill_outlines(before, SIZE), fill_outlines(after, SIZE))
            else:
                assert len(before) == len(after) and all(map(np.array_equal, before, after))


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_run_length_masks_of_pycocotools_are_read(folder: Path, kind: str) -> None:
    mask = np.zeros(SIZE, bool)
    mask[3:15, 4:22] = True
    mask[6:9, 10:13] = False
    mask[19, 29] = True
    text = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False, append=False))
    numbers = np.diff(changes, prepend=0).tolist()
    counts = text if kind == "text" else numbers
    _, (picture,) = read(folder, with_outline({"size": list(SIZE), "counts": counts}, iscrowd=1))
    assert np.array_equal(fill_outlines(picture.objects.outlines[0], SIZE), mask) and picture.objects.crowd[0]


def test_written_crowds_and_polygons_are_read_by_pycocotools(folder: Path) -> None:
    square = np.array([[2, 3], [12, 3], [12, 13], [2, 13]], np.float64)
    objects = make_objects(["cat", "dog"], [[2, 3, 12, 13]] * 2, [[square], [square]], crowd=[True, False])
    file = folder.parent / "crowd.json"
    FORMAT.write(file, [AnnotatedPicture(folder / "a.png", "a.png", SIZE, objects)], ClassList(["cat", "dog"]))
    crowd, single = (entry["segmentation"] for entry in json.loads(file.read_text())["annotations"])
    for found in (crowd, *reference.frPyObjects(single, *SIZE)):
        assert reference.area(found) == 100 and reference.toBbox(found).tolist() == [2, 3, 10, 10]


def test_sizes_are_those_of_the_files_and_else_the_annotated(folder: Path) -> None:
    root = with_outline([])
    root["images"] = [
        {"id": 1, "file_name": "a.png", "height": 5, "width": 6},
        {"id": 2, "file_name": "sub/absent.png", "height": 7, "width": 8},
        {"id": 3, "file_name": "unknown.png"},
    ]
    _, pictures = read(folder, root)
    assert [picture.size for picture in pictures] == [SIZE, (7, 8), (0, 0)]
    assert [len(picture.objects) for picture in pictures] == [1, 0, 0]


def test_what_is_left_out_is_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = with_outline([[1, 1, 5, 5], [1, 1, 5, 1, 5, 5]])
    root["annotations"].append({**root["annotations"][0], "id": 6, "image_id": 9})
    with caplog.at_level(logging.WARNING, "yolograph"):
        _, (picture,) = read(folder, root)
    assert picture.objects.left_out == {"outlines with fewer than three points": 1}
    assert [len(outline) for outline in picture.objects.outlines[0]] == [3]
    assert "1 annotations are of images that it does not list" in caplog.text


@pytest.mark.parametrize(
    ("outline", "fault"),
    [
        ([[1, 2, 3]], "has a segmentation that is no list of polygons"),
        ([[1, 2, 3, 4, 5, "x"]], "has a segmentation that is no list of polygons"),
        ([[1, 2, 3, 4, 5, float("inf")]], "has a segmentation that is no list of polygons"),
        ([1, 2, 3, 4, 5, 6], "has a segmentation that is no list of polygons"),
        ("abc", "has a segmentation that is no list of polygons"),
        ({"counts": "abc"}, "has an RLE whose `size` is not two whole numbers"),
        ({"size": [20, 30], "counts": [600, 1]}, "has an RLE that cannot be read .its runs do not fill 30x20 pixels"),
        ({"size": [20, 30], "counts": [700, -100]}, "its runs do not fill 30x20 pixels"),
        ({"size": [20, 30], "counts": ["a"]}, "its counts are no list of whole numbers"),
        ({"size": [20, 30], "counts": "\u00e4"}, "its counts hold characters that no run-length text has"),
        ({"size": [20, 30], "counts": "0P"}, "its counts end within a number"),
        ({"size": [20, 30], "counts": "P" * 20 + "0"}, "its counts hold a number with too many digits"),
        ({"size": [30, 20], "counts": [600]}, "has an RLE of 20x30 pixels .width x height., but its image is 30x20"),
    ],
)
def test_a_malformed_outline_is_named(folder: Path, outline: Any, fault: str) -> None:
    with pytest.raises(DataError, match=f"annotation 5 .*{fault}") as caught:
        read(folder, with_outline(outline))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("skeleton", "keypoints", "fault"),
    [
        ([[1, 3]], [1, 2, 2, 0, 0, 0], "`skeleton` is no list of pairs of keypoints 1..2"),
        ([[1, 2]], [1, 2, 2], "annotation 5 has 3 keypoint values, but 2 keypoints"),
        ([[1, 2]], [1, 2, 3, 0, 0, 0], "annotation 5 has a keypoint whose visibility is not 0, 1 or 2"),
    ],
)
def test_malformed_keypoints_are_named(folder: Path, skeleton: Any, keypoints: Any, fault: str) -> None:
    root = with_outline([], keypoints=keypoints)
    root["categories"][0] |= {"keypoints": ["a", "b"], "skeleton": skeleton}
    with pytest.raises(DataError, match=fault):
        read(folder, root)


def test_keypoints_without_names_are_numbered(folder: Path) -> None:
    classes, (picture,) = read(folder, with_outline([], keypoints=[1, 2, 2, 9, 9, 0]))
    assert classes.keypoints == ("1", "2") and picture.objects.keypoints.tolist() == [[[1, 2, 2], [0, 0, 0]]]


def test_a_class_that_is_not_listed_is_refused(folder: Path) -> None:
    picture = AnnotatedPicture(folder / "a.png", "a.png", SIZE, make_objects(["cow"], [[0, 0, 1, 1]]))
    with pytest.raises(DataError, match=r"a\.png has the class 'cow', which is not in the class list"):
        FORMAT.write(folder.parent / "c.json", [picture], CLASSES)
    assert not (folder.parent / "cow.json").exists()


def test_real_files_have_the_counts_of_their_readme(shared: Path) -> None:
    source = shared / "data/coco_keypoints_mini"
    for split, images, objects, crowds, persons, labelled in (("train2017", 28, 351, 7, 147, 86),):
        classes, pictures = FORMAT.read(source / f"annotations/instances_{split}.json", [source / split])
        assert len(classes.names) == 80 and len(pictures) == images
        assert sum(len(picture.objects) for picture in pictures) == objects
        assert sum(picture.objects.crowd.sum() for picture in pictures) == crowds
        assert all(outlines for picture in pictures for outlines in picture.objects.outlines)
        classes, pictures = FORMAT.read(source / f"annotations/person_keypoints_{split}.json", [source / split])
        assert len(classes.keypoints) == 17 and sum(len(picture.objects) for picture in pictures) == persons
        assert sum((p.objects.keypoints[..., 2] > 0).any(1).sum() for p in pictures) == labelled


def test_what_no_picture_has_is_not_believed(folder: Path) -> None:
    root = with_outline([[0, 0, 1e12, 0, 0, 1]])
    with pytest.raises(DataError, match="annotation 5 has a segmentation that is no list of polygons"):
        read(folder, root)
    with pytest.raises(DataError, match="has 2000 keypoints per object; at most 1000 are read"):
        read(folder, with_outline([], keypoints=[1, 1, 2] * 2000))
    root["images"] = [{"id": 1, "file_name": "absent.png", "height": 60_000, "width": 60_000}]
    root["annotations"] = []
    _, (picture,) = read(folder, root)
    assert picture.size == (0, 0)
