"""One optimizer step: how a nominal batch is cut does not matter, and nothing is left untrained or spoilt."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from torch import nn

from data.config import load_data_config
from models.graph import Graph, load_graph
from utils.ema import ModelEma
from utils.errors import RunError
from utils.optimizer import GROUPS, build_optimizer, parameter_groups
from utils.recipe import DEFAULTS
from utils.training.step import Stepper
from utils.training.tasks import TrainTask, build_tasks, open_datasets

HYP = {**DEFAULTS, "mosaic": 0.0, "gains": {"detect": 0.6, "segment": 0.35}, "clip_norm": 0.0}
CPU = torch.device("cpu")


def without_batchnorm(graph: Graph) -> Graph:
    """Replace every BatchNorm by nothing, and every Dropout."""
    for module in list(graph.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.Dropout):
                setattr(module, name, nn.Identity())
    return graph


def make_stepper(model: Path, data: Path, batch_size: int) -> tuple[Stepper, list[TrainTask]]:
    torch.manual_seed(0)
    graph = without_batchnorm(load_graph(model))
    options = argparse.Namespace(img_size=[96], base_size=None, batch_size=batch_size, workers=0, seed=0)
    tasks = build_tasks(graph, open_datasets(graph, load_data_config(data), "train"), HYP, options)
    optimizer = build_optimizer(graph, HYP, 0.0005)
    return Stepper(graph.train(), tasks, optimizer, ModelEma(graph), CPU, None, HYP["clip_norm"]), tasks


def test_four_micro_batches_equal_one_batch(tiny_model: Path, tmp_path: Path) -> None:
    from tests.conftest import write_tiny_set

    data = write_tiny_set(tmp_path / "sixteen", images=16)
    results = []
    for batch_size in (16, 4):
        stepper, tasks = make_stepper(tiny_model, data, batch_size)
        batches = {task.name: list(task.loader.batches(0)) for task in tasks}
        assert [len(listed) for listed in batches.values()] == [16 // batch_size] * 2
        parts = stepper.step(batches)
        results.append((parts, {n: p.detach().clone() for n, p in stepper.graph.named_parameters()}))
    (whole, whole_weights), (cut, cut_weights) = results
    for name in whole:
        assert torch.allclose(whole[name], cut[name], rtol=1e-5, atol=1e-7)
    for name in whole_weights:
        assert torch.allclose(whole_weights[name], cut_weights[name], rtol=1e-5, atol=1e-6), name


def test_a_smaller_rest_makes_a_step(tiny_model: Path, tiny_data: Path) -> None:
    stepper, tasks = make_stepper(tiny_model, tiny_data, 5)
    batches = {task.name: list(task.loader.batches(0)) for task in tasks}
    assert [len(batch) for batch in batches["detect"]] == [5, 5, 2]
    before = [p.detach().clone() for p in stepper.graph.parameters()]
    stepper.step({name: listed[-1:] for name, listed in batches.items()})
    moved = [not torch.equal(old, new) for old, new in zip(before, stepper.graph.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize("config", ["yolov5n_multitask", "yolov5s_city_seg_bise", "yolov5s_city_seg_lab", "yolov5s_v5"])
def test_every_trainable_tensor_is_in_exactly_one_group(config: str) -> None:
    graph = load_graph(config)
    groups = parameter_groups(graph)
    assert tuple(groups) == GROUPS
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, p in graph.named_parameters() if p.requires_grad)
    assert len(names) == len(set(names))
    assert all(name.endswith("bias") for name in groups["bias"])
    assert all(parameter.dim() == 1 for parameter in groups["no_decay"].values())
    optimizer = build_optimizer(graph, HYP, 0.0005)
    inside = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(inside) == len(set(inside)) == len(names)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0005, 0.0, 0.0]


def test_average_stays_float32_when_the_model_does_not() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(torch.bfloat16)
    ema = ModelEma(model, decay=0.5, tau=1e-9)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    before = ema.module[0].weight.clone()
    ema.update()
    assert {t.dtype for t in ema.module.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.allclose(ema.module[0].weight, (before + 1) / 2)
    assert ema.module[1].num_batches_tracked == model[1].num_batches_tracked


def test_a_gradient_that_is_not_finite_changes_nothing(tiny_model: Path, tiny_data: Path) -> None:
    stepper, tasks = make_stepper(tiny_model, tiny_data, 4)
    batches = {task.name: list(task.loader.batches(0))[:1] for task in tasks}
    tasks[0].gain = float("nan")
    before = {n: t.clone() for n, t in stepper.graph.state_dict().items()}
    averaged = {n: t.clone() for n, t in stepper.ema.module.state_dict().items()}
    stepper.step(batches)
    assert stepper.skipped_steps == 1
    assert all(torch.equal(before[n], t) for n, t in stepper.graph.state_dict().items())
    assert all(torch.equal(averaged[n], t) for n, t in stepper.ema.module.state_dict().items())
    with pytest.raises(RunError, match="not finite"):
        for _ in range(10):
            stepper.step(batches)


def test_a_batch_without_objects_trains(tiny_model: Path, tiny_data: Path) -> None:
    for label in (tiny_data.parent / "labels/train").iterdir():
        label.write_text("")
    stepper, tasks = make_stepper(tiny_model, tiny_data, 4)
    parts = stepper.step({task.name: list(task.loader.batches(0))[:1] for task in tasks})
    box, obj, cls = parts["detect"].tolist()
    assert box == 0 and cls == 0 and obj > 0
