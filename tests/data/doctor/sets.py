"""Small sets without any fault, one for each kind of labels, into which tests plant faults."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import write_tiny_set

SIZE = (96, 64)
"""Width and height of all pictures."""


def write_clean_set(root: Path) -> Path:
    """Write six pictures per split with boxes and masks, and return the data YAML."""
    return write_tiny_set(root, images=6)


def write_coco_set(root: Path) -> Path:
    """Write four pictures per split with COCO files of boxes and three keypoints, and return the data YAML."""
    rng = np.random.default_rng(5)
    width, height = SIZE
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(4):
            picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / f"{split}{i}.png"), picture)
            images.append({"id": i, "file_name": f"{split}{i}.png", "width": width, "height": height})
            for k in range(2):
                x, y, w, h = (int(value) for value in (rng.integers(0, 40), rng.integers(0, 20), 30 + k, 25 + k))
                points = [x + 3, y + 3, 2, x + 20, y + 5, 1, x + 9, y + 15, 2]
                annotations.append(
                    {"id": 10 * i + k, "image_id": i, "category_id": 1, "bbox": [x, y, w, h], "keypoints": points}
                )
        categories = [{"id": 1, "name": "crane", "keypoints": ["a", "b", "c"]}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(content))
    path = root / "coco.yaml"
    path.write_text(
        "pose:\n  train: train\n  val: val\n  annotations: {train: train.json, val: val.json}\n"
        "  keypoints: 3\n  names: [crane]\n"
    )
    return path


def edit_json(path: Path, change) -> None:
    """Read a JSON file, let a function change what it holds, and write it again."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
