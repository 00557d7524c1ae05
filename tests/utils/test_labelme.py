"""Files for labelme, read back: every object is there again, its mask too, and the picture is found."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models.predictions import DetectionResult, MaskResult, PoseResult
from tests.tiny_poses import CRANE
from utils.labelme import write_labelme

NAMES = {"detect": ["car", "Straße", "dog"], "signs": ["stop"], "pose": ["crane"], "segment": ["road"]}
SIZE = (48, 64)


def read_back(path: Path) -> tuple[dict, dict[str, list]]:
    """Return the document and its shapes by type, as (label, points, group)."""
    document = json.loads(path.read_text(encoding="utf-8"))
    shapes: dict[str, list] = {}
    for shape in document["shapes"]:
        assert set(shape) == {"label", "points", "group_id", "shape_type", "flags"} and shape["flags"] == {}
        shapes.setdefault(shape["shape_type"], []).append(
            (shape["label"], np.array(shape["points"]), shape["group_id"])
        )
    return document, shapes


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 6))
def test_boxes_come_back(tmp_path_factory, seed: int, count: int) -> None:
    folder = tmp_path_factory.mktemp("labelme")
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 30
    boxes = torch.cat([low, low + torch.rand(count, 2, generator=generator) * 18], 1)
    classes = torch.randint(0, 3, (count,), generator=generator)
    result = DetectionResult(boxes, torch.rand(count), classes)
    areas = MaskResult(torch.zeros(SIZE, dtype=torch.uint8))
    write_labelme(folder / "a.json", folder / "a.jpg", {"detect": result, "segment": areas}, NAMES, SIZE)
    document, shapes = read_back(folder / "a.json")
    del document["shapes"]
    assert document == {
        "version": "5.1.1", "flags": {}, "imagePath": "a.jpg", "imageData": None, "imageHeight": 48, "imageWidth": 64
    }  # fmt: skip
    found = shapes.get("rectangle", [])
    assert [label for label, _, _ in found] == [NAMES["detect"][c] for c in classes.tolist()]
    assert all(group is None for _, _, group in found)
    corners = np.array([points for _, points, _ in found]).reshape(-1, 4)
    np.testing.assert_allclose(corners, boxes.numpy().reshape(-1, 4), atol=1e-4)


@pytest.mark.parametrize(
    ("json_name", "picture", "expected"),
    [
        ("runs/exp/labelme/a.json", "photos/a b.jpg", "../../../photos/a b.jpg"),
        ("photos/a.json", "photos/a.jpg", "a.jpg"),
        ("photos/labelme/a.json", "linked/a.jpg", "../a.jpg"),
    ],
)
def test_the_picture_is_found_from_the_file(tmp_path: Path, json_name: str, picture: str, expected: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "photos")
    (tmp_path / picture).write_bytes(b"picture")
    path = tmp_path / json_name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labelme(path, tmp_path / picture, {}, NAMES, SIZE)
    document, shapes = read_back(path)
    assert document["imagePath"] == expected and shapes == {}
    assert (path.parent / document["imagePath"]).read_bytes() == b"picture"


def test_a_path_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    write_labelme(Path("out/a.json"), Path("a.jpg"), {}, NAMES, SIZE)
    assert read_back(tmp_path / "out" / "a.json")[0]["imagePath"] == "../a.jpg"


def test_masks_come_back_as_polygons(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    masks = np.stack([ndimage.binary_opening(rng.random(SIZE) < share) for share in (0.9, 0.75, 0.0)])
    masks[1, :, 32:] = False
    result = DetectionResult(
        torch.tensor([[0.0, 0, 64, 48], [0, 0, 32, 48], [1, 2, 3, 4]]), torch.ones(3), torch.tensor([0, 1, 2]),
        masks=torch.from_numpy(masks),
    )  # fmt: skip
    write_labelme(tmp_path / "a.json", tmp_path / "a.jpg", {"detect": result}, NAMES, SIZE)
    _, shapes = read_back(tmp_path / "a.json")
    assert [label for label, _, _ in shapes["rectangle"]] == ["dog"], "an object without pixels keeps its box"
    for index in (0, 1):
        parts = [part for part in shapes["polygon"] if part[0] == NAMES["detect"][index]]
        assert {group for _, _, group in parts} == ({index} if len(parts) > 1 else {None})
        canvas = np.zeros(SIZE, np.uint8)
        for _, points, _ in parts:
            cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
        np.testing.assert_array_equal(canvas.astype(bool), ndimage.binary_fill_holes(masks[index]))


def test_found_keypoints_inside_are_points_of_their_object(tmp_path: Path) -> None:
    keypoints = torch.tensor([[[5.0, 6, 0.9], [70, 6, 0.9], [7, 8, 0.2], [64, 48, 0.5], [-0.1, 3, 1]]]).repeat(2, 1, 1)
    keypoints[1, :, 2] = 0
    pose = PoseResult(torch.tensor([[1.0, 2, 30, 40], [3, 4, 9, 9]]), torch.ones(2), torch.zeros(2).long(),
                      keypoints, CRANE)  # fmt: skip
    sign = DetectionResult(torch.tensor([[0.0, 0, 5, 5]]), torch.ones(1), torch.zeros(1).long())
    write_labelme(tmp_path / "a.json", tmp_path / "a.jpg", {"signs": sign, "pose": pose}, NAMES, SIZE, 0.5)
    _, shapes = read_back(tmp_path / "a.json")
    assert [(label, group) for label, _, group in shapes["rectangle"]] == [
        ("stop", None),
        ("crane", 1),
        ("crane", None),
    ]
    assert [(label, points.tolist(), group) for label, points, group in shapes["point"]] == [
        ("hook", [[5.0, 6.0]], 1),
        ("left_light", [[64.0, 48.0]], 1),
    ]


def test_followed_objects_are_in_the_group_of_their_number(tmp_path: Path) -> None:
    keypoints = torch.tensor([[[5.0, 6, 0.9]] * 5]).repeat(3, 1, 1)
    pose = PoseResult(torch.tensor([[1.0, 2, 30, 40]] * 3), torch.ones(3), torch.zeros(3).long(),
                      keypoints, CRANE, tracks=torch.tensor([4, -1, 9]))  # fmt: skip
    signs = DetectionResult(torch.zeros(2, 4), torch.ones(2), torch.zeros(2).long(), tracks=torch.tensor([-1, 2]))
    write_labelme(tmp_path / "a.json", tmp_path / "a.jpg", {"signs": signs, "pose": pose}, NAMES, SIZE, 0.5)
    _, shapes = read_back(tmp_path / "a.json")
    groups = [(label, group) for label, _, group in shapes["rectangle"]]
    assert groups[:2] == [("stop", None), ("stop", 2)]
    of_poses = [group for _, group in groups[2:]]
    assert of_poses[::2] == [4, 9] and of_poses[1] > 9, "a group of its own where nobody has a number"
    assert [group for _, _, group in shapes["point"]] == [group for group in of_poses for _ in range(5)]


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("before")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_labelme(tmp_path / "a.json", tmp_path / "a.jpg", {}, NAMES, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "before"
