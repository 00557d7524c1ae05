"""Options of the command line that change nothing with the model and recipe of a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from models.graph import Graph

FOR_OBJECTS = ("multi_scale", "rect", "close_mosaic", "single_cls")
"""Options about pictures with boxes; masks have a pipeline and classes of their own."""


def options_without_effect(graph: Graph, hyp: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """Return a sentence for every option that was asked for and changes nothing.

    Args:
        graph: the model, as it is going to be trained.
        hyp: the recipe.
        options: of the run.
    """
    found = []
    if not finds_objects(graph):
        asked = [f"--{name.replace('_', '-')}" for name in FOR_OBJECTS if getattr(options, name)]
        found += [f"{option} has no effect: no head of the model finds objects" for option in asked]
    elif options.close_mosaic and hyp["augment"] == "detr":
        found.append("--close-mosaic has no effect: the recipe says augment: detr, which makes no mosaic")
    if options.label_smoothing and not any("label_smoothing" in head.recipe for head in graph.heads.values()):
        found.append("--label-smoothing has no effect: no loss of the model's heads smooths labels")
    if options.precise_bn:
        follow = any(isinstance(m, _BatchNorm) and m.track_running_stats for m in graph.modules())
        if hyp["bn"] == "frozen":
            found.append("--precise-bn has no effect: the recipe says bn: frozen, which keeps all statistics")
        elif graph.norms_frozen or not follow:
            found.append("--precise-bn has no effect: the model has no BatchNorm that follows the data")
    return found


def finds_objects(graph: Graph) -> bool:
    """Return whether a head of the model learns boxes."""
    return any("boxes" in head.targets for head in graph.heads.values())
