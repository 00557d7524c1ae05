"""train.py with YOLOS: its recipe, batches of varying shape, exact resume, several processes, less memory, bfloat16."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import train
from data.samples import Batch
from models.checkpoint import load_checkpoint
from models.graph import load_graph
from tests.processes import commands
from tests.train_runs import SMALL, losses_of, numbers_of, results_of, run_train, same_state, stop_at_draw
from utils.recipe import RECIPE_FOLDER, load_recipe
from utils.search.space import search_space
from utils.training.step import Stepper

MODEL = """
nc: 3
input: {stride: 8, fit: shortest, limit: 1.66625, shrink: antialias}
backbone:
  - [-1, 1, ViTEmbed, [16, 8, 8, [64, 96]]]
  - [-1, 1, ViTBlockPE, [16, 2, 2.0, [64, 96]]]
  - [-1, 1, ViTBlock, [16, 2, 2.0]]
  - [-1, 1, TokenNorm, [16, 1.0e-6]]
head:
  - [-1, 1, YOLOSDetect, [nc]]
"""
SEGMENT = """  - [3, 1, TokenMap, []]
  - [[-1], 1, SegMaskBase, [4, 1, 8, False]]
"""
# The published recipe, but for steps of four small pictures and a rate that a model of this size learns at.
SHORTENED = {"nominal_batch": 4, "lr0": 0.001, "resize_base": 48, "resize_sides": [32, 64, 8], "drop_path": 0.3}
SHORTENED |= {"crop_sides": [40, 48, 56], "crop_range": [32, 48]}
OPTIONS = [*SMALL, "--img-size", "48"]


@pytest.fixture
def arguments_of(tmp_path: Path, tiny_data: Path) -> Callable[..., list[str]]:
    """Writes a small YOLOS and a shortened recipe, and returns the command line for both."""

    def write(rows: str = "", **changes: Any) -> list[str]:
        model, recipe = tmp_path / "small.yaml", tmp_path / "short.yaml"
        model.write_text(MODEL + rows)
        hyp = yaml.safe_load((RECIPE_FOLDER / "yolos_ti.yaml").read_text()) | SHORTENED | changes
        recipe.write_text(yaml.safe_dump(hyp))
        return ["--cfg", str(model), "--data", str(tiny_data), "--hyp", str(recipe), *OPTIONS]

    return write


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], bool]]:
    """Shapes of the batches that steps are made of, and whether their pictures differ in size."""
    seen: list[tuple[tuple[int, ...], bool]] = []
    step = Stepper.step

    def note(self: Stepper, batches: dict[str, list[Batch]], flags: tuple[bool, ...] = ()) -> Any:
        seen.extend((tuple(b.images.shape), b.sizes is not None) for listed in batches.values() for b in listed)
        return step(self, batches, flags)

    monkeypatch.setattr(Stepper, "step", note)
    return seen


def test_the_small_model_trains_by_the_recipe_that_it_names(tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--cfg", "yolos-nano", "--data", str(tiny_data), "--epochs", "2"]
    done = run_train(*arguments, *SMALL, "--img-size", "64", cwd=tmp_path)
    assert "recipe yolos_small, named by yolos-nano.yaml" in done.stdout
    assert "BatchNorm" not in done.stderr, "it has none"
    rows = numbers_of(tmp_path / "runs/train/exp")
    assert len(rows) == 2 and all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(rows[0][f"train/detect_{part}"] > 0 for part in ("cls", "box", "giou"))
    assert all(0 < row["train/detect_class_error"] <= 100 and row["train/detect_cardinality_error"] > 0 for row in rows)


def test_batches_have_shapes_of_their_own_and_the_weights_are_their_average(
    arguments_of: Callable[..., list[str]], shapes: list, tmp_path: Path
) -> None:
    done = run_train(*arguments_of(), "--epochs", "3", "--batch-size", "2", "--visualize-assign", cwd=tmp_path)
    assert "a step adds up 2 batches of 2 images per head; the recipe is meant for steps of 4 images" in done.stdout
    assert len({shape for shape, _ in shapes}) > 4 and any(padded for _, padded in shapes)
    assert all(side % 8 == 0 and 32 <= side <= 112 for shape, _ in shapes for side in shape[2:])
    assert (tmp_path / "runs/train/exp/assign_batch1_detect.jpg").is_file()
    tensors = load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors").tensors
    assert tensors["model"].keys() == tensors["ema"].keys()
    assert all(torch.equal(tensors["model"][name], value) for name, value in tensors["ema"].items())


@pytest.mark.parametrize("after", [1, 4])
def test_a_run_stopped_within_an_epoch_ends_like_one_that_was_not(
    after: int, arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Shapes vary and blocks are left out; step 4 is the first of the second epoch."""
    arguments = [*arguments_of(), "--epochs", "3", "--noval"]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, after + 1)
        done = run_train(*arguments, "--name", "stopped", cwd=tmp_path, check=False)
    assert done.returncode == 130 and f"after step {after + 1}" in done.stderr
    whole, stopped = tmp_path / "runs/train/whole", tmp_path / "runs/train/stopped"
    run_train("--resume", str(stopped), cwd=tmp_path)
    same_state(whole, stopped)
    assert losses_of(stopped) == losses_of(whole)


def test_recomputed_rows_give_the_same_weights_though_blocks_are_left_out(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = [*arguments_of(), "--epochs", "2", "--noval"]
    run_train(*arguments, "--name", "plain", cwd=tmp_path)
    run_train(*arguments, "--name", "recomputed", "--recompute", cwd=tmp_path)
    same_state(tmp_path / "runs/train/plain", tmp_path / "runs/train/recomputed")


def train_in(folder: str, arguments: list[str]) -> None:
    os.chdir(folder)
    train.main(arguments)


def test_two_processes_of_four_pictures_make_the_steps_of_one_of_eight(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = [*arguments_of(nominal_batch=8, drop_path=0.0), "--epochs", "2", "--batch-size", "8"]
    ended = commands(2, train_in, str(tmp_path), [*arguments, "--name", "two"])
    assert [entry.exit_code for entry in ended] == [0, 0], "\n".join(entry.stderr for entry in ended)
    run_train(*arguments, "--name", "one", cwd=tmp_path)
    one, two = (tmp_path / "runs/train" / name for name in ("one", "two"))
    for own, shared in zip(numbers_of(one), numbers_of(two), strict=True):
        for part in ("cls", "box", "giou"):
            assert own[f"train/detect_{part}"] == pytest.approx(shared[f"train/detect_{part}"], rel=1e-4)
        for part in ("class_error", "cardinality_error"):
            assert own[f"train/detect_{part}"] == pytest.approx(shared[f"train/detect_{part}"], rel=0.05)
    first, second = (load_checkpoint(run / "weights/last.safetensors").tensors["model"] for run in (one, two))
    assert all(torch.allclose(value, second[name], atol=1e-5) for name, value in first.items())


def test_objects_and_areas_take_turns(arguments_of: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = arguments_of(SEGMENT)
    run_train(*arguments, "--epochs", "2", "--recompute", cwd=tmp_path)
    row = numbers_of(tmp_path / "runs/train/exp")[-1]
    assert row["train/segment_seg"] > 0 and row["train/detect_giou"] > 0
    assert {"val/detect_AP50", "val/segment_mIoU"} <= row.keys()


def test_bfloat16_and_frozen_rows(arguments_of: Callable[..., list[str]], tmp_path: Path) -> None:
    on_squares = arguments_of(augment="yolov5", mosaic=0.0)
    done = run_train(*on_squares, "--epochs", "2", "--dtype", "bfloat16", "--freeze", "0-1", cwd=tmp_path)
    assert "objects look larger in use than in training: the recipe's augment: yolov5" in done.stdout + done.stderr
    run = tmp_path / "runs/train/exp"
    assert all(np.isfinite(list(row.values())).all() for row in numbers_of(run))
    saved = load_checkpoint(run / "weights/last.safetensors").tensors
    torch.manual_seed(0)
    new = load_graph(tmp_path / "small.yaml").state_dict()
    frozen = {name for name in new if name.startswith(("model.0.", "model.1."))}
    assert {name for name, value in saved["model"].items() if torch.equal(value, new[name])} == frozen
    assert not any(name.partition("/")[2] in frozen for name in saved["optimizer"])


def test_the_batch_that_fits_is_measured_with_pictures_of_unlike_sizes(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = [*arguments_of(nominal_batch=8), "--epochs", "1", "--noval"]
    done = run_train(*arguments, "--batch-size", "-1", cwd=tmp_path)
    # Whole pictures have up to 1.66625 times the largest short side.
    assert "8 images at a time (head 'detect' at 104 x 104)" in done.stdout
    assert len(results_of(tmp_path / "runs/train/exp")) == 1


def test_a_step_that_is_not_finite_is_left_out_and_its_row_named(
    arguments_of: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*arguments_of(), "--epochs", "1", "--noval"]
    draw = train.Parts.draw

    def spoil_weight(self: train.Parts, first: int, rounds: int) -> dict:
        if first == 1:
            with torch.no_grad():
                self.graph.model[2].fc1.weight[0, 0] = float("nan")
        return draw(self, first, rounds)

    monkeypatch.setattr(train.Parts, "draw", spoil_weight)
    done = run_train(*arguments, cwd=tmp_path, check=False)
    assert "step 2 was left out (1 in a row)" in done.stdout + done.stderr
    assert "a weight of row 2 (ViTBlock)" in done.stdout + done.stderr
    assert "step 3 was left out (2 in a row)" in done.stdout + done.stderr, "such costs do not stop the solver"


def test_other_sizes_for_whole_batches_are_refused(arguments_of: Callable[..., list[str]], tmp_path: Path) -> None:
    done = run_train(*arguments_of(), "--epochs", "1", "--multi-scale", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "--multi-scale: the recipe says augment: detr, which draws a size for every picture" in done.stderr


def test_blocks_that_the_model_has_not_cannot_be_left_out(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("{drop_path: 0.1, nominal_batch: 4, warmup_epochs: 0}\n")
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--hyp", str(recipe), "--epochs", "1", "--noval"]
    done = run_train(*arguments, *SMALL, cwd=tmp_path)
    assert "drop_path has no effect: tiny_model.yaml has no blocks" in done.stdout + done.stderr


def test_a_search_knows_the_keys_of_the_set_loss(arguments_of: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments_of()
    graph = load_graph(tmp_path / "small.yaml")
    keys = {key.name: key for key in search_space(load_recipe("yolos_ti"), graph)}
    assert {"lr0", "set_class", "set_box", "set_giou", "set_no_object"} <= keys.keys()
    assert not {"mosaic", "mixup", "hsv_h", "box", "obj", "set_cost_box", "drop_path"} & keys.keys()
    asked = {key.name for key in search_space(load_recipe("yolos_ti"), graph, ["drop_path", "set_cost_box"])}
    assert asked == {"drop_path", "set_cost_box"}
