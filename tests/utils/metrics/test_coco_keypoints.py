"""Real keypoints from the annotation file through data set, letterbox and evaluator, against pycocotools."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

from data.config import load_data_config
from data.dataset import TaskDataset
from data.keypoints import COCO_PERSON
from data.loader import build_test_loader
from data.transforms.letterbox import LetterboxRule
from models.predictions import PoseResult
from utils.metrics.coco_results import coco_image_id
from utils.metrics.keypoint_evaluator import KeypointEvaluator

STATS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


def noisy_predictions(truth: dict, rng: np.random.Generator) -> list[dict]:
    """Return COCO results near the labels, some far off, some for persons without keypoints and for crowds."""
    found = []
    for annotation in truth["annotations"]:
        points = np.array(annotation["keypoints"], float).reshape(17, 3)
        x, y, w, h = annotation["bbox"]
        if not points[:, 2].any():
            points[:, :2] = rng.uniform((x, y), (x + w, y + h), (17, 2))
        for _ in range(int(rng.integers(0, 4))):
            moved = points.copy()
            moved[:, :2] += rng.normal(0, rng.choice((0.01, 0.04, 0.3)) * (w * h) ** 0.5, (17, 2))
            moved[:, 2] = rng.random(17)
            score = float(rng.random())
            image, category = annotation["image_id"], annotation["category_id"]
            found.append(
                {"image_id": image, "category_id": category, "keypoints": moved.ravel().tolist(), "score": score}
            )
    return found


def published(folder: Path, truth: dict, found: list[dict]) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    with redirect_stdout(StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("letterbox", [LetterboxRule(), LetterboxRule("top-left", square=True)], ids=str)
def test_the_metric_is_that_of_the_annotation_file(shared: Path, tmp_path: Path, letterbox: LetterboxRule) -> None:
    root = shared / "data/coco_keypoints_mini"
    (tmp_path / "annotations").mkdir()
    for name in ("train2017", "val2017"):
        (tmp_path / name).symlink_to(root / name)
        source = root / f"annotations/person_keypoints_{name}.json"
        (tmp_path / "annotations" / source.name).write_bytes(source.read_bytes())
    yaml = tmp_path / "mini.yaml"
    yaml.write_text(
        f"path: {tmp_path}\npose:\n  train: train2017\n  val: val2017\n  keypoints: 17\n  names: [person]\n"
        "  annotations:\n    train: annotations/person_keypoints_train2017.json\n"
        "    val: annotations/person_keypoints_val2017.json\n"
    )
    truth = json.loads((tmp_path / "annotations/person_keypoints_val2017.json").read_text())
    found = noisy_predictions(truth, np.random.default_rng(0))
    dataset = TaskDataset(load_data_config(yaml, splits=("val",)).for_head("pose", "pose"), "val")
    evaluator = KeypointEvaluator(["person"], COCO_PERSON)
    for batch in build_test_loader(dataset, 320, 4, 32, 0, letterbox=letterbox):
        evaluator.update([result_of(found, image) for image in batch.ids], batch)
    metrics = evaluator.compute()
    stats = published(tmp_path, truth, found)
    # Labels go through float32 pixels of the network's input and back.
    np.testing.assert_allclose([metrics[name] for name in STATS], stats, rtol=0, atol=2e-3)
    assert 0.2 < metrics["AP"] < 0.9 and evaluator.per_class()[0]["labels"] == 68
    assert len(evaluator.table().splitlines()) == 3, "all areas are known, so nothing is said about them"


def result_of(found: list[dict], image: str) -> PoseResult:
    own = [row for row in found if row["image_id"] == coco_image_id(image)]
    return PoseResult(
        boxes=torch.zeros(len(own), 4),
        scores=torch.tensor([row["score"] for row in own]),
        classes=torch.zeros(len(own), dtype=torch.int64),
        keypoints=torch.tensor([row["keypoints"] for row in own]).reshape(-1, 17, 3),
        spec=COCO_PERSON,
    )
