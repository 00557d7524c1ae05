"""The CamVid preparation: boxes from components, whole results only, the published counts on the real set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.config import load_data_config
from data.dataset import TaskDataset
from data.formats.mask_png import read_mask, write_mask
from data.prepare.camvid import DETECT_NAMES, SEGMENT_NAMES, boxes_from_mask, prepare_camvid
from utils.errors import DataError, UsageError

REPO = Path(__file__).resolve().parents[3]
CAR, SIGN, VOID = SEGMENT_NAMES.index("Car"), SEGMENT_NAMES.index("SignSymbol"), 11


def street() -> np.ndarray:
    mask = np.full((60, 80), SEGMENT_NAMES.index("Road"), np.uint8)
    mask[10:20, 5:25] = CAR
    mask[20:30, 25:40] = CAR  # touches the other one at a corner: one component
    mask[40:45, 0:10] = SIGN  # exactly 50 pixels
    mask[50:57, 30:37] = SIGN  # 49 pixels
    mask[:, 70:] = VOID
    return mask


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(root / f"images/{split}/{split}_0.jpg")
        write_mask(root / f"masks/{split}/{split}_0.png", street())
    (root / "classes.txt").write_text("\n".join([*SEGMENT_NAMES, "Unlabelled"]))
    return root


def test_boxes_are_the_rectangles_of_8_connected_components() -> None:
    classes, boxes = boxes_from_mask(street())
    assert [DETECT_NAMES[k] for k in classes] == ["SignSymbol", "Car"]
    assert (boxes * [80, 60, 80, 60]).tolist() == [[0, 40, 10, 45], [5, 10, 40, 30]]


def test_the_result_is_a_data_set_for_both_tasks(source: Path, tmp_path: Path) -> None:
    done = prepare_camvid(source, tmp_path / "out" / "camvid")
    assert done.images == {"train": 1, "val": 1, "test": 1}
    assert done.boxes["val"].tolist() == [1, 1, 0, 0]
    config = load_data_config(done.yaml, splits=("train", "val", "test"))
    for split in ("train", "val", "test"):
        boxes = TaskDataset(config.for_head("detect", "detect"), split).load(0).boxes
        np.testing.assert_allclose(boxes, [[0, 40, 10, 45], [5, 10, 40, 30]], atol=1e-4)
        mask = TaskDataset(config.for_head("segment", "segment"), split).load(0).mask
        assert np.array_equal(mask, np.where(street() == VOID, 255, street()))
    assert os.listdir(tmp_path / "out") == ["camvid"]


def test_an_empty_folder_may_be_there_a_full_one_not(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    prepare_camvid(source, tmp_path / "out")
    with pytest.raises(UsageError, match="is there already"):
        prepare_camvid(source, tmp_path / "out")


def test_a_failure_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    (source / "masks/test/test_0.png").unlink()
    with pytest.raises(DataError, match=r"test_0\.png: cannot be read"):
        prepare_camvid(source, tmp_path / "out")
    write_mask(source / "masks/test/test_0.png", np.full((60, 80), 12, np.uint8))
    with pytest.raises(DataError, match=r"test_0\.png: the mask holds the value 12"):
        prepare_camvid(source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]


def test_images_are_copied_where_links_are_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    prepare_camvid(source, tmp_path / "out")
    copied = tmp_path / "out/images/val/val_0.jpg"
    assert copied.read_bytes() == (source / "images/val/val_0.jpg").read_bytes() and copied.stat().st_nlink == 1


def test_a_wrong_source_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere/images/train: no such folder; give --source"):
        prepare_camvid(tmp_path / "nowhere", tmp_path / "out")
    (source / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"classes\.txt: the classes are not CamVid's"):
        prepare_camvid(source, tmp_path / "out")


def test_the_command(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data.prepare", "camvid", "--source", str(source), "--out", str(tmp_path / "out")]
    first = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert first.returncode == 0 and f"wrote {tmp_path}/out/camvid.yaml" in first.stdout
    second = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert second.returncode == 2 and second.stderr.startswith("error: --out") and second.stderr.count("\n") == 1


def test_the_real_set_has_the_published_counts(shared: Path, tmp_path: Path) -> None:
    done = prepare_camvid(shared / "data/camvid", tmp_path / "camvid")
    assert done.images == {"train": 367, "val": 101, "test": 233}
    assert {split: boxes.tolist() for split, boxes in done.boxes.items()} == {
        "train": [1818, 1276, 1027, 218],
        "val": [374, 158, 195, 201],
        "test": [1155, 407, 639, 81],
    }
    assert 255 in read_mask(next((tmp_path / "camvid/masks/train").iterdir()))
