"""train.py with YOLO-MS, YOLOv6 and YOLOv8: their recipes, schedules and phases, exact resume, a second task beside."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import train
from data.sample_key import SampleKey
from data.transforms.rtmdet import RTMDetTrainTransform
from models.fusing import deploy_graph
from models.losses.yolov6 import YOLOv6Criterion
from models.weights import load_model
from tests.conftest import write_tiny_set
from tests.processes import commands
from tests.train_runs import losses_of, numbers_of, run_train, same_state, stop_at_draw

BACKBONE = """
channel_rule: truncate
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [24, 3, 2]]
  - [-1, 1, Conv, [24, 3, 2]]
  - [-1, 1, MSBlock, [24, [1, 3, 3], 1, 3, 2, 1, se]]  # 3: 1/8
  - [-1, 1, Conv, [24, 3, 2]]
  - [-1, 1, MSBlock, [24, [1, 5, 5], 1, 3, 2]]  # 5: 1/16
head:
"""
REPEATED = BACKBONE.replace("MSBlock, [24, [1, 3, 3], 1, 3, 2, 1, se]", "RepVGG, [24]")
CHUNKED = BACKBONE.replace("MSBlock, [24, [1, 3, 3], 1, 3, 2, 1, se]", "C2f, [24, True]")
MODELS = {
    "yoloms": "norm: {eps: 1.0e-5, momentum: 0.1}\n" + BACKBONE + "  - [[3, 5], 1, RTMDetHead, [nc]]\n",
    "yolov6": REPEATED + "  - [[3, 5], 1, YOLOv6Head, [nc]]\n",
    "yolov8": CHUNKED + "  - [[3, 5], 1, YOLOv8Head, [nc]]\n",
}
# The published recipes, but for steps of four pictures, a shorter warm-up and an average that follows at once.
SHORTENED = {"nominal_batch": 4, "warmup_steps": 3, "warmup_epochs": 0.0, "ema_tau": 10.0, "close_mosaic": 2}
CHANGED = {
    "yoloms": ("yoloms_xs", {"lr0": 0.01}),
    "yolov6": ("yolov6_ms", {"loss_images": 0, "weight_decay": 0.0005, "yolov6_atss_epochs": 2}),
    "yolov8": ("yolov8", {"weight_decay": 0.0005}),
}
TWELVE_STEPS = ["--epochs", "4", "--noval", "--close-mosaic", "2"]
SMALL = ["--img-size", "64", "--batch-size", "4", "--workers", "0", "--dtype", "float32", "--noplots"]


def write_arguments(folder: Path, data: Path, family: str, heads: str = "", **changes: Any) -> list[str]:
    """Write a small model and a shortened recipe of a family, and return the command line for both."""
    model, recipe = folder / f"{family}.yaml", folder / f"{family}_short.yaml"
    model.write_text("nc: 80\n" + MODELS[family].replace("head:\n", f"head:\n{heads}"))
    published, own = CHANGED[family]
    recipes = Path(train.__file__).parent / "data" / "hyps"
    hyp = yaml.safe_load((recipes / f"{published}.yaml").read_text()) | SHORTENED | own | changes
    recipe.write_text(yaml.safe_dump(hyp))
    return ["--cfg", str(model), "--data", str(data), "--hyp", str(recipe), *SMALL]


@pytest.fixture
def arguments_of(tmp_path: Path, tiny_data: Path) -> Callable[..., list[str]]:
    """``write_arguments`` of a family and its changes, for the folder and the data of a test."""
    return functools.partial(write_arguments, tmp_path, tiny_data)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a family's run of twelve steps that nothing stopped; each is trained once."""

    @functools.cache
    def train_once(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        arguments = write_arguments(folder, write_tiny_set(folder / "tiny"), family)
        run_train(*arguments, *TWELVE_STEPS, cwd=folder)
        return folder / "runs/train/exp"

    return train_once


@pytest.mark.parametrize(
    ("name", "recipe", "losses"),
    [
        ("yoloms_xs", "yoloms_xs", ("box", "cls")),
        ("yolov6_n", "yolov6", ("box", "cls")),
        ("yolov8_n_ms", "yolov8", ("box", "cls", "dfl")),
    ],
)
def test_a_published_model_trains_by_the_recipe_that_it_names(
    name: str, recipe: str, losses: tuple[str, ...], tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--cfg", name, "--data", str(tiny_data), "--epochs", "2", "--visualize-assign"]
    done = run_train(*arguments, *SMALL[:-1], "--batch-size", "12", cwd=tmp_path)
    run = tmp_path / "runs/train/exp"
    assert f"recipe {recipe}, named by {name}.yaml" in done.stdout
    assert "in a run of 2 it is the last 1" in done.stdout
    assert "yoloms_small is a recipe for short runs" in done.stdout
    first, last = numbers_of(run)
    assert all(np.isfinite(list(row.values())).all() for row in (first, last))
    assert all(first[f"train/detect_{part}"] > 0 for part in losses)
    assert {"val/detect_AP50", "val/fitness"} <= first.keys()
    assert (run / "assign_batch0_detect.jpg").is_file() and (run / "train_batch0_detect.jpg").is_file()


@pytest.mark.parametrize("family", MODELS)
def test_it_learns_the_blocks_and_its_weights_can_be_deployed(
    family: str, arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    quick = {"optimizer": "AdamW", "lr0": 0.005, "lrf": 0.2, "momentum": 0.9, "warmup_bias_lr": 0.0, "mixup": 0.0}
    whole = {"augment": "yolov5", "mosaic": 0.0, "scale": 0.2, "translate": 0.0, "ema_decay": 0.9, "close_mosaic": 0}
    arguments = arguments_of(family, **quick, **whole, yolov6_atss_epochs=4)
    run_train(*arguments, "--epochs", "40", "--val-interval", "40", cwd=tmp_path)
    run = tmp_path / "runs/train/exp"
    assert numbers_of(run)[-1]["val/detect_AP50"] > 0.3
    trained, deployed = (load_model(run / "weights/best.safetensors") for _ in range(2))
    assert trained.names["detect"] == ["red", "green", "blue"]
    deploy_graph(deployed)
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        for raw, other in zip(trained(images)["detect"], deployed(images)["detect"], strict=True):
            torch.testing.assert_close(other, raw, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "after"),
    [("yoloms", 2), ("yoloms", 8), ("yoloms", 10), ("yolov6", 6), ("yolov6", 7), ("yolov6", 11), ("yolov8", 5)],
)
def test_a_run_stopped_around_a_change_ends_like_one_that_was_not(
    family: str,
    after: int,
    arguments_of: Callable[..., list[str]],
    undisturbed: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Twelve steps: warm-up to step 3, ATSS and mosaic to step 6, the flat part of the rate to its middle."""
    whole = undisturbed(family)
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, after)
        done = run_train(*arguments_of(family), *TWELVE_STEPS, cwd=tmp_path, check=False)
    assert done.returncode == 130 and f"after step {after}" in done.stderr
    stopped = tmp_path / "runs/train/exp"
    run_train("--resume", str(stopped), cwd=tmp_path)
    same_state(whole, stopped)
    assert losses_of(stopped) == losses_of(whole)


def test_yolov6_changes_its_assigner_when_the_epoch_comes_and_after_a_resume(
    arguments_of: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    forward = YOLOv6Criterion.forward

    def note(self: YOLOv6Criterion, *given: Any) -> Any:
        seen.append(self.with_atss)
        return forward(self, *given)

    monkeypatch.setattr(YOLOv6Criterion, "forward", note)
    arguments = [*arguments_of("yolov6"), "--epochs", "4", "--noval"]
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 8)
        run_train(*arguments, cwd=tmp_path, check=False)
    assert seen == [True] * 6 + [False] * 2
    run_train("--resume", cwd=tmp_path)
    assert seen[8:] == [False] * 4


def test_the_second_stage_begins_with_its_first_batch_and_is_validated_every_epoch(
    arguments_of: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mosaics: list[bool] = []
    call = RTMDetTrainTransform.__call__

    def note(self: RTMDetTrainTransform, dataset: Any, key: SampleKey, rng: np.random.Generator) -> Any:
        mosaics.append(key.mosaic)
        return call(self, dataset, key, rng)

    monkeypatch.setattr(RTMDetTrainTransform, "__call__", note)
    run_train(*arguments_of("yoloms"), "--epochs", "5", "--val-interval", "10", cwd=tmp_path)
    # Twelve pictures an epoch; the loader works a batch or so ahead.
    assert mosaics[:60] == [True] * 36 + [False] * 24
    rows = numbers_of(tmp_path / "runs/train/exp")
    assert ["val/fitness" in row for row in rows] == [False, False, False, True, True]
    # Of the last step of each epoch: flat to the middle of the run, then down to a fifth.
    falling = [0.002 + 0.008 * (1 + math.cos(math.pi * (step - 7.5) / 7.5)) / 2 for step in (8, 11, 14)]
    assert [row["lr"] for row in rows] == pytest.approx([rows[1]["lr"] * 2 / 3, 0.01, *falling], rel=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_objects_and_areas_are_learnt_together(
    family: str, arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = arguments_of(family, "  - [[3], 1, SegMaskBase, [4, 1, 64, False]]\n")
    run_train(*arguments, "--epochs", "2", "--batch-size", "3", cwd=tmp_path)
    row = numbers_of(tmp_path / "runs/train/exp")[-1]
    assert row["train/segment_seg"] > 0 and row["train/detect_box"] > 0
    assert {"val/detect_AP50", "val/segment_mIoU"} <= row.keys()


def test_the_zoo_s_yoloms_with_areas_trains_after_a_change_of_rows_alone(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--cfg", "yoloms_xs_psp", "--data", str(tiny_data), "--epochs", "1", "--hyp", "yoloms_small"]
    run_train(*arguments, *SMALL, "--batch-size", "6", cwd=tmp_path)
    row = numbers_of(tmp_path / "runs/train/exp")[-1]
    assert row["train/segment_seg"] > 0 and row["train/detect_cls"] > 0


def train_in(folder: str, arguments: list[str]) -> None:
    os.chdir(folder)
    train.main(arguments)


@pytest.mark.parametrize("family", ["yoloms", "yolov6"])
def test_two_processes_train_and_change_their_phase_together(
    family: str, arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = [*arguments_of(family, yolov6_atss_epochs=1), "--epochs", "3"]
    ended = commands(2, train_in, str(tmp_path), arguments)
    assert [entry.exit_code for entry in ended] == [0, 0], "\n".join(entry.stderr for entry in ended)
    rows = numbers_of(tmp_path / "runs/train/exp")
    assert len(rows) == 3 and all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(row["train/detect_cls"] > 0 for row in rows)
