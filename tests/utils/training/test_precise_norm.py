"""Statistics estimated anew: held against values collected by hand, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.samples import Batch
from models.graph import Graph, load_graph
from utils.training.precise_norm import Moments, estimate_statistics

CPU = torch.device("cpu")


def batch(count: int, size: tuple[int, int], seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    brightness = 40 + 30 * seed % 200
    images = (torch.randint(0, 56, (count, 3, *size), generator=generator) + brightness).to(torch.uint8)
    return Batch(
        images, torch.zeros(count, 0, 4), torch.zeros(count, 0, dtype=torch.long), torch.zeros(count, 0).bool()
    )


BATCHES = {
    "detect": [batch(3, (64, 64), 0), batch(1, (64, 64), 1), batch(0, (64, 64), 9)],
    "segment": [batch(2, (64, 96), 2), batch(4, (32, 64), 3)],
}


def make(model: Path, norms: str) -> Graph:
    torch.manual_seed(0)
    graph = load_graph(model)
    return Graph(graph.spec.with_values(bn=norms))


def collect(graph: Graph) -> dict[str, list[Tensor]]:
    """Return every value that each norm sees when norms follow the batch, (channels, values) per call."""
    seen: dict[str, list[Tensor]] = {}
    handles = []
    for name, norm in graph.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train()
            handles.append(
                norm.register_forward_pre_hook(
                    lambda _, inputs, name=name: seen.setdefault(name, []).append(
                        inputs[0].detach().double().transpose(0, 1).flatten(1)
                    )
                )
            )
    with torch.no_grad():
        for head, listed in BATCHES.items():
            for each in listed[: 2 if head == "detect" else None]:
                graph(each.images, heads=[head])
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize(("norms", "pooled"), [("shared", False), ("per-task", False), ("shared", True)])
def test_statistics_are_those_of_all_values_together(norms: str, pooled: bool, tiny_model: Path) -> None:
    if pooled:
        # Of its batch of one image, the last norm sees a single value.
        text = tiny_model.read_text().replace("head:", "  - [-1, 1, Attention, []]\nhead:")
        tiny_model.write_text(text.replace("[[2, 3], 1, Detect", "[[2, 4], 1, Detect"))
    expected = collect(make(tiny_model, norms).eval())
    graph = make(tiny_model, norms)
    assert estimate_statistics(graph, BATCHES, CPU, None) == len(expected) > 3
    for name, norm in graph.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            values = torch.cat(expected[name], 1).numpy()
            np.testing.assert_allclose(norm.running_mean, values.mean(1), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(norm.running_var, values.var(1, ddof=1), rtol=1e-4, atol=1e-6)
    calls = {name: len(values) for name, values in expected.items()}
    assert calls["model.3.bn"] == 2
    assert (calls["model.0.bn"] == 4) if norms == "shared" else (calls["model.0.bn.for_detect"] == 2)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(training: bool, tiny_model: Path) -> None:
    graph = make(tiny_model, "per-task").train(training)
    graph.model[1].eval()
    modes = [module.training for module in graph.modules()]
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    random_state = torch.get_rng_state()
    estimate_statistics(graph, BATCHES, CPU, None)
    assert [module.training for module in graph.modules()] == modes
    changed = {n for n, value in graph.state_dict().items() if not torch.equal(value, before[n])}
    assert changed and all(name.endswith(("running_mean", "running_var")) for name in changed)
    assert {m.momentum for m in graph.modules() if isinstance(m, nn.BatchNorm2d)} == {0.03}
    assert not any(m._forward_hooks for m in graph.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in graph.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_norms_that_nothing_runs_through_keep_theirs(tiny_model: Path) -> None:
    graph = make(tiny_model, "per-task")
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    estimate_statistics(graph, {"detect": BATCHES["detect"]}, CPU, None)
    for name, value in graph.state_dict().items():
        if "for_segment" in name or name.startswith("model.4."):
            assert torch.equal(value, before[name])
    assert not torch.equal(graph.model[0].bn.for_detect.running_mean, before["model.0.bn.for_detect.running_mean"])


def test_frozen_norms_stay(tiny_model: Path) -> None:
    graph = make(tiny_model, "shared")
    graph.freeze_norms()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    assert estimate_statistics(graph, BATCHES, CPU, None) == 0
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_after_an_error_everything_is_as_before(tiny_model: Path) -> None:
    graph = make(tiny_model, "shared").train()
    before = {name: value.clone() for name, value in graph.state_dict().items()}

    def broken():
        yield BATCHES["detect"][0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        estimate_statistics(graph, {"detect": broken()}, CPU, None)
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert all(module.training for module in graph.modules())
    assert graph.model[0].bn.momentum == 0.03


def test_several_processes_get_what_one_would(tiny_model: Path) -> None:
    """Each of two processes has one batch of each head; their sums meet as an all-reduce adds them."""
    whole = make(tiny_model, "shared")
    estimate_statistics(whole, {name: listed[:2] for name, listed in BATCHES.items()}, CPU, None)
    sent: list[Tensor] = []
    for rank in range(2):
        shares = {name: listed[rank : rank + 1] for name, listed in BATCHES.items()}

        def remember(own: Tensor) -> Tensor:
            sent.append(own.clone())
            return own

        estimate_statistics(make(tiny_model, "shared"), shares, CPU, None, remember)
    part = make(tiny_model, "shared")
    own = {name: listed[:1] for name, listed in BATCHES.items()}
    estimate_statistics(part, own, CPU, None, lambda _: sent[0] + sent[1])
    for name, value in whole.state_dict().items():
        if "running" in name:
            assert torch.allclose(value, part.state_dict()[name], rtol=1e-5, atol=1e-6), name


def test_moments_of_far_away_values() -> None:
    """A mean that is large beside the spread must not eat up the variance."""
    norm = nn.BatchNorm2d(2)
    moments = Moments.of(norm)
    values = torch.randn(4, 2, 50, dtype=torch.float64) * 0.01 + torch.tensor([1000.0, -5.0]).view(1, 2, 1)
    for part in values:
        moments.add(part.mean(1), part.var(1), 50)
    mean, variance = moments.mean_and_variance()
    joined = values.transpose(0, 1).flatten(1)
    assert torch.allclose(mean, joined.mean(1)) and torch.allclose(variance, joined.var(1), rtol=1e-4)


def test_reduced_precision_and_frozen_rows_do(tiny_model: Path) -> None:
    graph = make(tiny_model, "shared")
    graph.model[0].requires_grad_(False)
    estimate_statistics(graph, BATCHES, CPU, torch.bfloat16)
    exact = make(tiny_model, "shared")
    estimate_statistics(exact, BATCHES, CPU, None)
    assert torch.allclose(graph.model[0].bn.running_mean, exact.model[0].bn.running_mean, rtol=0.05, atol=0.02)
