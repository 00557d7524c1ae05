"""What a model's own rounding explains of the difference between a file and the model.

Two right programs round in other places, and some networks make much of it: untrained ones, or hundreds of queries that
look at each other. How much, the model itself tells: its answers in float32 beside those in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch

from utils.export.agreement import Difference, Runner, compare
from utils.export.exported_graph import ExportedGraph
from utils.export.objects_graph import CLASS_MAP

OF_BOTH = 2
"""Both programs round, so they may be twice as far from each other as one of them is from exact arithmetic."""
MOST = 10
"""So many tolerances are the limit, however much a model makes of rounding."""


def own_rounding(module: ExportedGraph, images: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return how far a model is from itself in float64, relative to the largest value of every output.

    Args:
        module: the model, on the CPU.
        images: network inputs by description.

    Returns:
        By output, of the worst input; nothing where parts of the model do not run in float64.
    """
    exact = _runner_in_float64(module)
    try:
        return {name: worst.relative for name, worst in compare(exact, module, images).items()}
    except RuntimeError:
        return {}


def _runner_in_float64(module: ExportedGraph) -> Runner:
    wide = ExportedGraph(copy.deepcopy(module.model).double(), module.heads)

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in wide(torch.from_numpy(pixels)).items()}

    return run


def rounding_of_objects(rounding: Mapping[str, float]) -> dict[str, float]:
    """Return the rounding of a model's candidates by the outputs of a file that answers with objects."""
    told = dict(rounding)
    for name, value in rounding.items():
        head, _, field = name.rpartition("_")
        if field == "logits":
            told[f"{head}_{CLASS_MAP}"] = value
        else:
            told[f"{head}_count"] = max(value, told.get(f"{head}_count", 0.0))
    return told


def limits(differences: Mapping[str, Difference], tolerance: float, rounding: Mapping[str, float]) -> dict[str, float]:
    """Return the largest relative difference of every output that passes.

    Args:
        differences: per output.
        tolerance: what passes anyway.
        rounding: of the model itself, where it is known.
    """
    own = {name: min(OF_BOTH * rounding.get(name, 0.0), MOST * tolerance) for name in differences}
    return {name: max(tolerance, most) for name, most in own.items()}
