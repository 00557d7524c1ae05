"""Where the parts of a ResNet lie among the rows of a graph."""

from __future__ import annotations

from torch import nn

from models.layers.resnet import ResNetStage, ResNetStem


def find_resnet_rows(graph: nn.Module) -> list[int]:
    """Return the rows of a model's ResNet, the stem and the stages in order; empty where it has none, or several."""
    rows = list(enumerate(graph.model))
    stems = [row for row, module in rows if isinstance(module, ResNetStem)]
    stages = [row for row, module in rows if isinstance(module, ResNetStage)]
    return [*stems, *stages] if len(stems) == 1 and stages else []


def same_stages(theirs: nn.Module, ours: nn.Module) -> dict[str, str | None]:
    """Return the rows of their ResNet by name, with the name that each has in ours, or None for none.

    Empty where one of the two has no ResNet.
    """
    one, other = find_resnet_rows(theirs), find_resnet_rows(ours)
    if not one or not other:
        return {}
    here: list[str | None] = [f"model.{row}" for row in other]
    return {f"model.{row}": name for row, name in zip(one, here + [None] * len(one), strict=False)}
