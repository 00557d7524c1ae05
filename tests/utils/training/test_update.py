"""The end of a step: the same numbers as the plain way, and nothing at all for gradients that are not finite."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from utils.ema import ModelEma
from utils.optimizer import OPTIMIZERS, build_optimizer
from utils.schedules import ema_decay
from utils.training.loss_scale import FIRST, LossScale
from utils.training.update import Update

CPU = torch.device("cpu")


class TwoHeads(nn.Module):
    """A shared convolution with a norm, and two branches that a step may or may not use."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
        self.left, self.right = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor, branches: str = "lr") -> Tensor:
        y = self.shared(x)
        return sum({"l": self.left, "r": self.right}[name](y).square().sum() for name in branches)


def make_model() -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads().to(memory_format=torch.channels_last).train()


def make_update(model: nn.Module, kind: str, clip_norm: float, scale: LossScale | None = None) -> Update:
    hyp = {"optimizer": kind, "lr0": 0.01, "momentum": 0.9}
    return Update(build_optimizer(model, hyp, 0.0005), ModelEma(model, 0.9, 5.0), clip_norm, scale)


def images(seed: int) -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def everything(model: nn.Module, update: Update) -> dict[str, Tensor]:
    found = {f"model/{name}": t for name, t in model.state_dict().items()}
    found |= {f"ema/{name}": t for name, t in update.ema.module.state_dict().items()}
    for number, state in enumerate(update.optimizer.state.values()):
        found |= {f"optimizer/{number}/{name}": t for name, t in state.items()}
    return {name: t.detach().clone() for name, t in found.items()}


@pytest.mark.parametrize("clip_norm", [0.0, 3.0, 1e6])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_good_steps_give_the_numbers_of_the_plain_way(kind: str, clip_norm: float) -> None:
    ours, plain = make_model(), make_model()
    update = make_update(ours, kind, clip_norm)
    optimizer = build_optimizer(plain, {"optimizer": kind, "lr0": 0.01, "momentum": 0.9}, 0.0005)
    average = {name: t.clone() for name, t in plain.state_dict().items()}
    for number in range(1, 7):
        update.scaled(ours(images(number))).backward()
        assert float(update.apply()) == 0
        update.optimizer.zero_grad()

        plain(images(number)).backward()
        in_order = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(in_order, clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, tensor in plain.state_dict().items():
                weight = 1 - ema_decay(number, 0.9, 5.0)
                average[name] = tensor.clone() if name.endswith("tracked") else average[name].lerp(tensor, weight)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
        assert torch.equal(update.ema.module.state_dict()[name], average[name]), name
    assert update.ema.updates == 6


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("good_before", [0, 2])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_changes_nothing(kind: str, good_before: int, poison: float) -> None:
    model, spared = make_model(), make_model()
    updates = [make_update(model, kind, 3.0), make_update(spared, kind, 3.0)]
    for number in range(good_before):
        for each, update in zip((model, spared), updates, strict=True):
            each(images(number)).backward()
            update.apply()
            update.optimizer.zero_grad()
    model(images(50)).backward()
    next(model.parameters()).grad[0, 0, 0, 0] = poison
    model.load_state_dict(spared.state_dict())  # the pass itself moved BatchNorm's statistics
    before = everything(model, updates[0])
    assert float(updates[0].apply()) == 1
    after = everything(model, updates[0])
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(not tensor.any() for name, tensor in after.items() if name not in before), "momentum out of nowhere"
    assert updates[0].ema.updates == good_before
    assert float(updates[0].bad) == 1

    # And what comes after is what would have come without it.
    updates[0].optimizer.zero_grad()
    for each, update in zip((model, spared), updates, strict=True):
        each(images(7)).backward()
        update.apply()
    one, two = everything(model, updates[0]), everything(spared, updates[1])
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert float(updates[0].bad) == 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_branches_may_have_their_first_gradient_later(kind: str) -> None:
    model = make_model()
    update = make_update(model, kind, 0.0)
    untouched = model.right.weight.detach().clone()
    for number, branches in enumerate(("l", "lr", "r")):
        model(images(number), branches).backward()
        update.apply()
        update.optimizer.zero_grad(set_to_none=True)
        assert torch.equal(model.right.weight, untouched) == (number == 0)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in everything(model, update).values())


def test_statistics_that_are_not_finite_do_not_reach_the_average() -> None:
    model = make_model()
    update = make_update(model, "SGD", 0.0)
    before = {name: t.clone() for name, t in update.ema.module.state_dict().items()}
    poisoned = images(0)
    poisoned[0, 0, 0, 0] = float("nan")
    model(poisoned).backward()
    assert bool(model.shared[1].running_mean.isnan().any())
    update.apply()
    assert all(torch.equal(before[name], t) for name, t in update.ema.module.state_dict().items())


def test_the_average_without_a_look_at_the_flag_is_the_same_to_rounding() -> None:
    model = make_model()
    read, unread = ModelEma(model, 0.99, 20.0), ModelEma(model, 0.99, 20.0)
    flags = [0, 1, 0, 0, 1, 0]
    for number, flag in enumerate(flags):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(number + 1)
            model.shared[1].num_batches_tracked += 1
            kept = model.shared[1].running_var.clone()
            model.shared[1].running_var.fill_(float("nan") if flag else number)
            read.update(torch.tensor(float(flag)))
            unread._update_on_device(torch.tensor(float(flag)))
            model.shared[1].running_var.copy_(kept)
    assert read.updates == unread.updates == flags.count(0)
    for name, tensor in read.module.state_dict().items():
        torch.testing.assert_close(unread.module.state_dict()[name], tensor, rtol=2e-6, atol=1e-6)


def test_the_loss_scale_survives_a_checkpoint() -> None:
    model = make_model()
    update = make_update(model, "SGD", 0.0, LossScale(CPU))
    model(images(0)).backward()
    model.left.bias.grad.fill_(float("inf"))
    update.apply()
    stored = {name: t.clone() for name, t in update.state().items()}
    other = make_update(make_model(), "SGD", 0.0, LossScale(CPU))
    other.load(stored)
    assert all(torch.equal(t, stored[name]) for name, t in other.state().items())
    assert float(other.loss_scale.scale) == FIRST / 2
    other.load({})
    assert float(other.loss_scale.scale) == FIRST / 2


@pytest.mark.parametrize("clip_norm", [0.0, 3.0])
def test_scaled_losses_give_the_same_steps(clip_norm: float) -> None:
    plain, scaled = make_model(), make_model()
    updates = [make_update(plain, "SGD", clip_norm), make_update(scaled, "SGD", clip_norm, LossScale(CPU))]
    for number in range(3):
        for model, update in zip((plain, scaled), updates, strict=True):
            loss = model(images(number))
            assert torch.equal(update.scaled(loss), loss) == (update.loss_scale is None)
            update.scaled(loss).backward()
            update.apply()
            update.optimizer.zero_grad()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(scaled.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)


def test_the_search_for_a_loss_scale_is_not_counted_as_bad() -> None:
    model = make_model()
    update = make_update(model, "SGD", 0.0, LossScale(CPU, growth_interval=2))
    seen = []
    for overflow in (True, True, False, False, True):
        model(images(0)).backward()
        if overflow:
            model.left.bias.grad.fill_(float("inf"))
        update.apply()
        update.optimizer.zero_grad()
        seen.append((float(update.left_out), float(update.bad), float(update.loss_scale.scale) / FIRST))
    assert seen == [(1, 0, 0.5), (1, 0, 0.25), (0, 0, 0.25), (0, 0, 0.5), (1, 0, 0.25)]
    update.loss_scale.scale.fill_(1.0)
    model(images(0)).backward()
    model.left.bias.grad.fill_(float("nan"))
    update.apply()
    assert float(update.loss_scale.scale) == 1.0, "it fell below the least"
    assert float(update.bad) == 1


def test_an_optimizer_that_cannot_leave_out_a_step_is_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="SGD was built without fused=True"):
        Update(torch.optim.SGD(model.parameters(), lr=0.1), ModelEma(copy.deepcopy(model)), 0.0)
