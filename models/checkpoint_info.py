"""What is in a checkpoint: ``python -m models.checkpoint info FILE [--json]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch

from data.keypoints import KeypointSpec
from models.checkpoint import Checkpoint
from models.graph import Graph
from models.weights import load_weights, spec_of

SHOWN_NAMES = 10
SHOWN_OPTIONS = ("cfg", "weights", "data", "hyp", "img_size", "batch_size", "epochs")


def checkpoint_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a checkpoint says of itself, as plain values.

    Raises:
        ModelError: its YAML does not describe a model.
    """
    with torch.device("meta"):
        graph = Graph(spec_of(checkpoint))
    progress = checkpoint.progress
    facts: dict[str, Any] = {
        "model": checkpoint.source,
        "rows": len(graph.model),
        "stride": graph.stride,
        "parameters": sum(parameter.numel() for parameter in graph.parameters()),
        "heads": {
            name: {
                "row": graph.head_rows[name],
                "module": type(head).__name__,
                "task": head.task,
                "classes": checkpoint.names.get(name, []),
                **_keypoints(checkpoint.keypoints.get(name, head.keypoints)),
            }
            for name, head in graph.heads.items()
        },
        "tensors": {
            group: {
                "count": len(tensors),
                "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
                "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
            }
            for group, tensors in checkpoint.tensors.items()
        },
    }
    training, options, converted, pruned = (
        _mapping(progress.get(key)) for key in ("progress", "options", "converted", "pruned")
    )
    if training:
        facts["training"] = training
        facts["can_be_resumed"] = bool(options)
    if options:
        facts["options"] = {key: options[key] for key in SHOWN_OPTIONS if options.get(key)}
    if converted:
        facts["converted"] = converted
    if pruned:
        facts["pruned"] = pruned
    if checkpoint.is_deployed:
        facts["deployed"] = True
    return facts


def describe_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the same as text."""
    facts = checkpoint_facts(checkpoint)
    size = f"{facts['rows']} rows, {facts['parameters']:,} parameters, stride {facts['stride']}"
    lines = [f"model     {facts['model']}: {size}"]
    for name, head in facts["heads"].items():
        classes = head["classes"]
        more = f" and {len(classes) - SHOWN_NAMES} more" if len(classes) > SHOWN_NAMES else ""
        shown = ", ".join(classes[:SHOWN_NAMES])
        lines.append(f"head      {name} ({head['module']}, row {head['row']}): {len(classes)} classes: {shown}{more}")
        if "keypoints" in head:
            lines.append(f"          {len(head['keypoints'])} keypoints: {', '.join(head['keypoints'])}")
    for group, found in facts["tensors"].items():
        kinds = ", ".join(found["types"])
        lines.append(f"tensors   {group}: {found['count']}, {found['bytes'] / 1e6:.1f} MB ({kinds})")
    for key in ("training", "options", "converted", "pruned"):
        if facts.get(key):
            values = ", ".join(f"{name} {_short(value)}" for name, value in facts[key].items())
            lines.append(f"{key:<10}{values}")
    if "deployed" in facts:
        lines.append("form      deployed: for running alone, norms folded and branches merged")
    if "can_be_resumed" in facts:
        lines.append(f"resumable {'yes' if facts['can_be_resumed'] else 'no, it is a model for use'}")
    return "\n".join(lines)


def _keypoints(spec: KeypointSpec | None) -> dict[str, list[str]]:
    return {} if spec is None else {"keypoints": list(spec.names)}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe the checkpoint that the command line names; ``arguments`` stand in for it."""
    parser = argparse.ArgumentParser(prog="python -m models.checkpoint", description="Look into checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="say what is in a checkpoint, ours or official")
    info.add_argument("file", help="checkpoint")
    info.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    checkpoint = load_weights(options.file)
    print(json.dumps(checkpoint_facts(checkpoint)) if options.json else describe_checkpoint(checkpoint))
