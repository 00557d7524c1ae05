"""Synchronised BatchNorm: processes with a part of the images each are one process that has them all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.graph import Graph
from models.layers.sync_norm import SyncBatchNorm2d, synchronise_norms
from models.spec import load_spec
from tests.conftest import TINY_MODEL
from tests.processes import results_of
from utils.distributed import World
from utils.ema import ModelEma

STEPS = 2


class Small(nn.Module):
    """Two convolutions with BatchNorm, the second norm without scale and shift and with a plain mean of its batches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3, momentum=0.03), nn.SiLU()
        )
        self.second = nn.Sequential(nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4, momentum=None, affine=False))
        nn.init.uniform_(self.first[1].weight, 0.5, 1.5)
        nn.init.uniform_(self.first[1].bias, -0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def learn(world: World, shares: list[int], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Return outputs, gradients and the state after two steps on a batch of which every process has its share."""
    model = Small()
    synchronise_norms(model, world)
    generator = torch.Generator().manual_seed(1)
    # Far from zero, where sums of squares would lose the variance.
    images = 10 + torch.randn(STEPS, sum(shares), 3, 8, 8, generator=generator)
    aims = torch.randn(STEPS, sum(shares), 4, 6, 6, generator=generator)
    start, end = sum(shares[: world.rank]), sum(shares[: world.rank + 1])
    parameters = list(model.parameters())
    outputs, gradients = [], []
    for step in range(STEPS):
        x = images[step, start:end].to(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            y = model(x)
        ((y.float() - aims[step, start:end]) ** 2).sum().backward()
        world.reduce_gradients(parameters, [True] * len(parameters))
        outputs.append(y.detach().float())
        gradients += [p.grad.clone() for p in parameters] + [x.grad]
        for parameter in parameters:
            parameter.grad = None
    model.eval()
    return {"outputs": outputs, "gradients": gradients, "state": model.state_dict(), "use": model(images[0]).detach()}


@pytest.mark.parametrize("shares", [[4, 4], [7, 1], [8, 0]], ids=str)
def test_processes_together_are_one_process_with_all_images(shares: list[int]) -> None:
    whole = learn(World(), [sum(shares)])
    found = results_of(2, learn, shares)
    for step in range(STEPS):
        joined = torch.cat([entry["outputs"][step] for entry in found])
        torch.testing.assert_close(joined, whole["outputs"][step], rtol=1e-4, atol=1e-4)
    per_step = len(whole["gradients"]) // STEPS
    for place, expected in enumerate(whole["gradients"]):
        own = [entry["gradients"][place] for entry in found]
        if place % per_step == per_step - 1:
            own = [torch.cat(own)]
        for value in own:
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    for entry in found:
        assert entry["state"].keys() == whole["state"].keys()
        for name, value in entry["state"].items():
            torch.testing.assert_close(value, whole["state"][name], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entry["use"], whole["use"], rtol=1e-3, atol=1e-3)


def test_it_takes_reduced_formats_as_batchnorm_does() -> None:
    whole = learn(World(), [8], torch.bfloat16)
    found = results_of(2, learn, [4, 4], torch.bfloat16)
    joined = torch.cat([entry["outputs"][0] for entry in found])
    assert joined.dtype == whole["outputs"][0].dtype
    torch.testing.assert_close(joined, whole["outputs"][0], rtol=0.05, atol=0.05)


def test_parameters_stay_the_same_objects_and_copies_made_before_stay_plain() -> None:
    model = Small()
    before, average = dict(model.named_parameters()), ModelEma(model)
    buffers = dict(model.named_buffers())
    world = World(rank=0, size=2)
    assert synchronise_norms(model, world) == 2 and world.synchronises_norms
    assert isinstance(model.first[1], SyncBatchNorm2d)
    assert (model.first[1].eps, model.first[1].momentum, model.second[1].momentum) == (1e-3, 0.03, None)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert type(average.module.first[1]) is nn.BatchNorm2d
    Small().load_state_dict(model.state_dict())


def test_one_process_keeps_plain_norms() -> None:
    model, world = Small(), World()
    assert synchronise_norms(model, world) == 0 and not world.synchronises_norms
    assert type(model.first[1]) is nn.BatchNorm2d


def one_value(world: World) -> tuple[list[float], bool]:
    norms = nn.Sequential(nn.BatchNorm2d(2))
    norms[0].running_mean += 1
    norms[0].running_var += 3
    synchronise_norms(norms, world)
    before = norms[0].running_mean.clone()
    x = torch.full((1 - world.rank, 2, 1, 1), 5.0, requires_grad=True)
    y = norms(x)
    y.sum().backward()
    return y.flatten().tolist(), torch.equal(before, norms[0].running_mean)


def test_a_single_value_is_normalised_with_running_statistics() -> None:
    (own, kept), (none, kept_too) = results_of(2, one_value)
    assert own == pytest.approx([2.0, 2.0], abs=1e-4) and none == [] and kept and kept_too


def gradients_without_images(world: World, path: str) -> list[bool]:
    """Run a whole model forwards and backwards in two processes, of which one has no images."""
    graph = Graph(load_spec(path))
    synchronise_norms(graph, world)
    images = torch.randint(0, 255, (2 - 2 * world.rank, 3, 64, 96), dtype=torch.uint8)
    for name in graph.heads:
        raw = graph(images, heads=(name,))[name]
        sum(level.float().sum() for level in (raw if isinstance(raw, list | tuple) else [raw])).backward()
    graph.eval()
    return [bool(torch.isfinite(value).all()) for value in graph.state_dict().values()]


def test_a_model_runs_on_no_images_where_another_process_has_some(tmp_path: Any) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_MODEL)
    for name in (str(path), "yolov5n_multitask.yaml"):
        for found in results_of(2, gradients_without_images, name):
            assert all(found)


def test_a_plain_norm_is_not_spoilt_by_no_images() -> None:
    graph = Small()
    before = copy.deepcopy(graph.state_dict())
    graph(torch.zeros(0, 3, 8, 8)).sum().backward()
    for name, value in graph.state_dict().items():
        if "num_batches" not in name and not name.startswith("second.1"):
            torch.testing.assert_close(value, before[name], rtol=0.05, atol=0.05)
