"""Optimizers: their state goes back to where the parameters are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models.graph import load_graph
from utils.optimizer import (
    OPTIMIZERS,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
)
from utils.recipe import DEFAULTS, load_recipe


def stepped(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, {**DEFAULTS, "optimizer": kind}, 0.01)
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_goes_round(kind: str) -> None:
    model, optimizer = stepped(kind)
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    fresh = build_optimizer(model, {**DEFAULTS, "optimizer": kind}, 0.01)
    load_optimizer_tensors(fresh, model, tensors)
    restored = optimizer_tensors(fresh, model)
    assert tensors.keys() == restored.keys()
    assert all(torch.equal(tensors[name], restored[name]) for name in tensors)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_all_of_the_state_follows_the_parameters_to_their_device(kind: str) -> None:
    model, optimizer = stepped(kind)
    tensors = optimizer_tensors(optimizer, model)
    elsewhere = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to("meta")
    optimizer = build_optimizer(elsewhere, {**DEFAULTS, "optimizer": "SGD"}, 0.01)
    load_optimizer_tensors(optimizer, elsewhere, tensors)
    assert {tensor.device.type for tensor in optimizer_tensors(optimizer, elsewhere).values()} == {"meta"}


def grouped(factors: dict[str, float]) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    return model, build_optimizer(model, {**DEFAULTS, "lr0": 0.5}, 0.01, factors)


def test_factors_make_groups_of_their_own() -> None:
    model, optimizer = grouped({"2.weight": 0.1, "2.bias": 0.1, "1.weight": 0.0})
    found = [(group["name"], group["factor"], group["lr"], len(group["params"])) for group in optimizer.param_groups]
    assert found == [
        ("decay", 1.0, 0.5, 1),
        ("no_decay", 1.0, 0.5, 0),
        ("bias", 1.0, 0.5, 2),
        ("decay", 0.1, 0.05, 1),
        ("no_decay", 0.0, 0.0, 1),
        ("bias", 0.1, 0.05, 1),
    ]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0, 0, 0.01, 0, 0]
    inside = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in inside} == {id(p) for p in model.parameters()} and len(inside) == 6
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    moved = {n: not torch.equal(p, b) for (n, p), b in zip(model.named_parameters(), before, strict=True)}
    assert not moved["1.weight"] and moved["2.weight"] and moved["0.weight"]


def test_state_goes_over_to_other_groups() -> None:
    model, plain = stepped("AdamW")
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(plain, model).items()}
    other = build_optimizer(model, {**DEFAULTS, "optimizer": "AdamW"}, 0.01, {"0.weight": 0.5})
    load_optimizer_tensors(other, model, tensors)
    assert all(torch.equal(tensors[n], t) for n, t in optimizer_tensors(other, model).items())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_restored_optimizer_makes_the_same_step(kind: str, layout: torch.memory_format) -> None:
    """Whatever layout weights have: a fused step over a state of another layout would mix up the values."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        model(x.contiguous(memory_format=layout)).square().mean().backward()
        optimizer.step()

    torch.manual_seed(0)
    hyp = {**DEFAULTS, "optimizer": kind}
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=layout)
    optimizer = build_optimizer(model, hyp, 0.01)
    step(model, optimizer, 0)
    resumed = copy.deepcopy(model)
    other = build_optimizer(resumed, hyp, 0.01)
    load_optimizer_tensors(other, resumed, optimizer_tensors(optimizer, model))
    for seed in (1, 2):
        step(model, optimizer, seed)
        step(resumed, other, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_a_weight_that_modules_share_is_given_once() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    model = nn.Sequential(first, nn.BatchNorm2d(3), second)
    groups = parameter_groups(model)
    assert list(groups["decay"]) == ["0.weight"] and list(groups["no_decay"]) == ["1.weight"]
    assert list(groups["bias"]) == ["0.bias", "1.bias", "2.bias"]
    optimizer = build_optimizer(model, {**DEFAULTS, "optimizer": "AdamW"}, 0.05)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


@pytest.mark.parametrize("name", ["yoloms_xs_se", "yolov6_t", "yolov8_n_ms"])
def test_norms_and_biases_alone_are_without_decay(name: str) -> None:
    graph = load_graph(name)
    groups = parameter_groups(graph)
    norms = {f"{prefix}.weight" for prefix, module in graph.named_modules() if isinstance(module, nn.BatchNorm2d)}
    weights = {
        f"{prefix}.weight"
        for prefix, module in graph.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    }
    assert groups["no_decay"].keys() == norms and groups["decay"].keys() == weights
    assert all(name.endswith("bias") for name in groups["bias"])
    assert sum(map(len, groups.values())) == len(list(graph.parameters()))


def test_squeeze_and_excitation_and_depthwise_kernels_of_yoloms_decay_and_shared_ones_are_there_once() -> None:
    graph = load_graph("yoloms_xs_se")
    optimizer = build_optimizer(graph, load_recipe("yoloms_xs"), 0.05)
    decaying = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    linear = [module for module in graph.modules() if isinstance(module, nn.Linear)]
    depthwise = [module for module in graph.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert len(linear) == 8 and len(depthwise) == 16
    assert all(id(module.weight) in decaying for module in (*linear, *depthwise))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == 4_537_452
