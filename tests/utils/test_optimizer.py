"""Optimizers: their state goes back to where the parameters are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from utils.optimizer import OPTIMIZERS, build_optimizer, load_optimizer_tensors, optimizer_tensors
from utils.recipe import DEFAULTS


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
