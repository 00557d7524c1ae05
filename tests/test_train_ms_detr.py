"""train.py with MS-DETR: recipes, named losses and rates, exact resume with dropout, accumulation, bfloat16."""

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
from models.checkpoint import load_checkpoint
from models.graph import Graph, load_graph
from models.spec import parse_spec
from tests.processes import commands
from tests.train_runs import SMALL, losses_of, numbers_of, run_train, same_state, stop_at_draw
from utils.optimizer import build_optimizer
from utils.recipe import RECIPE_FOLDER, load_recipe
from utils.search.space import search_space
from utils.training.deadline import RunLength
from utils.training.rate_factors import rate_factors
from utils.training.rates import Rates

MODEL = """
nc: 3
queries: 10
dim: 32
ffn: 32
dropout: {dropout}
recipe: ms_detr_nano
input: {{stride: 1, fit: shortest, limit: 1.66625, shrink: antialias}}
backbone:
  - [-1, 1, FrozenStem, [8]]
  - [-1, 1, ResNetStage, [16, 1, 2, {{block: basic}}]]
  - [-1, 1, ResNetStage, [16, 1, 2, {{block: basic}}]]
head:
  - [1, 1, ConvGN, [dim, 1, 1]]
  - [2, 1, ConvGN, [dim, 1, 1]]
  - [[3, 4], 1, DeformEncoder, [dim, 1, 4, 2, ffn, dropout]]
  - [5, 1, TwoStageQueries, [nc, queries]]
  - [[5, 6], 1, MSDETRDecoder, [nc, dim, 2, 4, 2, ffn, dropout, {{supervision: c, aux_ffn: true}}]]
"""
SEGMENT = "  - [[1], 1, SegMaskBase, [4, 1, 8, False]]\n"
# The published recipe, but for steps of four small pictures and a rate that a model of this size learns at.
SHORTENED = {"nominal_batch": 4, "lr0": 0.001, "resize_base": 48, "resize_sides": [32, 64, 8]}
SHORTENED |= {"crop_sides": [40, 48, 56], "crop_range": [32, 48]}
# Pictures of one shape; and no Adam, which makes whole steps of rounding where a gradient is 0, as of keys' biases.
ALIKE = {"resize_sides": [48, 48, 8], "crop_chance": 0.0, "nominal_batch": 8, "optimizer": "SGD"}
OPTIONS = [*SMALL, "--img-size", "48"]
PARTS = [f"{part}_{layer}" for layer in (0, 1) for part in ("cls", "box", "giou")]
NAMES = [*PARTS, *(f"o2m_{part}" for part in PARTS), "enc_cls", "enc_box", "enc_giou"]


def spec_text(dropout: float = 0.1, rows: str = "") -> str:
    return MODEL.format(dropout=dropout) + rows


@pytest.fixture
def arguments_of(tmp_path: Path, tiny_data: Path) -> Callable[..., list[str]]:
    """Writes a small MS-DETR and a shortened recipe, and returns the command line for both."""

    def write(dropout: float = 0.1, rows: str = "", **changes: Any) -> list[str]:
        model, recipe = tmp_path / "small.yaml", tmp_path / "short.yaml"
        model.write_text(spec_text(dropout, rows))
        hyp = yaml.safe_load((RECIPE_FOLDER / "ms_detr.yaml").read_text()) | SHORTENED | changes
        recipe.write_text(yaml.safe_dump(hyp))
        return ["--cfg", str(model), "--data", str(tiny_data), "--hyp", str(recipe), *OPTIONS]

    return write


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "weights/last.safetensors").tensors["model"]


def assert_same_steps(one: Path, other: Path) -> None:
    """Hold losses and weights of two runs against each other, to rounding."""
    for own, found in zip(numbers_of(one), numbers_of(other), strict=True):
        for part in NAMES:
            assert own[f"train/detect_{part}"] == pytest.approx(found[f"train/detect_{part}"], rel=1e-4, abs=1e-6), part
    first, second = weights_of(one), weights_of(other)
    assert all(torch.allclose(value, second[name], atol=1e-6) for name, value in first.items())


def test_every_loss_is_in_the_results_and_their_sums_on_the_line(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = arguments_of()
    del arguments[arguments.index("--hyp") : arguments.index("--hyp") + 2]
    done = run_train(*arguments, "--epochs", "2", "--batch-size", "-1", cwd=tmp_path)
    assert "recipe ms_detr_nano, named by small.yaml" in done.stdout
    # Whole pictures have up to 1.66625 times the short side, and no side is rounded.
    assert "4 images at a time (head 'detect' at 79 x 79)" in done.stdout
    assert "learning rate 0.0005 in steps of 4 images; sampling_offsets 5e-05" in done.stdout
    rows = numbers_of(tmp_path / "runs/train/exp")
    assert len(rows) == 2 and all(np.isfinite(list(row.values())).all() for row in rows)
    assert [key for key in rows[0] if key.startswith("train/")][: len(NAMES)] == [f"train/detect_{n}" for n in NAMES]
    assert all(rows[0][f"train/detect_{name}"] > 0 for name in NAMES) and "val/detect_AP50" in rows[0]
    last = done.stderr.split("\r")[-1]
    shown = {word: float(last.split(f"{word} ")[1].split()[0].rstrip("]")) for word in ("o2o", "o2m", "enc")}
    for prefix, total in (("o2m_", shown["o2m"]), ("enc_", shown["enc"])):
        own = [value for key, value in rows[-1].items() if key.startswith(f"train/detect_{prefix}")]
        assert total == pytest.approx(sum(own), rel=1e-3)


def test_a_run_with_dropout_may_be_stopped_or_recomputed_and_ends_the_same(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Sizes vary; step 5 is the second of the second epoch."""
    arguments = [*arguments_of(), "--epochs", "2", "--noval"]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    run_train(*arguments, "--name", "recomputed", "--recompute", cwd=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 5)
        done = run_train(*arguments, "--name", "stopped", cwd=tmp_path, check=False)
    assert done.returncode == 130 and "after step 5" in done.stderr
    whole, recomputed, stopped = (tmp_path / "runs/train" / name for name in ("whole", "recomputed", "stopped"))
    run_train("--resume", str(stopped), cwd=tmp_path)
    for run in (recomputed, stopped):
        same_state(whole, run)
        assert losses_of(run) == losses_of(whole)


def train_in(folder: str, arguments: list[str]) -> None:
    os.chdir(folder)
    train.main(arguments)


def test_a_step_of_eight_pictures_may_be_cut_into_batches_and_shared_by_processes(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = [*arguments_of(0.0, **ALIKE), "--epochs", "1", "--noval", "--batch-size"]
    run_train(*arguments, "8", "--name", "one", cwd=tmp_path)
    done = run_train(*arguments, "2", "--name", "cut", cwd=tmp_path)
    assert "a step adds up 4 batches of 2 images per head; the recipe is meant for steps of 8 images" in done.stdout
    ended = commands(2, train_in, str(tmp_path), [*arguments, "4", "--name", "shared"])
    assert [entry.exit_code for entry in ended] == [0, 0], "\n".join(entry.stderr for entry in ended)
    one, *others = (tmp_path / "runs/train" / name for name in ("one", "cut", "shared"))
    for other in others:
        assert_same_steps(one, other)


def test_objects_and_areas_take_turns_in_bfloat16_and_objects_may_be_learnt_one_to_one_alone(
    arguments_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = [*arguments_of(rows=SEGMENT, o2m=0), "--epochs", "1", "--freeze", "backbone", "--recompute"]
    done = run_train(*arguments, "--dtype", "bfloat16", cwd=tmp_path)
    run = tmp_path / "runs/train/exp"
    row = numbers_of(run)[-1]
    assert np.isfinite(list(row.values())).all()
    assert row["train/segment_seg"] > 0 and row["train/detect_enc_giou"] > 0 and "o2m off" in done.stderr
    assert all(row[f"train/detect_o2m_{part}"] == 0 and row[f"train/detect_{part}"] > 0 for part in PARTS)
    assert {"val/detect_AP50", "val/segment_mIoU"} <= row.keys()
    torch.manual_seed(0)
    new = load_graph(tmp_path / "small.yaml").state_dict()
    kept = {name for name, value in weights_of(run).items() if torch.equal(value, new[name])}
    assert kept >= {name for name in new if name.startswith(("model.0.", "model.1.", "model.2."))}
    assert not any(name.startswith("model.7.layers.0.linear1") for name in kept)


def test_an_unknown_name_ends_the_run_before_it_begins(arguments_of: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = arguments_of(lr_names={"reference_points": 0.1})
    done = run_train(*arguments, "--epochs", "1", cwd=tmp_path, check=False)
    assert done.returncode == 4 and "'lr_names' names 'reference_points', which is neither a row" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(parse_spec(yaml.safe_load(spec_text()), "small.yaml"))


@pytest.mark.parametrize(("name", "epochs", "drop"), [("ms_detr", 12, 11), ("deformable_detr", 50, 40)])
def test_rates_and_decay_of_every_parameter_are_the_published_ones(
    name: str, epochs: int, drop: int, graph: Graph
) -> None:
    hyp, rounds = load_recipe(name), 7
    optimizer = build_optimizer(graph, hyp, hyp["weight_decay"], rate_factors(graph, hyp))
    rates = Rates(hyp, rounds, RunLength(epochs), int(hyp["nominal_batch"]), epochs)
    named = {parameter: key for key, parameter in graph.named_parameters()}
    for position in (0, drop * rounds - 1, drop * rounds, epochs * rounds - 1):
        rates.apply(optimizer, position)
        left = 0.1 if position >= drop * rounds else 1.0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                key = named[parameter]
                slow = int(key.split(".")[1]) <= 2 or "sampling_offsets" in key
                assert group["lr"] == pytest.approx((2e-5 if slow else 2e-4) * left), key
                assert group["weight_decay"] == 1e-4 and group["betas"] == (0.9, 0.999)
    learning = {key for key, parameter in graph.named_parameters() if parameter.requires_grad}
    assert {named[p] for group in optimizer.param_groups for p in group["params"]} == learning
    assert not any(key.startswith("model.0.") for key in learning), "the stem never learns"
    assert rates.accumulate(0) == 1 and rates.warmup == 0
    assert (hyp["clip_norm"], hyp["set_class"], hyp["o2m"]) == (0.1, *((2, 0) if epochs == 50 else (1, 1)))


def test_a_search_knows_the_keys_of_mixed_supervision(graph: Graph) -> None:
    keys = {key.name for key in search_space(load_recipe("ms_detr"), graph)}
    assert {"lr0", "set_class", "set_box", "o2m_class", "o2m_giou"} <= keys
    assert not {"set_no_object", "mosaic", "box", "enc_class"} & keys
    assert "o2m_class" not in {key.name for key in search_space(load_recipe("deformable_detr"), graph)}
