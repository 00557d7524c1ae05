"""Finding the row of a model where values first stop being finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from data.samples import Batch
from models.graph import Graph
from utils.training.tasks import TrainTask


def first_bad_row(graph: Graph, task: TrainTask, batch: Batch, dtype: torch.dtype | None) -> str | None:
    """Run a head on a batch again, forwards and backwards, and name the first row whose values are not finite.

    The run is left as it was: statistics do not move, neither does what the criterion learns nor a random number, and
    gradients are thrown away.

    Args:
        graph: the model in training mode.
        task: the head and its criterion.
        batch: on the model's device, the labels still where ``prepare`` takes them.
        dtype: reduced format of forward passes, None for float32.

    Returns:
        ``row 4 (C3)``, with what was not finite; None where everything was finite this time.
    """
    device = next(graph.parameters()).device
    rows = [step.row for step in graph.plan((task.name,))]
    for row in rows:
        if any(not _is_finite(weight) for weight in graph.model[row].parameters()):
            return f"a weight of {describe_row(graph, row)}"
    generators = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with still_statistics(graph), _kept(task.criterion), generators, _watched(graph, rows) as bad:
        targets = task.criterion.prepare(batch)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            # Straight to the rows: compiled ones would not call what watches them.
            raw = graph.forward(batch.images.to(device), heads=(task.name,), sizes=batch.sizes)[task.name]
        if bad:
            return f"the output of {describe_row(graph, bad[0])}"
        parts = task.criterion(raw, targets.to(device))
        for part, value in parts.items():
            if not _is_finite(value):
                return f"the loss part {part} of {describe_row(graph, rows[-1])}"
        weights = {row: [p for p in graph.model[row].parameters() if p.requires_grad] for row in rows}
        flat = [weight for listed in weights.values() for weight in listed]
        found = torch.autograd.grad(sum(parts.values()), flat, allow_unused=True)
        gradients = dict(zip(map(id, flat), found, strict=True))
    for row in reversed(rows):
        if any(not _is_finite(gradients[id(weight)]) for weight in weights[row]):
            return f"a gradient of {describe_row(graph, row)}"
    return None


def describe_row(graph: Graph, row: int) -> str:
    """Return a row's number, module and, where it has one, name."""
    spec = graph.spec.rows[row]
    return f"row {row} ({spec.module}{f', {spec.name}' if spec.name else ''})"


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    return all(_is_finite(entry) for entry in value) if isinstance(value, list | tuple) else True


@contextmanager
def _watched(graph: Graph, rows: list[int]) -> Iterator[list[int]]:
    """Collect the rows whose output is not finite, in the order in which they run."""
    bad: list[int] = []

    def watch(row: int) -> Any:
        return lambda _module, _inputs, output: None if _is_finite(output) else bad.append(row)

    hooks = [graph.model[row].register_forward_hook(watch(row)) for row in rows]
    try:
        yield bad
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _kept(criterion: nn.Module) -> Iterator[None]:
    """Take back what a criterion learns from a batch."""
    before = [(buffer, buffer.clone()) for buffer in criterion.buffers()]
    try:
        yield
    finally:
        for buffer, kept in before:
            buffer.copy_(kept)


@contextmanager
def still_statistics(graph: nn.Module) -> Iterator[None]:
    """Let norms use the statistics of their batch without keeping them."""
    norms = [module for module in graph.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
