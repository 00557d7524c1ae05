"""BatchNorm over the images of all processes of a run (``--sync-bn``).

With few images per process, each process's own statistics are noisy. Here all processes normalise with the statistics
of the whole batch, as one process would that had it all. On GPUs this is PyTorch's ``SyncBatchNorm``; PyTorch has none
for the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from models.layers.batch_norm import BatchNorm2d
from utils.distributed import World
from utils.distributed.failure import told_when_broken

PLAIN = (nn.BatchNorm2d, BatchNorm2d)
OVER = (0, 2, 3)
"""The dimensions that a channel's statistics are taken over."""


def synchronise_norms(model: nn.Module, world: World) -> int:
    """Replace every BatchNorm2d within a model, in place, by one that takes all processes' images into account.

    The new modules hold the very parameters and buffers of the old ones, under the same names: optimizers and averages
    that were made before stay right, and what is saved is a plain model.

    Args:
        model: on the world's device. A copy made before this call, such as the averaged model, keeps plain norms.
        world: the processes; from now on each has to run the model for every batch, also for one of no images
            (``world.synchronises_norms``). With one process nothing is replaced.

    Returns:
        How many norms were replaced.
    """
    if world.size == 1:
        return 0
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) in PLAIN:
                if child not in made:
                    made[child] = _synchronised(child, world.device)
                setattr(parent, name, made[child])
    world.synchronises_norms = bool(made)
    return len(made)


def _synchronised(norm: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    with torch.device("meta"):
        new = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    return new.train(norm.training)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that in training normalises with the statistics of all processes' images; for the CPU.

    Every process has to call it, and the backward pass through it, equally often; a share of no images is allowed.
    Where all together have a single value per channel, it is normalised as ``BatchNorm2d`` does it.
    """

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W), N = 0 or more.

        Raises:
            LostProcess: another process of the run has ended.
        """
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        try:
            y, mean, variance, count = _SyncNorm.apply(x, self.weight, self.bias, self.eps)
        except _TooFewValues:
            if self.running_mean is None:
                raise
            # Raised in all processes, so that none waits in its backward pass for another one.
            statistics = self.running_mean.clone(), self.running_var.clone()
            return F.batch_norm(x, *statistics, self.weight, self.bias, training=False, eps=self.eps)
        if self.track_running_stats:
            self._follow(mean, variance, int(count))
        return y

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch of ``count`` values per channel."""
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)


class _TooFewValues(ValueError):
    """All processes together have a single value per channel, or none."""


class _SyncNorm(torch.autograd.Function):
    """Normalisation over all processes, differentiable: one exchange forwards and one backwards."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = x.float()
        mean, variance, count = _joint_statistics(values)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.count = count
        y = F.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps).to(x.dtype)
        counted = torch.tensor(float(count), dtype=torch.float64)
        ctx.mark_non_differentiable(mean, variance, counted)
        return y, mean, variance, counted

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.float()
        normalised = (x.float() - _per_channel(mean)) * _per_channel(inverse)
        sums = torch.stack([gradient.sum(OVER), (gradient * normalised).sum(OVER)])
        # The parameters' own gradients are summed over the processes later, with all others.
        own_bias, own_weight = sums.float().unbind()
        of_x = None
        if ctx.needs_input_grad[0]:
            joint = sums.double()
            with told_when_broken():
                dist.all_reduce(joint)
            of_bias, of_weight = (joint / ctx.count).float().unbind()
            of_x = gradient - _per_channel(of_bias) - normalised * _per_channel(of_weight)
            of_x = (of_x * _per_channel(inverse if weight is None else inverse * weight)).to(x.dtype)
        affine = weight is not None
        return of_x, own_weight if affine else None, own_bias if affine else None, None


def _joint_statistics(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return the mean (C,) and the biased variance (C,) over all processes, and the values per channel they are of."""
    channels, own = values.shape[1], values.numel() // max(values.shape[1], 1)
    if own:
        variance, mean = torch.var_mean(values, OVER, correction=0)
    else:
        mean = variance = values.new_zeros(channels)
    # Means and variances are joined rather than sums of squares, which lose small variances around large means.
    mine = torch.cat([values.new_tensor([float(own)]), mean, variance]).double()
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    with told_when_broken():
        dist.all_gather(rows, mine)
    counts, means, variances = torch.stack(rows).split([1, channels, channels], 1)
    total = counts.sum()
    if total < 2:
        raise _TooFewValues(
            f"a BatchNorm in training needs more than one value per channel, but all processes have {int(total)}"
        )
    joint = (counts * means).sum(0) / total
    spread = (counts * (variances + (means - joint).square())).sum(0) / total
    return joint.float(), spread.float(), int(total)


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
