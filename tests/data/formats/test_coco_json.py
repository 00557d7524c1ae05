"""COCO annotation files: what they hold in arrays, and one sentence for everything that is wrong in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.formats.coco_json import CocoFile, parse_coco, read_coco
from utils.errors import DataError


def content() -> dict[str, Any]:
    """A file with two images, two categories in the wrong order and three annotations."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 60, "width": 80},
            {"id": 3, "file_name": "sub/b.jpg"},
        ],
        "categories": [
            {"id": 9, "name": "dog"},
            {"id": 1, "name": "person", "keypoints": ["head", "foot"], "skeleton": [[1, 2]]},
        ],
        "annotations": [
            {"id": 50, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3.5, 4], "keypoints": [1, 2, 2, 0, 0, 0]},
            {"id": 51, "image_id": 7, "category_id": 9, "bbox": [0, 0, 5, 5], "area": 20.5, "iscrowd": 1},
            {"id": 52, "image_id": 8, "category_id": 1, "bbox": [0, 0, 5, 5], "segmentation": {"counts": [1]}},
        ],
    }


def test_a_file_in_arrays() -> None:
    coco = parse_coco(content(), "c.json")
    assert coco.files == ["a.jpg", "sub/b.jpg"] and coco.sizes.tolist() == [[60, 80], [0, 0]]
    assert coco.categories == ["person", "dog"] and coco.keypoint_names == ("head", "foot")
    assert coco.images.tolist() == [1, 0, -1] and coco.classes.tolist() == [0, 1, 0]
    assert coco.boxes.tolist() == [[1, 2, 3.5, 4], [0, 0, 5, 5], [0, 0, 5, 5]]
    assert np.isnan(coco.areas).tolist() == [True, False, True] and coco.areas[1] == 20.5
    assert coco.crowd.tolist() == [False, True, False] and coco.ids.tolist() == [50, 51, 52]
    assert coco.keypoints.tolist() == [1, 2, 2, 0, 0, 0] and coco.offsets.tolist() == [0, 6, 6, 6]
    assert str(coco.fault(1, "is odd")) == "c.json: annotation 51 is odd"


def test_a_file_without_annotations(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({**content(), "annotations": []}))
    coco = read_coco(tmp_path / "c.json")
    assert len(coco) == 0 and coco.boxes.shape == (0, 4) and coco.offsets.tolist() == [0] and len(coco.files) == 2


def test_ids_may_be_texts_or_absent_and_names_may_repeat() -> None:
    raw = content()
    raw["images"][0]["id"], raw["annotations"][1]["image_id"] = "seven", "seven"
    raw["categories"] = [{"id": "x", "name": "thing"}, {"id": 1, "name": "thing"}, {"id": 9, "name": "dog"}]
    del raw["annotations"][0]["id"]
    coco = parse_coco(raw)
    assert coco.images.tolist() == [1, 0, -1] and coco.categories == ["thing", "dog"]
    assert coco.classes.tolist() == [0, 1, 0] and coco.ids.tolist() == [0, 1, 2]


def test_ids_may_be_written_with_a_point() -> None:
    raw = content()
    for entry in (*raw["images"], *raw["categories"]):
        entry["id"] = float(entry["id"])
    assert parse_coco(raw).images.tolist() == [1, 0, -1] and parse_coco(raw).classes.tolist() == [0, 1, 0]


numbers = st.floats(-1e4, 1e4, allow_nan=False, width=32)


@given(st.lists(st.tuples(st.integers(0, 4), st.lists(numbers, min_size=4, max_size=4), st.booleans()), max_size=12))
def test_what_is_written_is_read(rows: list[tuple[int, list[float], bool]]) -> None:
    raw = {
        "images": [{"id": 10 * i, "file_name": f"{i}.png"} for i in range(4)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": i, "image_id": 10 * image, "category_id": 1, "bbox": box, "iscrowd": int(crowd)}
            for i, (image, box, crowd) in enumerate(rows)
        ],
    }
    coco = parse_coco(json.loads(json.dumps(raw)))
    assert coco.images.tolist() == [image if image < 4 else -1 for image, _, _ in rows]
    assert coco.boxes.tolist() == [box for _, box, _ in rows] and coco.crowd.tolist() == [crowd for *_, crowd in rows]


def broken(change: Any) -> dict[str, Any]:
    raw = content()
    change(raw)
    return raw


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda raw: raw.pop("annotations"), "c.json: has no list `annotations`"),
        (lambda raw: raw.update(images={}), "has no list `images`"),
        (lambda raw: raw["images"].append(5), r"an entry of `images` that is no object \(number 2\)"),
        (lambda raw: raw["images"][1].pop("file_name"), "an image without id or file_name"),
        (lambda raw: raw["images"][1].update(id=7), "two images with the id 7"),
        (lambda raw: raw["images"][1].update(file_name="a.jpg"), "lists the image 'a.jpg' twice"),
        (lambda raw: raw.update(categories=[]), "lists no category"),
        (lambda raw: raw["categories"][0].pop("name"), "a category without id or name"),
        (lambda raw: raw["categories"][0].update(id=1), "two categories with the id 1"),
        (lambda raw: raw["categories"][1].update(keypoints="head"), "`keypoints` is no list"),
        (lambda raw: raw["annotations"][1].pop("bbox"), "annotation 51 has no `bbox`"),
        (lambda raw: raw["annotations"][1].pop("image_id"), "annotation 51 has no `image_id`"),
        (lambda raw: raw["annotations"][1].update(category_id=4), "annotation 51 is of category 4, which `categories`"),
        (lambda raw: raw["annotations"][1].update(category_id=[4]), r"annotation 51 is of category \[4\]"),
        (
            lambda raw: raw["annotations"][1].update(bbox=[1, 2, 3]),
            r"annotation 51 has the bbox \[1, 2, 3\]; give four",
        ),
        (lambda raw: raw["annotations"][2].update(bbox=[1, 2, 3, "x"]), "annotation 52 has the bbox"),
        (lambda raw: raw["annotations"][2].update(bbox=[1, 2, 3, float("nan")]), "annotation 52 has the bbox"),
        (lambda raw: raw["annotations"][2].update(bbox=None), "annotation 52 has the bbox None"),
        (lambda raw: raw["annotations"][0].update(area="large"), "annotation 50 has the area 'large'"),
        (lambda raw: raw["annotations"][0].update(area=float("inf")), "annotation 50 has the area inf"),
        (
            lambda raw: raw["annotations"][0].update(keypoints=[1, "x", 2]),
            "annotation 50 has a keypoint that is no fin",
        ),
        (lambda raw: raw["annotations"][0].update(keypoints=[1, None, 2]), "annotation 50 has a keypoint that is no f"),
        (lambda raw: raw["annotations"][2].update(bbox=[1, 2, 1e12, 3]), "annotation 52 has the bbox"),
        (lambda raw: raw["annotations"][1].update(area=1e30), "annotation 51 has the area"),
        (
            lambda raw: raw["annotations"][0].update(keypoints=[1e300, 2, 2]),
            "annotation 50 has a keypoint that is no f",
        ),
        (lambda raw: raw["images"][1].update(file_name="a\0.jpg"), r"the file_name 'a\\x00\.jpg', which no file can"),
        (lambda raw: raw["images"][1].update(file_name="\ud800.jpg"), "which no file can have; mend it"),
        (lambda raw: raw["images"][1].update(id=[3]), "an image without id or file_name"),
        (lambda raw: raw["annotations"][0].update(keypoints=7), "annotation 50 has the keypoints 7"),
    ],
)
def test_what_is_wrong_is_named(change: Any, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        parse_coco(broken(change), "c.json")
    assert str(caught.value).startswith("c.json: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("root", [[], 5, None, "text"])
def test_another_kind_of_json_is_refused(root: Any) -> None:
    with pytest.raises(DataError, match="is no COCO annotation file"):
        parse_coco(root)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "broken JSON at line 1, column 1"),
        (b'{"images": [\n{"id": 1,}', "broken JSON at line 2, column"),
        (b"\xff\xfe\x00not text", "not a text file"),
        (b"[" * 200_000, "cannot be read as JSON"),
        (b'{"images": ' + b"9" * 6000 + b"}", "cannot be read as JSON"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes, fault: str) -> None:
    file = tmp_path / "c.json"
    file.write_bytes(data)
    with pytest.raises(DataError, match=fault) as caught:
        read_coco(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.json: cannot be read \(No such file .*\); mend the path"):
        read_coco(tmp_path / "c.json")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); mend the path"):
        read_coco(tmp_path)


def test_a_cut_file_never_gives_labels(tmp_path: Path) -> None:
    file, text = tmp_path / "c.json", json.dumps(content())
    for end in range(0, len(text) - 1, 7):
        file.write_text(text[:end])
        with pytest.raises(DataError):
            read_coco(file)
    file.write_text(text)
    assert isinstance(read_coco(file), CocoFile)
