"""BatchNorm is PyTorch's, and a single value per channel can be trained on."""

from __future__ import annotations

import torch
from torch import nn

from models.layers.batch_norm import BatchNorm2d


def pair() -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    """Return ours and PyTorch's with the same weights, and statistics of one batch."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3), nn.BatchNorm2d(3)
    for parameter in ours.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    ours(torch.randn(4, 3, 5, 5))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_batches_of_more_than_one_value_are_pytorchs() -> None:
    ours, theirs = pair()
    for shape in ((2, 3, 1, 1), (1, 3, 1, 2), (3, 3, 4, 4)):
        x = torch.randn(shape)
        assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_a_single_value_is_normalised_as_in_use_and_moves_no_statistics() -> None:
    ours, theirs = pair()
    x = torch.randn(1, 3, 1, 1, requires_grad=True)
    y = ours(x)
    assert torch.equal(y, theirs.eval()(x))
    # Also where a later batch moves the statistics before the backward pass.
    before = {name: value.clone() for name, value in ours.named_buffers()}
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in before.items())
    ours(torch.randn(4, 3, 5, 5))
    y.sum().backward()
    assert x.grad.abs().min() > 0 and ours.weight.grad.abs().min() > 0
