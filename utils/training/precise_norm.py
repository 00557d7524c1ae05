"""BatchNorm statistics estimated anew for weights that stand still (precise BatchNorm).

The running statistics that training leaves behind lag behind the weights, and those of averaged weights are averages of
statistics of other weights. A few batches through the model as it is give the ones that belong to it.

Source: Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from data.samples import Batch
from models.graph import Graph


@dataclass
class Moments:
    """Sums over all values that a norm has seen, (channels,) float64.

    Attributes:
        count: number of values per channel.
        first: sum of values.
        second: sum of squared values.
    """

    count: float
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, norm: _BatchNorm) -> Moments:
        """Return the sums of no values yet."""
        zeros = torch.zeros_like(norm.running_mean, dtype=torch.float64)
        return cls(0.0, zeros, zeros.clone())

    def add(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Add a batch, given its mean, its unbiased variance and how many values per channel it has."""
        mean = mean.double()
        self.count += count
        self.first += count * mean
        self.second += (count - 1) * variance.double() + count * mean.square()

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the unbiased variance of all values."""
        mean = self.first / self.count
        return mean, (self.second - self.count * mean.square()).clamp(min=0) / max(self.count - 1, 1)


@torch.no_grad()
def estimate_statistics(
    graph: Graph,
    batches: Mapping[str, Iterable[Batch]],
    device: torch.device,
    dtype: torch.dtype | None,
    sum_over_ranks: Callable[[Tensor], Tensor] | None = None,
) -> int:
    """Replace the running mean and variance of every BatchNorm by those of all values in the given batches.

    Every head runs on its own batches, norms in training mode and everything else as in use. A norm that several heads
    share counts the values of all of them; with ``bn: per-task`` each head's norm counts its own. Norms that nothing
    runs through keep their statistics, and so does a graph whose norms are frozen. Modes, momenta and counters are
    afterwards what they were; after an error the statistics, too.

    Args:
        graph: on ``device``; averaged weights as a rule.
        batches: training batches by head; empty ones, and further heads, may be missing.
        device: where the graph is.
        dtype: reduced format of forward passes, None for float32.
        sum_over_ranks: in a run of several processes, returns the sum of a tensor over them; each then gives its own
            share of the batches, and all get the same statistics.

    Returns:
        How many norms have new statistics.
    """
    norms = [m for m in graph.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if graph.norms_frozen or not norms:
        return 0
    moments = [Moments.of(norm) for norm in norms]
    with _measuring(graph, norms, moments):
        for name, listed in batches.items():
            for batch in listed:
                if len(batch) == 0:
                    continue
                images = batch.images.to(device, non_blocking=True)
                with torch.autocast(device.type, dtype, enabled=dtype is not None):
                    graph(images, heads=(name,), sizes=batch.sizes)
    if sum_over_ranks is not None:
        _add_other_ranks(moments, sum_over_ranks)
    # One value has no variance: a norm that saw no more keeps what it has.
    seen = [(norm, found) for norm, found in zip(norms, moments, strict=True) if found.count > 1]
    for norm, found in seen:
        mean, variance = found.mean_and_variance()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return len(seen)


@contextmanager
def _measuring(graph: Graph, norms: list[_BatchNorm], moments: list[Moments]) -> Iterator[None]:
    """Let every call of a norm add its batch's statistics to the moments; put everything back at the end.

    With a momentum of 1 a norm's running statistics are those of its last batch, so that no value is gone through
    twice.
    """
    modes = {module: module.training for module in graph.modules()}
    kept = [
        (norm, norm.momentum, [(buffer, buffer.clone()) for buffer in norm.buffers(recurse=False)]) for norm in norms
    ]
    graph.eval()
    handles = []
    try:
        for norm, found in zip(norms, moments, strict=True):
            norm.momentum = 1.0
            norm.train()
            handles.append(norm.register_forward_hook(_adder(found)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm, momentum, buffers in kept:
            norm.momentum = momentum
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, mode in modes.items():
            module.training = mode


def _adder(moments: Moments) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Return a hook that adds what a norm has just seen."""

    def add(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        (x,) = inputs
        count = x.numel() // x.shape[1]
        # A single value does not move the running statistics; it is its own mean, and its variance does not count.
        moments.add(norm.running_mean if count > 1 else x.flatten(), norm.running_var, count)

    return add


def _add_other_ranks(moments: list[Moments], sum_over_ranks: Callable[[Tensor], Tensor]) -> None:
    """Add what the other processes have seen, in one exchange."""
    counts = moments[0].first.new_tensor([found.count for found in moments])
    total = sum_over_ranks(torch.cat([counts, *(part for found in moments for part in (found.first, found.second))]))
    numbers = total[: len(moments)].tolist()
    position = len(moments)
    for found, count in zip(moments, numbers, strict=True):
        size = len(found.first)
        found.count = count
        found.first = total[position : position + size]
        found.second = total[position + size : position + 2 * size]
        position += 2 * size
