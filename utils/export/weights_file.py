"""A model in its form for deployment as a checkpoint of ours: fewer branches, norms folded, nothing for training."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import Checkpoint, checkpoint_bytes
from models.fusing import deploy_graph
from models.graph import Graph
from models.weights import load_model
from utils.errors import ExportError
from utils.export.agreement import Runner
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import FLOAT16, FLOAT32


def deployed_checkpoint(graph: Graph, halved: bool) -> Checkpoint:
    """Return a model in its form for deployment; ``progress`` says of the file what metadata say of others.

    Args:
        graph: the model as it was loaded; it stays as it is.
        halved: whether weights are stored as float16; who loads them computes in float32 or what is asked for.

    Raises:
        ExportError: a weight is too large for float16.
    """
    deployed = deploy_graph(copy.deepcopy(graph))
    state = {name: _stored(name, tensor, graph, halved) for name, tensor in deployed.state_dict().items()}
    told = {"precision": FLOAT16 if halved else FLOAT32}
    return Checkpoint(
        graph.spec.source,
        graph.spec.text,
        graph.names,
        {"model": state},
        {"exported": told},
        graph.keypoints,
        is_deployed=True,
    )


def _stored(name: str, tensor: torch.Tensor, graph: Graph, halved: bool) -> torch.Tensor:
    if not (halved and tensor.is_floating_point()):
        return tensor
    small = tensor.half()
    if not small.isfinite().all():
        raise ExportError(
            f"{graph.spec.source}: the weight {name} has values that float16 does not have; leave --half out"
        )
    return small


def told_checkpoint(checkpoint: Checkpoint, told: dict[str, str]) -> bytes:
    """Return the file of a deployed model.

    Args:
        checkpoint: what ``deployed_checkpoint`` has made.
        told: what else its header shall say, JSON by key.
    """
    checkpoint.progress["exported"] |= {key: json.loads(value) for key, value in told.items()}
    return checkpoint_bytes(checkpoint)


def weights_runner(path: Path, heads: Sequence[str]) -> Runner:
    """Return what runs a checkpoint on the CPU as every command loads it.

    Raises:
        ModelError: the file cannot be read.
    """
    module = ExportedGraph(load_model(path), heads)

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in module(torch.from_numpy(pixels)).items()}

    return run
