"""``python -m utils.plots labels``: what its tables say of sets whose labels are known, and its pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from data.keypoints import COCO_PERSON
from utils.errors import DataError, UsageError
from utils.plots.__main__ import main
from utils.plots.keypoint_labels import labelled_shares, plot_keypoints
from utils.plots.mask_statistics import GRID, count_masks

NAMES = "names: [small, large, none]"


@pytest.fixture(scope="module")
def known_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of 200 x 100: two with boxes and poses, all with masks; the upper half of one mask is ignored."""
    root = tmp_path_factory.mktemp("known")
    for folder in ("images/train", "labels/train", "labels_pose/train", "masks/train"):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(root / f"images/train/{i}.png"), np.full((100, 200, 3), 90, np.uint8))
        mask = np.full((100, 200), i % 2, np.uint8)
        mask[:50] = 255 if i == 2 else mask[:50]
        cv2.imwrite(str(root / f"masks/train/{i}.png"), mask)
    (root / "labels/train/0.txt").write_text("0 0.1 0.2 0.1 0.2\n1 0.5 0.5 0.6 0.9\n")
    (root / "labels/train/1.txt").write_text("0 0.3 0.4 0.1 0.2\n0 0.6 0.4 0.1 0.2\n")
    (root / "labels_pose/train/0.txt").write_text(
        "0 0.5 0.5 0.6 0.9 0.5 0.2 2 0.5 0.8 1\n0 0.2 0.5 0.2 0.2 0 0 0 0 0 0\n"
    )
    (root / "labels_pose/train/1.txt").write_text("0 0.5 0.5 0.6 0.9 0.5 0.2 2 0 0 0\n")
    (root / "known.yaml").write_text(
        f"detect: {{train: images/train, {NAMES}}}\n"
        f"segment: {{train: images/train, masks: masks, {NAMES}}}\n"
        "pose: {train: images/train, labels: labels_pose, names: [crane],\n"
        "  kpt: {names: [top, foot], skeleton: [[top, foot]]}}\n"
    )
    return root / "known.yaml"


def table(out: str, title: str) -> dict[str, list[str]]:
    """Return the rows of a printed table, by their first cell."""
    lines = out[out.index(title) :].splitlines()
    rows = {}
    for line in lines[2:]:
        if not line or "/" in line:
            break
        first, *rest = line.split()
        rows[first] = rest
    return rows


def test_tables_and_pictures_of_every_task(known_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["labels", str(known_set), "--project", str(tmp_path)])
    out = capsys.readouterr().out
    assert "detect: 3 pictures, 1 of them without objects" in out
    # 20 x 20 pixels are small, 120 x 90 large.
    assert table(out, "detect: 3 pictures") == {
        "small": ["2", "3", "3", "0", "0"],
        "large": ["1", "1", "0", "0", "1"],
        "none": ["0", "0", "0", "0", "0"],
        "all": ["2", "4", "3", "0", "1"],
    }
    assert "segment: 3 masks, 16.67% of the pixels ignored" in out
    assert table(out, "segment: 3 masks") == {
        "small": ["2", "60.00%"],
        "large": ["1", "40.00%"],
        "none": ["0", "0.00%"],
    }
    assert table(out, "pose: keypoints") == {"top": ["100.0%", "100.0%"], "foot": ["50.0%", "0.0%"]}
    drawn = {path.name for path in (tmp_path / "exp").iterdir()}
    assert drawn == {"labels_detect.png", "labels_segment.png", "labels_pose.png", "keypoints_pose.png"}
    assert all(cv2.imread(str(tmp_path / "exp" / name)).std() > 10 for name in drawn)


def test_one_task_alone_and_a_set_without_objects(
    known_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = known_set.parent / "empty.yaml"
    empty.write_text("detect: {train: images/train, labels: nothing, names: [x]}\n")
    main(["labels", str(empty), "--project", str(tmp_path), "--name", "empty"])
    assert table(capsys.readouterr().out, "detect: 3 pictures")["all"] == ["0"] * 5
    assert not list((tmp_path / "empty").iterdir())
    with pytest.raises(UsageError, match="no block is for --task pose"):
        main(["labels", str(empty), "--task", "pose"])
    with pytest.raises(DataError, match="no split `val`"):
        main(["labels", str(known_set), "--task", "segment", "--split", "val"])


@given(
    st_np.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90)), elements=st.sampled_from([0, 1, 2, 255]))
)
def test_every_pixel_of_a_mask_is_counted_once(mask: np.ndarray) -> None:
    found = count_masks([mask, mask], 3)
    assert found.pixels.sum() + found.ignored == 2 * mask.size and found.count == 2
    assert found.images.tolist() == [2 * bool((mask == c).any()) for c in range(3)]
    assert found.places.shape == (3, *GRID) and found.places.sum(0).max() <= 1
    assert found.shares.sum() == pytest.approx(1 if found.pixels.any() else 0)


def test_objects_without_keypoints_do_not_count(tmp_path: Path) -> None:
    none = np.zeros((4, 17, 3))
    assert [part.tolist() for part in labelled_shares(none)] == [[0] * 17] * 2
    boxes = np.tile([0.1, 0.1, 0.5, 0.5], (4, 1))
    assert plot_keypoints(none, boxes, COCO_PERSON, tmp_path / "none.png").is_file()
