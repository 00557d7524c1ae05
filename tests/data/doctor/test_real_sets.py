"""The doctor on real sets: counts as their README says, and the faults that they are known to have."""

from __future__ import annotations

from pathlib import Path

import yaml

from data.checks.examination import Examination, examine
from data.checks.finding import Severity
from data.config import load_data_config

NAMES = ["RBC", "WBC", "Platelets"]


def examined(folder: Path, blocks: dict) -> Examination:
    path = folder / "set.yaml"
    path.write_text(yaml.safe_dump(blocks))
    return examine(load_data_config(path, splits=()))


def counted(result: Examination) -> dict[str, int]:
    """Return what findings of each check stand for; caches beside shared data are other people's matter."""
    counts: dict[str, int] = {}
    for finding in (own for own in result.findings if own.check != "cache-stale"):
        counts[finding.check] = counts.get(finding.check, 0) + finding.count
    return counts


def test_bccd(shared, tmp_path):
    """4888 boxes, of which two have no width or no height; nothing else is wrong."""
    root = shared / "data" / "bccd"
    lists = {split: str(root / "ImageSets" / "Main" / f"{split}.txt") for split in ("train", "val", "test")}
    result = examined(tmp_path, {"detect": {**lists, "format": "voc", "names": NAMES}})
    statistics = result.statistics
    assert {name: figures["images"] for name, figures in statistics.items()} == {
        "detect train": 205,
        "detect val": 87,
        "detect test": 72,
    }
    totals = [sum(entry["classes"][name]["objects"] for entry in statistics.values()) for name in NAMES]
    assert sum(totals) == 4155 + 372 + 361 - 2
    assert counted(result) == {"label-degenerate": 2}
    assert result.exit_code == 1


def test_coco128(shared, tmp_path):
    root = shared / "data" / "coco128"
    names = (root / "classes.txt").read_text().split("\n")[:80]
    result = examined(tmp_path, {"path": str(root), "detect": {"train": "images/train2017", "names": names}})
    figures = result.statistics["detect train"]
    assert (figures["images"], figures["objects"], figures["background"]) == (128, 929, 2)
    found = counted(result)
    # 71 of the 80 classes are there; label files of two pictures that the set does not have lie beside the others.
    assert (found["class-untrained"], found["label-orphan"], found["label-missing"]) == (9, 2, 2)
    assert not [finding for finding in result.findings if finding.severity is Severity.ERROR]


def test_coco_keypoints(shared, tmp_path):
    root = shared / "data" / "coco_keypoints_mini"
    splits = {"train": "train2017", "val": "val2017"}
    files = {split: f"annotations/person_keypoints_{folder}.json" for split, folder in splits.items()}
    result = examined(tmp_path, {"path": str(root), "pose": {**splits, "annotations": files}})
    statistics = result.statistics
    assert [statistics[f"pose {split}"]["objects"] for split in splits] == [147, 93]
    labelled = {"train": 86, "val": 68}
    crowds = sum(figures.get("crowds", 0) for figures in statistics.values())
    found = counted(result)
    assert found["keypoint-none"] == 147 + 93 - sum(labelled.values()) - crowds
    assert result.exit_code == 0
