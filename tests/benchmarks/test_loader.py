"""The loader benchmark: it runs as a whole, and its plain pipeline makes samples as right as ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import data.image_cache as image_cache
from benchmarks.loader import CACHES, PlainPipeline, copy_set, main
from benchmarks.pillow_detr import PillowPipeline
from data.config import load_data_config
from data.dataset import TaskDataset
from data.transforms.detr import DETR_AUGMENTATION

STILL = {"scale": 0.5, "translate": 0.1, "fliplr": 0.5, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}


@pytest.mark.parametrize("recipe", ["hyp.scratch", "yolos_ti"])
def test_it_measures_every_pipeline_and_leaves_nothing(
    recipe: str, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(image_cache, "SHARED_MEMORY", tmp_path / "shm")
    out = tmp_path / "figures.json"
    arguments = f"--data {tiny_data} --hyp {recipe} --img-size 64 --images 16 --rounds 2 --repeat-set 3 --json {out}"
    monkeypatch.setattr(sys, "argv", ["benchmarks.loader", *arguments.split()])
    threads = cv2.getNumThreads()
    main()
    cv2.setNumThreads(threads)
    facts = json.loads(out.read_text())
    assert facts["pictures"] == 36 and set(facts["pipelines"]) == {*CACHES, "plain", "plain, decoded"}
    printed = capsys.readouterr().out
    for name, figures in facts["pipelines"].items():
        assert f"| {name} |" in printed
        assert len(figures["core"]) == len(figures["clock"]) == 2 and min(figures["core"]) > 0
    assert facts["pipelines"]["plain"]["ratios"][0] == 1
    assert not list((tmp_path / "shm").iterdir()) and not list(tiny_data.parent.rglob("*.pictures"))


def test_boxes_of_both_plain_pipelines_lie_on_their_objects(tiny_data: Path, tmp_path: Path) -> None:
    task = copy_set(load_data_config(tiny_data).for_head("detect", "detect"), tmp_path / "copy", 2)
    dataset = TaskDataset(task, "train")
    assert len(dataset) == 24
    plain = PlainPipeline(dataset, STILL, 96, decoded=True)
    for pipeline, least in ((plain, 100), (PillowPipeline(dataset, DETR_AUGMENTATION, 96, 2, decoded=True), 20)):
        hits = []
        for index in range(24):
            image, boxes = pipeline.sample(index)
            size = image.shape[1::-1]
            assert size == (96, 96) or pipeline is not plain
            assert (boxes >= 0).all() and (boxes <= [*size, *size]).all()
            centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int).clip(0, np.array(size) - 1)
            hits += [np.ptp(image[y, x].astype(int)) > 100 for x, y in centres]
        assert len(hits) > least and np.mean(hits) > 0.95, "objects are colourful and the ground is grey"
