"""One optimizer step: how a nominal batch is cut does not matter, and nothing is left untrained or spoilt."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data.config import load_data_config
from models.graph import Graph, load_graph
from utils.distributed import World
from utils.ema import ModelEma
from utils.optimizer import GROUPS, build_optimizer, parameter_groups
from utils.recipe import DEFAULTS
from utils.training.balance import build_balance
from utils.training.memory_retry import MemoryRetry
from utils.training.options import default_options
from utils.training.step import Stepper
from utils.training.tasks import TrainTask, build_tasks, open_datasets, plan_turns
from utils.training.update import Update

HYP = {**DEFAULTS, "mosaic": 0.0, "gains": {"detect": 0.6, "segment": 0.35}, "clip_norm": 0.0}
CPU = torch.device("cpu")


def without_batchnorm(graph: Graph) -> Graph:
    """Replace every BatchNorm by nothing, and every Dropout."""
    for module in list(graph.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.Dropout):
                setattr(module, name, nn.Identity())
    return graph


def make_stepper(model: Path, data: Path, batch_size: int, hyp: dict | None = None) -> tuple[Stepper, list[TrainTask]]:
    torch.manual_seed(0)
    hyp = HYP if hyp is None else {**HYP, **hyp}
    graph = without_batchnorm(load_graph(model))
    options = options_of(batch_size)
    datasets = open_datasets(graph, load_data_config(data), "train")
    tasks = build_tasks(graph, datasets, hyp, options, World(), plan_turns(datasets, hyp, batch_size))
    optimizer = build_optimizer(graph, hyp, 0.0005)
    update = Update(optimizer, ModelEma(graph), hyp["clip_norm"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    balance = build_balance(graph, hyp, parameters, 0)
    return Stepper(graph.train(), tasks, update, balance, World(), CPU, None, MemoryRetry()), tasks


def options_of(batch_size: int, **given: Any) -> argparse.Namespace:
    """Return the options of a small run in one process."""
    options = default_options()
    vars(options).update(img_size=[96], batch_size=batch_size, workers=0, **given)
    return options


@pytest.mark.parametrize("hyp", [{}, {"balance": "pcgrad"}], ids=["together", "apart"])
def test_four_micro_batches_equal_one_batch(hyp: dict, tiny_model: Path, tmp_path: Path) -> None:
    from tests.conftest import write_tiny_set

    data = write_tiny_set(tmp_path / "sixteen", images=16)
    results = []
    for batch_size, pieces in ((16, 1), (4, 1), (16, 4), (8, 2)):
        stepper, tasks = make_stepper(tiny_model, data, batch_size, hyp)
        stepper.retry.pieces = pieces
        batches = {task.name: list(task.loader.batches(0)) for task in tasks}
        assert [len(listed) for listed in batches.values()] == [16 // batch_size] * 2
        record, _ = stepper.step(batches)
        results.append((record.parts, {n: p.detach().clone() for n, p in stepper.graph.named_parameters()}))
    whole, whole_weights = results[0]
    for cut, cut_weights in results[1:]:
        for name in whole:
            assert torch.allclose(whole[name], cut[name], rtol=1e-5, atol=1e-7)
        for name in whole_weights:
            assert torch.allclose(whole_weights[name], cut_weights[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize(("method", "momentum"), [("fixed", 0.0), ("gradnorm", 0.9)])
def test_mean_losses_are_summed_ones_by_the_nominal_batch(
    method: str, momentum: float, tiny_model: Path, tiny_data: Path
) -> None:
    """So a learning rate per image that is multiplied by the images of a step is the same thing."""
    moved, learned = [], []
    mean = {"nominal_batch": 32, "loss_reduction": "mean"}
    # With a mean over 8 images, a step of 32 has four of them.
    for hyp in ({"lr0": 0.01 / 32}, {"lr0": 0.01, **mean}, {"lr0": 0.01 / 4, **mean, "loss_images": 8}):
        stepper, tasks = make_stepper(
            tiny_model, tiny_data, 4, {**hyp, "momentum": momentum, "weight_decay": 0.0, "balance": method}
        )
        for group in stepper.update.optimizer.param_groups:
            group["weight_decay"] = 0.0
        before = {n: p.detach().clone() for n, p in stepper.graph.named_parameters()}
        stepper.step({task.name: list(task.loader.batches(0)) for task in tasks})
        moved.append({n: p.detach() - before[n] for n, p in stepper.graph.named_parameters()})
        learned.append(stepper.balance.weights())
    assert any(change.abs().max() > 0 for change in moved[0].values())
    for others, weights in zip(moved[1:], learned[1:], strict=True):
        for name, change in moved[0].items():
            assert torch.allclose(change, others[name], rtol=1e-3, atol=1e-9), name
        assert torch.allclose(learned[0], weights, rtol=1e-4)


def test_a_head_may_be_absent_from_a_step(tiny_model: Path, tiny_data: Path) -> None:
    stepper, tasks = make_stepper(tiny_model, tiny_data, 4, {"momentum": 0.5})
    batches = {task.name: list(task.loader.batches(0))[:1] for task in tasks}
    before = {n: p.detach().clone() for n, p in stepper.graph.named_parameters()}
    record, _ = stepper.step(batches | {"detect": []})
    assert set(record.parts) == {"segment"}
    moved = {n for n, p in stepper.graph.named_parameters() if not torch.equal(before[n], p)}
    assert moved and not any(name.startswith("model.5") for name in moved)


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


@pytest.mark.parametrize("where", ["gain", "image"])
def test_a_step_that_is_not_finite_changes_nothing(
    where: str, tiny_model: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(sys.modules[__name__], "without_batchnorm", lambda graph: graph)
    stepper, tasks = make_stepper(tiny_model, tiny_data, 4)
    batches = {task.name: list(task.loader.batches(0))[:1] for task in tasks}
    good, _ = stepper.step(batches)
    assert not good.bad
    if where == "gain":
        tasks[0].gain = float("nan")
    else:
        # Statistics of BatchNorm take the value in, too.
        images = batches["segment"][0].images.float() / 255
        images[0, 0, 0, 0] = float("inf")
        batches["segment"] = [replace(batches["segment"][0], images=images)]
    before = {n: t.clone() for n, t in stepper.graph.state_dict().items()}
    averaged = {n: t.clone() for n, t in stepper.update.ema.module.state_dict().items()}
    record, _ = stepper.step(batches)
    assert record.bad and stepper.update.ema.updates == 1
    for name, tensor in stepper.graph.state_dict().items():
        assert torch.equal(before[name], tensor) or name.endswith("num_batches_tracked"), name
    assert all(torch.equal(averaged[n], t) for n, t in stepper.update.ema.module.state_dict().items())


def test_too_little_memory_cuts_batches_and_changes_no_weight(tiny_model: Path, tiny_data: Path) -> None:
    wanted = None
    for fails in (0, 1, 2):
        stepper, tasks = make_stepper(tiny_model, tiny_data, 4)
        batches = {task.name: list(task.loader.batches(0))[:1] for task in tasks}
        largest = []

        def too_large(_: object, inputs: tuple, fails: int = fails, largest: list = largest) -> None:
            largest.append(len(inputs[0]))
            if len(inputs[0]) > 4 // 2**fails:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

        stepper.graph.model[2].register_forward_pre_hook(too_large)
        stepper.step(batches)
        assert stepper.retry.pieces == 2**fails and largest[-1] == 4 // 2**fails
        found = {n: p.detach().clone() for n, p in stepper.graph.named_parameters()}
        wanted = wanted or found
        assert all(torch.allclose(wanted[n], found[n], rtol=1e-5, atol=1e-6) for n in found)


def test_flags_come_back(tiny_model: Path, tiny_data: Path) -> None:
    stepper, tasks = make_stepper(tiny_model, tiny_data, 4)
    batches = {task.name: list(task.loader.batches(0))[:1] for task in tasks}
    assert stepper.step(batches, (True, False))[1] == [True, False]
    assert stepper.step(batches, (False, True))[1] == [False, True]


def test_a_batch_without_objects_trains(tiny_model: Path, tiny_data: Path) -> None:
    for label in (tiny_data.parent / "labels/train").iterdir():
        label.write_text("")
    stepper, tasks = make_stepper(tiny_model, tiny_data, 4)
    record, _ = stepper.step({task.name: list(task.loader.batches(0))[:1] for task in tasks})
    box, obj, cls = record.parts["detect"].tolist()
    assert box == 0 and cls == 0 and obj > 0
