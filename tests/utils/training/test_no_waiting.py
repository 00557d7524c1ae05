"""A step never asks the device for a value: on the meta device, which has none to give, everything still runs.

One thing is excepted. Heads that answer with a set (YOLOS) match queries with objects on the CPU, so each of their
micro-batches waits for the device once, between its forward and its backward pass, and for nothing else.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from data.config import load_data_config
from models.assigners.hungarian import Matches
from models.graph import load_graph
from tests.conftest import TINY_MODEL
from tests.test_train_yolox import BACKBONE, DETECT, INPUT, POSE, SEGMENT, write_pose_set
from tests.utils.training.test_step import HYP, options_of
from utils.distributed import World
from utils.ema import ModelEma
from utils.optimizer import build_optimizer
from utils.training.balance import build_balance
from utils.training.memory_retry import MemoryRetry
from utils.training.multi_scale import IntervalScale
from utils.training.step import Stepper
from utils.training.tasks import build_tasks, open_datasets, plan_turns
from utils.training.update import Update

META = torch.device("meta")
OTHER_HEADS = {
    "rtmdet": "  - [2, 1, Conv, [128, 1, 1]]\n  - [[5, 3], 1, RTMDetHead, [nc]]\n",
    "yolov8": "  - [[2, 3], 1, YOLOv8Head, [nc, 8]]\n",
    "yolov6": "  - [[2, 3], 1, YOLOv6Head, [nc]]\n",
}
"""Further rows behind those of SEGMENT."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"balance": "uncertainty"},
        {"balance": "pcgrad"},
        {"balance": "gradnorm"},
        {"seg_loss": "ohem", "autobalance": True},
        {"seg_loss": "focal", "fl_gamma": 1.5},
        {"seg_class_weights": [1.0, 2.0, 1.0, 0.5]},
    ],
    ids=lambda changes: "_".join(str(value) for value in changes.values()) or "default",
)
def test_a_step_asks_the_device_for_nothing(
    changes: dict, tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_on_meta(tmp_path, TINY_MODEL, tiny_data, {**HYP, **changes, "clip_norm": 10.0}, monkeypatch)


@pytest.mark.parametrize("rows", [SEGMENT + DETECT, SEGMENT + POSE], ids=["detect", "pose"])
@pytest.mark.parametrize("changes", [{}, {"simota": "mm", "yolox_box_loss": "giou", "pose_oks_form": "area"}])
def test_nor_does_one_of_yolox(
    rows: str, changes: dict, tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyp = {**HYP, **changes, "augment": "yolox", "loss_reduction": "mean", "close_mosaic": 1}
    data = write_pose_set(tmp_path / "figures") if "Pose" in rows else tiny_data
    classes = "nc: 1\nnkpt: 3\n" if "Pose" in rows else "nc: 3\n"
    step_on_meta(tmp_path, classes + INPUT + BACKBONE + rows, data, hyp, monkeypatch)


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("rtmdet", {}),
        ("rtmdet", {"rtmdet_box_loss": "giou", "rtmdet_assigner": "task_aligned"}),
        ("yolov8", {}),
        ("yolov6", {}),
        ("yolov6", {"yolov6_box_loss": "giou", "yolov6_atss_epochs": 10}),
    ],
)
def test_nor_does_one_of_other_heads(
    head: str, changes: dict, tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyp = {**HYP, **changes, "close_mosaic": 1}
    step_on_meta(tmp_path, "nc: 3\n" + BACKBONE + SEGMENT + OTHER_HEADS[head], tiny_data, hyp, monkeypatch)


YOLOS = """
nc: 3
backbone:
  - [-1, 1, ViTEmbed, [16, 16, 8, [64, 96]]]
  - [-1, 1, ViTBlockPE, [16, 2, 2.0, [64, 96]]]
  - [-1, 1, TokenNorm, [16, 1.0e-6]]
head:
  - [[-1, 1], 1, YOLOSDetect, [nc]]
  - [2, 1, TokenMap, []]
  - [[-1], 1, SegMaskBase, [4, 1, 8, False]]
"""
DRAWN_SIZES = {"augment": "detr", "resize_base": 96, "resize_sides": [48, 96, 16], "crop_chance": 0.0}


@pytest.mark.parametrize("changes", [{}, DRAWN_SIZES], ids=["canvas", "sizes"])
@pytest.mark.parametrize("earlier", [0.0, 0.5])
def test_one_of_a_set_waits_once_per_micro_batch_to_match_all_its_layers(
    earlier: float, changes: dict, tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers: list[int] = []

    def without_solver(costs: list[torch.Tensor], valid: torch.Tensor) -> list[Matches]:
        assert {*(cost.device for cost in costs), valid.device} == {META}
        layers.append(len(costs))
        return [Matches(*torch.zeros((3, 6), dtype=torch.int64, device=META).unbind(0)) for _ in costs]

    monkeypatch.setattr("models.losses.query_criterion.match", without_solver)
    losses = {"set_earlier": earlier, "o2m": int(earlier > 0), "loss_reduction": "mean"}
    hyp = {**HYP, **changes, **losses, "clip_norm": 0.1}
    step_on_meta(tmp_path, YOLOS, tiny_data, hyp, monkeypatch, multi_scale=not changes)
    assert layers == [2 if earlier else 1] * 4, "two steps of two micro-batches"


def step_on_meta(
    folder: Path, text: str, data: Path, hyp: dict, monkeypatch: pytest.MonkeyPatch, multi_scale: bool = True
) -> None:
    """Make two steps with a model on the meta device, L1 loss included, and other sizes where it is said."""
    model = folder / "model.yaml"
    model.write_text(text)
    # There is no autocast for this device; it asks nothing of it anyway.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    graph = load_graph(model)
    datasets = open_datasets(graph, load_data_config(data), "train")
    tasks = build_tasks(graph, datasets, hyp, options_of(4), World(), plan_turns(datasets, hyp, 4))
    graph.to(META)
    for task in tasks:
        task.criterion.to(META).start_epoch(9, 10)
    # The fused kernels refuse this device; what they are given is what matters here.
    optimizer = build_optimizer(nn.Conv2d(1, 1, 1), hyp, 0.0)
    optimizer.param_groups = [
        {**optimizer.param_groups[0], "params": [p for p in graph.parameters() if p.requires_grad], "momentum": 0.0}
    ]
    optimizer.step = lambda: None
    ema = ModelEma(graph)
    update = Update(optimizer, ema, hyp["clip_norm"])
    balance = build_balance(graph, hyp, update._parameters, 0).to(META)
    scale = IntervalScale(96, graph.stride, 0, 1, 2, 0) if multi_scale else None
    stepper = Stepper(graph.train(), tasks, update, balance, World(device=META), META, None, MemoryRetry(), scale)
    batches = {task.name: list(task.loader.batches(0))[:2] for task in tasks}
    for _ in range(2):
        record, _ = stepper.step(batches)
    assert {part.device for part in record.parts.values()} == {META}
    with pytest.raises(RuntimeError):
        bool(record.bad)
