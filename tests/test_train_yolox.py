"""train.py with YOLOX: its recipe, its last epochs, its exact resume, keypoints, and other heads beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

import train
from data.sample_key import SampleKey
from data.transforms.yolox import YOLOXTrainTransform
from models.checkpoint import load_checkpoint
from models.weights import load_model
from tests.processes import commands
from tests.train_runs import losses_of, numbers_of, run_train, same_state, stop_at_draw
from utils.training import positives, step
from utils.training.multi_scale import IntervalScale

INPUT = "input: {channels: BGR, scale: 1, letterbox: top-left, square: true, pad: 114}\n"
BACKBONE = """
depth_multiple: 0.33
width_multiple: 0.125
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]  # 2: 1/8
  - [-1, 1, Conv, [128, 3, 2]]  # 3: 1/16
head:
"""
SEGMENT = "  - [[2], 1, SegMaskBase, [4, 1, 64, False]]\n"
DETECT = "  - [[2, 3], 1, YOLOXDetect, [nc, 64]]\n"
POSE = "  - [[2, 3], 1, YOLOXPose, [nc, 64, nkpt]]\n"
# The published recipe, but for steps of four pictures and an average that follows at once.
SHORT = """
{optimizer: AdamW, lr0: 0.01, lrf: 0.05, momentum: 0.9, schedule: yolox, warmup: quadratic, warmup_epochs: 1,
 warmup_min: 0, warmup_momentum: 0.9, warmup_bias_lr: 0.0, nominal_batch: 4, loss_reduction: mean, clip_norm: 0.0,
 ema_tau: 10.0, close_mosaic: 2, multi_scale_interval: 2, multi_scale_range: [1, 1], augment: yolox, mosaic: 1.0,
 mosaic_scale: [0.5, 1.5], mixup: 1.0, degrees: 10.0, translate: 0.1, shear: 2.0}
"""
SMALL = ["--img-size", "96", "--batch-size", "4", "--workers", "0", "--dtype", "float32", "--noplots"]


def write_pose_set(root: Path, images: int = 8) -> Path:
    """Write pictures of figures with three keypoints (head, left and right foot) and return the data YAML."""
    rng = np.random.default_rng(0)
    width, height = 96, 80
    for split in ("train", "val"):
        for folder in ("images", "labels", "masks"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            picture = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
            mask = np.zeros((height, width), np.uint8)
            rows = []
            for left in (4, 52):
                w, h = rng.integers(24, 40, 2)
                x, y = left, int(rng.integers(4, height - h))
                picture[y : y + h, x : x + w], mask[y : y + h, x : x + w] = (200, 60, 60), 1
                points = [(x + w // 2, y + 4), (x + 4, y + h - 4), (x + w - 4, y + h - 4)]
                for point, colour in zip(points, ((255, 255, 255), (0, 0, 0), (0, 0, 255)), strict=True):
                    cv2.circle(picture, tuple(map(int, point)), 3, colour, -1)
                box = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                places = [value for px, py in points for value in (px / width, py / height, 2)]
                rows.append(" ".join(f"{value:.6g}" for value in (0, *box, *places)))
            cv2.imwrite(str(root / "images" / split / f"{i:03d}.png"), picture[..., ::-1])
            cv2.imwrite(str(root / "masks" / split / f"{i:03d}.png"), mask)
            (root / "labels" / split / f"{i:03d}.txt").write_text("\n".join(rows) + "\n")
    data = root / "figures.yaml"
    data.write_text(
        "pose:\n  train: images/train\n  val: images/val\n  names: [figure]\n"
        "  kpt: {names: [head, left, right], flip: [[left, right]], sigmas: [0.1, 0.1, 0.1], skeleton: [[0, 1]]}\n"
        "segment: {train: images/train, val: images/val, masks: masks, names: [ground, red, green, blue]}\n"
    )
    return data


@pytest.fixture
def model_of(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a small model YAML with the given rows of heads."""

    def write(heads: str) -> Path:
        path = tmp_path / "model.yaml"
        path.write_text(f"nc: 3\nnkpt: 17\n{INPUT}{BACKBONE}{heads}")
        return path

    return write


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A recipe of YOLOX for a run of a few epochs."""
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    return path


def test_nano_trains_by_the_recipe_that_it_names(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--cfg", "yolox_nano.yaml", "--data", str(tiny_data), "--epochs", "2", "--visualize-assign"]
    done = run_train(*arguments, *SMALL[:-1], "--img-size", "64", "--batch-size", "6", cwd=tmp_path)
    run = tmp_path / "runs/train/exp"
    assert "recipe yolox_nano, named by yolox_nano.yaml" in done.stdout
    assert "in a run of 2 it is the last 1" in done.stdout
    assert "multi-scale: 32 to 288 px, another size every 10 steps" in done.stdout
    first, last = numbers_of(run)
    assert first["train/detect_l1"] == 0 < last["train/detect_l1"]
    assert min(first["train/detect_box"], first["train/detect_obj"], first["train/detect_cls"]) > 0
    assert {"val/detect_AP50", "val/fitness"} <= first.keys()
    assert (run / "assign_batch0_detect.jpg").is_file() and (run / "train_batch0_detect.jpg").is_file()
    hyp = yaml.safe_load((run / "hyp.yaml").read_text())
    assert (hyp["close_mosaic"], hyp["schedule"], hyp["mosaic"]) == (1, "yolox", 0.5)


@pytest.mark.parametrize(("after", "epoch"), [(5, 2), (8, 3), (10, 4)], ids=["before", "inside", "last"])
def test_a_run_stopped_around_its_tail_ends_like_one_that_was_not(
    after: int, epoch: int, model_of: Callable[[str], Path], short: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--cfg", str(model_of(DETECT)), "--data", str(tiny_data), "--hyp", str(short), *SMALL]
    arguments += ["--epochs", "4", "--noval"]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, after)
        done = run_train(*arguments, "--name", "stopped", cwd=tmp_path, check=False)
    assert done.returncode == 130 and f"stopped in epoch {epoch} after step {after}" in done.stderr
    stopped = tmp_path / "runs/train/stopped"
    # What the command says now is not what the run began with.
    run_train("--resume", str(stopped), "--hyp", "hyp.small", cwd=tmp_path)
    same_state(tmp_path / "runs/train/whole", stopped)
    losses = [row["train/detect_l1"] for row in numbers_of(stopped)]
    assert losses[:2] == [0, 0] and min(losses[2:]) > 0
    assert losses_of(stopped) == losses_of(tmp_path / "runs/train/whole")


def test_mosaic_ends_with_the_first_batch_of_the_tail_and_sizes_follow_the_step(
    model_of: Callable[[str], Path], short: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mosaics: list[bool] = []
    sizes: list[tuple[int, ...]] = []
    call, forward = YOLOXTrainTransform.__call__, step.MultiScale.resize

    def note(self: YOLOXTrainTransform, dataset: Any, key: SampleKey, rng: np.random.Generator) -> Any:
        mosaics.append(key.mosaic)
        return call(self, dataset, key, rng)

    def note_size(self: IntervalScale, graph: Any, batch: Any, number: int) -> Any:
        resized = forward(self, graph, batch, number)
        sizes.append(tuple(resized.images.shape[-2:]))
        return resized

    monkeypatch.setattr(YOLOXTrainTransform, "__call__", note)
    monkeypatch.setattr(step.MultiScale, "resize", note_size)
    arguments = ["--cfg", str(model_of(DETECT)), "--data", str(tiny_data), "--hyp", str(short), *SMALL]
    run_train(*arguments, "--epochs", "5", "--close-mosaic", "3", "--noval", "--seed", "1", cwd=tmp_path)
    # Twelve pictures an epoch; the loader works a batch or so ahead.
    assert mosaics[:60] == [True] * 24 + [False] * 36
    scale = IntervalScale(96, 32, 1, 2, 1, 1)
    assert sizes == [(scale.size(number),) * 2 for number in range(1, 16)]
    assert len(set(sizes)) > 1 and sizes[:2] == [(96, 96)] * 2


def test_keypoints_come_from_the_data_and_stay_with_the_weights(
    model_of: Callable[[str], Path], short: Path, tmp_path: Path
) -> None:
    data = write_pose_set(tmp_path / "figures")
    arguments = ["--cfg", str(model_of(POSE)), "--data", str(data), "--hyp", str(short), "--epochs", "2"]
    done = run_train(*arguments, *SMALL[:-1], "--visualize-assign", cwd=tmp_path)
    assert "classes of the data take the place of the model's: pose 3 -> 1" in done.stdout
    assert "keypoints of the data take the place of the model's: pose 17 -> 3" in done.stdout
    run = tmp_path / "runs/train/exp"
    _, last = numbers_of(run)
    assert {f"train/pose_{part}" for part in ("box", "obj", "cls", "l1", "kpt", "vis")} <= last.keys()
    assert min(last[f"train/pose_{part}"] for part in ("kpt", "vis")) > 0
    assert any(key.startswith("val/pose_") for key in last)
    assert (run / "train_batch0_pose.jpg").is_file() and (run / "assign_batch0_pose.jpg").is_file()
    best = load_model(run / "weights/best.safetensors")
    assert best.keypoints["pose"].names == ("head", "left", "right")
    assert best.keypoints["pose"].flip_pairs == ((1, 2),)


def test_a_pose_run_goes_on_exactly_and_refuses_other_keypoints(
    model_of: Callable[[str], Path], short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pose_set(tmp_path / "figures")
    arguments = ["--cfg", str(model_of(POSE)), "--data", str(data), "--hyp", str(short), "--epochs", "3", *SMALL]
    arguments += ["--val-interval", "5"]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    finish = train.finish_epoch

    def stop_after_the_first(run: Any, parts: Any, row: dict) -> None:
        finish(run, parts, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "finish_epoch", stop_after_the_first)
        run_train(*arguments, "--name", "stopped", cwd=tmp_path, check=False)
    text = data.read_text()
    data.write_text(text.replace("[head, left, right]", "[nose, left, right]"))
    refused = run_train("--resume", "runs/train/stopped", cwd=tmp_path, check=False)
    assert refused.returncode == 3 and "the keypoints of 'pose'" in refused.stderr.splitlines()[-1]
    data.write_text(text)
    run_train("--resume", "runs/train/stopped", cwd=tmp_path)
    same_state(tmp_path / "runs/train/whole", tmp_path / "runs/train/stopped")


@pytest.mark.parametrize(("heads", "name"), [(SEGMENT + DETECT, "detect"), (SEGMENT + POSE, "pose")])
def test_yolox_and_segmentation_train_together(
    heads: str, name: str, model_of: Callable[[str], Path], short: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = tiny_data if name == "detect" else write_pose_set(tmp_path / "figures")
    arguments = ["--cfg", str(model_of(heads)), "--data", str(data), "--hyp", str(short), "--epochs", "2"]
    run_train(*arguments, *SMALL, "--batch-size", "3", cwd=tmp_path)
    row = numbers_of(tmp_path / "runs/train/exp")[-1]
    assert row["train/segment_seg"] > 0 and row[f"train/{name}_box"] > 0
    assert any(key.startswith(f"val/{name}_") for key in row) and "val/segment_mIoU" in row
    last = tmp_path / "runs/train/exp/weights/last.safetensors"
    assert {key.split("/")[0] for key in load_checkpoint(last).tensors["meter"]} == {"segment", name}


def train_in(folder: str, arguments: list[str]) -> None:
    os.chdir(folder)
    train.main(arguments)


def test_two_processes_train_yolox(
    model_of: Callable[[str], Path], short: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--cfg", str(model_of(DETECT)), "--data", str(tiny_data), "--hyp", str(short), *SMALL]
    ended = commands(2, train_in, str(tmp_path), [*arguments, "--epochs", "3"])
    assert [entry.exit_code for entry in ended] == [0, 0], "\n".join(entry.stderr for entry in ended)
    losses = numbers_of(tmp_path / "runs/train/exp")
    assert len(losses) == 3 and all(np.isfinite(list(row.values())).all() for row in losses)
    assert losses[0]["train/detect_l1"] == 0 < losses[2]["train/detect_l1"]


def test_a_run_without_any_positive_says_so(
    model_of: Callable[[str], Path], short: Path, tiny_data: Path, tmp_path: Path
) -> None:
    for label in (tiny_data.parent / "labels/train").glob("*.txt"):
        label.write_text("")
    arguments = ["--cfg", str(model_of(DETECT)), "--data", str(tiny_data), "--hyp", str(short), "--epochs", "1"]
    done = run_train(*arguments, *SMALL, "--noval", cwd=tmp_path)
    assert "epoch 1: no prediction of 'detect' had an object to answer for" in done.stdout + done.stderr


def test_only_heads_that_find_objects_are_asked_for_positives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Task:
        def __init__(self, name: str, finds_objects: bool) -> None:
            self.name, self.finds_objects = name, finds_objects

    told: list[str] = []
    monkeypatch.setattr(positives.LOGGER, "warning", lambda text, *values: told.append(text % values))
    tasks = [Task("detect", True), Task("segment", False)]
    positives.warn_without_positives(tasks, {"detect": {"box": 0.1, "cls": 0.0}, "segment": {"box": 0.0}}, 1)
    positives.warn_without_positives(tasks, {"detect": {"box": 0.0}}, positives.FIRST_EPOCHS + 1)
    positives.warn_without_positives(tasks, {}, 1)
    assert not told
    positives.warn_without_positives(tasks, {"detect": {"box": 0.0}}, 2)
    assert len(told) == 1 and "'detect'" in told[0]


def test_cache_device_gives_way_to_main_memory(
    model_of: Callable[[str], Path], short: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--cfg", str(model_of(DETECT)), "--data", str(tiny_data), "--hyp", str(short), "--epochs", "1"]
    done = run_train(*arguments, *SMALL, "--noval", "--cache", "device", cwd=tmp_path)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "--cache device" in line]
    assert len(said) == 1 and "augment: yolox, so main memory is used (ram)" in said[0]
    assert torch.isfinite(torch.tensor(numbers_of(tmp_path / "runs/train/exp")[0]["train/detect_box"]))
