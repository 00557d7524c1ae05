"""RepVGG blocks that were re-parameterised before a file was saved: one convolution in place of the branches.

A block of ours has its branches until it is deployed. The stored convolution becomes the first of them, under a norm
that changes nothing, and the others count nothing. So the outputs are equal, and so is what re-parameterising gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.convert.records import StoredTensor
from models.convert.weight_file import WeightFile

MERGED_PARTS = (".rbr_reparam.weight", ".rbr_reparam.bias")
DENSE, POINT, IDENTITY = "rbr_dense", "rbr_1x1", "rbr_identity"


def merged_blocks(stored: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the names of a model's blocks that a file has as one convolution of the same shape.

    Args:
        stored: tensors of the file by their names there.
        wanted: shapes of the model's tensors by the same names.
    """
    weight, bias = MERGED_PARTS
    blocks = [name.removesuffix(weight) for name in stored if name.endswith(weight)]
    kernels = {block: wanted.get(f"{block}.{DENSE}.conv.weight", ()) for block in blocks}
    return [
        block
        for block, kernel in kernels.items()
        if kernel and stored[block + weight].shape == kernel
        if block + bias in stored and stored[block + bias].shape == kernel[:1]
    ]


def branches_of(
    file: WeightFile, stored: Mapping[str, StoredTensor], block: str, wanted: Mapping[str, object], eps: float
) -> dict[str, Tensor]:
    """Return the tensors of a block's branches, which together compute its one stored convolution.

    Args:
        file: where the tensors lie.
        stored: they by their names there.
        block: its name, one of ``merged_blocks``.
        wanted: the model's tensors by name; those of the block are made.
        eps: what the model's norms add to a variance.
    """
    kernel, bias = (file.tensor(stored[block + part]).float() for part in MERGED_PARTS)
    zero, one = torch.zeros_like(bias), torch.ones_like(bias)
    row, column = kernel.shape[2] // 2, kernel.shape[3] // 2
    silent = {"weight": zero, "bias": zero, "running_mean": zero, "running_var": one}
    straight = {"weight": one, "bias": bias, "running_mean": zero, "running_var": one - eps}
    norms = {f"{DENSE}.bn": straight, f"{POINT}.bn": silent, IDENTITY: silent}
    made = {f"{norm}.{part}": value for norm, parts in norms.items() for part, value in parts.items()}
    made |= {f"{norm}.num_batches_tracked": torch.zeros((), dtype=torch.int64) for norm in norms}
    made[f"{DENSE}.conv.weight"] = kernel
    # Counts nothing under its norm, but training can wake it up; a kernel of zeros would stay asleep.
    made[f"{POINT}.conv.weight"] = kernel[:, :, row : row + 1, column : column + 1]
    return {f"{block}.{name}": value.clone() for name, value in made.items() if f"{block}.{name}" in wanted}
