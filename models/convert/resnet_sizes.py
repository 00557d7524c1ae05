"""The rows of the ResNet that tensors belong to, told by their names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import ModelError

MAP_AXES = 4
MOST_BLOCKS = 500
STAGES = 4
"""A ResNet has so many, and the last ones may be left out."""


@dataclass(frozen=True)
class Stage:
    """A stage of a ResNet.

    Attributes:
        is_bottleneck: whether its blocks have three convolutions, not two.
        c_out: channels.
        blocks: how many.
    """

    is_bottleneck: bool
    c_out: int
    blocks: int


def measure_stages(path: object, shape: Callable[[str], tuple[int, ...] | None]) -> tuple[int, tuple[Stage, ...]]:
    """Return the channels of the stem, and the stages.

    Args:
        path: of the file, for messages.
        shape: returns the shape of a tensor by the name that torchvision gives it; None where there is none.

    Raises:
        ModelError: a convolution that tells the size is missing, or none, or there are too many.
    """

    def outputs(name: str) -> int:
        found = shape(name)
        if found is None or len(found) != MAP_AXES or min(found) < 1:
            what = "is missing" if found is None else "is no convolution's"
            raise ModelError(
                f"{path}: has names of a ResNet, but its {name}, which tells its size, {what}; download the file again"
            )
        return found[0]

    stages = []
    for number in range(1, STAGES + 1):
        start = f"layer{number}"
        counted = (n for n in range(MOST_BLOCKS + 1) if shape(f"{start}.{n}.conv1.weight") is None)
        blocks = next(counted, None)
        if blocks is None:
            raise ModelError(
                f"{path}: has more than {MOST_BLOCKS} blocks in {start}, which no ResNet has; take another"
            )
        if blocks == 0 and stages:
            break
        is_bottleneck = shape(f"{start}.0.conv3.weight") is not None
        stages.append(Stage(is_bottleneck, outputs(f"{start}.0.conv{3 if is_bottleneck else 2}.weight"), blocks))
    return outputs("conv1.weight"), tuple(stages)


def backbone_rows(stem: int, stages: Sequence[Stage]) -> list[list[Any]]:
    """Return the rows of a ResNet as weights of others are used: norms are frozen, the stem and the first stage too."""
    rows: list[list[Any]] = [[-1, 1, "FrozenStem", [stem]]]
    for number, stage in enumerate(stages):
        options: dict[str, Any] = {} if stage.is_bottleneck else {"block": "basic"}
        options |= {"frozen": True} if number == 0 else {}
        args = [stage.c_out, stage.blocks, 1 if number == 0 else 2, *([options] if options else [])]
        rows.append([-1, 1, "ResNetStage", args])
    return rows
