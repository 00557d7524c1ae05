"""BatchNorm that can also be trained on a batch of a single value per channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's BatchNorm2d, but for a batch of one image of one pixel, which PyTorch refuses in training.

    Such a batch has no variance: behind a global pooling it is any batch of one image, such as the rest of a pass, a
    share of a small batch, or a piece of one that did not fit into the memory. It is normalised with the running
    statistics, as in use, and they stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if not self.training or self.running_mean is None or x.numel() != self.num_features:
            return super().forward(x)
        self._check_input_dim(x)
        # Copies, because later batches may move the statistics before this one's backward pass.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        return F.batch_norm(x, mean, variance, self.weight, self.bias, training=False, eps=self.eps)
