"""Optimizers: their state goes back to where the parameters are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models.graph import Graph, load_graph
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


YOLOS = """
nc: 3
backbone:
  - [-1, 1, ViTEmbed, [16, 8, 5, [32, 40]]]
  - [-1, 2, ViTBlockPE, [16, 2, 2.0, [32, 40]]]
  - [-1, 1, ViTBlock, [16, 2, 2.0]]
  - [-1, 1, TokenNorm, [16, 1.0e-6]]
head:
  - [3, 1, TokenMap, []]
  - [-1, 1, Conv, [8, 3, 1]]
  - [[-1], 1, SegMaskBase, [4, 1, 8, False]]
  - [3, 1, YOLOSDetect, [nc]]
"""
BLOCK_WEIGHTS = ("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight")
BLOCK_BIASES = ("qkv.bias", "proj.bias", "fc1.bias", "fc2.bias", "norm1.bias", "norm2.bias")
BLOCKS = ("model.1.0", "model.1.1", "model.2")
HEAD_OF_YOLOS = {
    f"model.7.{mlp}.{i}.{leaf}" for mlp in ("class_mlp", "box_mlp") for i in range(3) for leaf in ("weight", "bias")
}
DECAYING_BACKBONE = {
    *(f"{block}.{leaf}" for block in BLOCKS for leaf in BLOCK_WEIGHTS),
    *("model.0.proj.weight", "model.1.0.pos_embed", "model.1.1.pos_embed", "model.5.conv.weight"),
}
"""Of the published recipe: matrices and kernels, and the tables behind blocks, which its list of exceptions forgets."""
SPARED = {
    *("model.0.pos_embed", "model.0.cls_token", "model.0.det_tokens"),
    *(f"{block}.{norm}.weight" for block in BLOCKS for norm in ("norm1", "norm2")),
    *("model.3.norm.weight", "model.5.bn.weight"),
}
SPARED_BIASES = {
    *(f"{block}.{leaf}" for block in BLOCKS for leaf in BLOCK_BIASES),
    *("model.0.proj.bias", "model.3.norm.bias", "model.5.bn.bias"),
}


@pytest.fixture(scope="module")
def yolos(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("yolos") / "yolos.yaml"
    path.write_text(YOLOS)
    return load_graph(path)


@pytest.mark.parametrize("name", ["yolos_ti", "yolos"])
def test_groups_of_yolos_are_the_published_ones(name: str, yolos: Graph) -> None:
    hyp = load_recipe(name)
    found = {group: set(parameters) for group, parameters in parameter_groups(yolos, hyp["decay"]).items()}
    other_head = {parameter for parameter, _ in yolos.named_parameters() if parameter.startswith("model.6.")}
    assert found["decay"] == HEAD_OF_YOLOS | other_head | DECAYING_BACKBONE
    assert found["no_decay"] == SPARED and found["bias"] == SPARED_BIASES
    optimizer = build_optimizer(yolos, hyp, hyp["weight_decay"])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0, 0]
    assert {group["lr"] for group in optimizer.param_groups} == {hyp["lr0"]}


def test_other_words_of_decay_spare_less_or_more(yolos: Graph) -> None:
    everything = {name for name, _ in yolos.named_parameters()}
    assert parameter_groups(yolos, "all")["decay"].keys() == everything
    weights = parameter_groups(yolos)
    vectors = {name for name in HEAD_OF_YOLOS if name.endswith("bias")}
    assert weights["decay"].keys() >= DECAYING_BACKBONE | (HEAD_OF_YOLOS - vectors)
    assert weights["bias"].keys() >= SPARED_BIASES | vectors and weights["no_decay"].keys() >= SPARED
    assert sum(map(len, weights.values())) == len(everything)
