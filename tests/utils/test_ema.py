"""The average of the weights: its formula is that of MMEngine's EMA, buffers are averaged, whole numbers follow."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from utils.ema import ModelEma
from utils.recipe import load_recipe


class Shared(nn.Module):
    """Two layers with one weight, a norm, and a buffer of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)
        self.second.weight = self.first.weight
        self.register_buffer("table", torch.arange(3))


def moved(model: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=draw))
            else:
                tensor.add_(1)


def momentum_of_mmengine(step: int, momentum: float, gamma: float) -> float:
    """Return the weight of the model's state in the update after ``step`` earlier ones; the first one copies."""
    return 1.0 if step == 0 else (1 - momentum) * math.exp(-(1 + step) / gamma) + momentum


@pytest.mark.parametrize("name", ["yoloms_xs", "yolov6", "yolov8"])
def test_the_average_is_that_of_the_published_recipes(name: str) -> None:
    hyp = load_recipe(name)
    momentum = 2e-4 if name == "yoloms_xs" else 1e-4
    torch.manual_seed(0)
    model = Shared()
    ema = ModelEma(model, hyp["ema_decay"], hyp["ema_tau"], hyp["ema_copy_first"])
    expected = {n: t.double() for n, t in model.state_dict().items() if t.is_floating_point()}
    for step in range(40):
        moved(model, step)
        ema.update()
        weight = momentum_of_mmengine(step, momentum, 2000)
        for key, old in expected.items():
            expected[key] = old + weight * (model.state_dict()[key] - old)
    found = ema.module.state_dict()
    for key, value in expected.items():
        assert torch.allclose(found[key].double(), value, atol=1e-6), key
    assert torch.equal(found["first.weight"], found["second.weight"]), "a shared weight is averaged once"


def test_the_first_update_copies_only_where_that_is_asked_for() -> None:
    torch.manual_seed(0)
    model = Shared()
    before = copy.deepcopy(model.state_dict())
    copying, averaging = ModelEma(model, copy_first=True), ModelEma(model)
    moved(model, 1)
    for ema in (copying, averaging):
        ema.update()
    after = model.state_dict()
    assert all(torch.equal(copying.module.state_dict()[name], after[name]) for name in after)
    weight = 0.9999 * math.exp(-1 / 2000) + 0.0001
    left = averaging.module.state_dict()["first.bias"]
    assert torch.allclose(left, before["first.bias"].lerp(after["first.bias"], weight), atol=1e-7)
    assert not torch.equal(left, after["first.bias"])


def test_a_step_that_is_left_out_does_not_use_up_the_copy() -> None:
    torch.manual_seed(0)
    model = Shared()
    ema = ModelEma(model, copy_first=True)
    before = copy.deepcopy(ema.module.state_dict())
    moved(model, 1)
    ema.update(torch.ones(()))
    assert all(torch.equal(before[name], value) for name, value in ema.module.state_dict().items())
    ema.update(torch.zeros(()))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in ema.module.state_dict().items())


def test_the_update_for_devices_copies_first_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Shared()
    plain, queued = ModelEma(model, 0.9, 5.0, True), ModelEma(model, 0.9, 5.0, True)
    monkeypatch.setattr(queued, "update", lambda skip=None: queued._update_on_device(torch.zeros(())))
    for step in range(4):
        moved(model, step)
        plain.update()
        queued.update()
        for name, value in plain.module.state_dict().items():
            assert torch.allclose(value.float(), queued.module.state_dict()[name].float(), atol=1e-6), (step, name)


def test_whole_numbers_are_taken_over_as_they_are() -> None:
    model = Shared()
    ema = ModelEma(model, copy_first=True)
    for step in range(3):
        moved(model, step)
        ema.update()
    assert ema.module.table.tolist() == [3, 4, 5] and int(ema.module.norm.num_batches_tracked) == 3


def test_an_average_without_a_past_is_the_model_to_the_byte_and_is_made_when_it_is_asked_for() -> None:
    torch.manual_seed(0)
    model = Shared()
    ema = ModelEma(model, decay=0.0)
    for step, skip in enumerate((None, torch.zeros(()), torch.ones(()))):
        moved(model, step)
        ema.update(skip)
        kept = {name: value.clone() for name, value in ema._module.state_dict().items()}
        found = ema.module.state_dict()
        assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
        assert not torch.equal(kept["norm.running_mean"], found["norm.running_mean"]), "nothing is copied before"
    assert ema.updates == 2 and not any(p.requires_grad for p in ema.module.parameters())
    # What is measured anew for the copy stays until the next update.
    ema.module.norm.running_mean.fill_(7.0)
    assert ema.module.norm.running_mean.tolist() == [7.0, 7.0]
    state = {name: torch.full_like(value, 3) for name, value in ema.module.state_dict().items()}
    moved(model, 9)
    ema.update()
    ema.load(state, 5)
    assert ema.updates == 5 and ema.module.norm.running_mean.tolist() == [3.0, 3.0]
