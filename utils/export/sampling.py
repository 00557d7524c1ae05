"""How an exported deformable transformer looks at maps: by an operator for it, or by rows of a table."""

from __future__ import annotations

from models.graph import Graph
from models.layers.deformable_attention import GATHER, GRID, MSDeformAttn
from utils.errors import UsageError

FORMS = (GRID, GATHER)


def samples_maps(graph: Graph) -> bool:
    """Return whether a model has deformable attention."""
    return any(isinstance(module, MSDeformAttn) for module in graph.modules())


def choose_sampling(graph: Graph, form: str | None) -> Graph:
    """Let every deformable attention of a graph run in the form that is to be exported, in place.

    Args:
        graph: a copy of the model.
        form: ``grid`` or ``gather``; None takes ``grid``.

    Returns:
        The graph itself.

    Raises:
        UsageError: a form is asked for, but the model has no such attention.
    """
    if form is not None and not samples_maps(graph):
        raise UsageError(
            f"{graph.spec.source}: --attention {form} is about deformable transformers, such as MS-DETR, but this "
            "model is none; leave it out"
        )
    for module in graph.modules():
        if isinstance(module, MSDeformAttn):
            module.form = form or GRID
    return graph
