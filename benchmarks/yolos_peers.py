"""YOLOS twice with the same seeded weights: ours, and that of transformers, which has to be installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.convert.yolos_names import HUGGING_FACE, published_state
from models.fusing import fuse_graph
from models.graph import Graph
from models.layers.vit import ViTBlock, ViTBlockPE
from models.spec import load_spec
from models.token_rows import find_token_rows
from utils.errors import RunError, UsageError


class Case(NamedTuple):
    """A model at a size: YAML, and height and width of the network's input."""

    cfg: str
    height: int
    width: int


class Peers(NamedTuple):
    """The same network twice: ours fused, that of transformers, and the image processor that belongs to it."""

    ours: Graph
    theirs: nn.Module
    processor: Any


def transformers_yolos() -> tuple[type, type, type]:
    """Return the classes of transformers for configuration, model and image processor.

    Raises:
        RunError: it is not installed.
    """
    try:
        from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor
        from transformers.utils import logging
    except ImportError as error:
        raise RunError(
            f"benchmarks.yolos_inference compares with transformers, which is not installed ({error}); "
            "pip install transformers"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return YolosConfig, YolosForObjectDetection, YolosImageProcessor


def lively_graph(case: Case) -> Graph:
    """Return a seeded model whose answers differ from token to token, in eval mode.

    The limit of the long side is widened where the case's input is longer.
    """
    spec = load_spec(case.cfg)
    rule = dict(spec.values["input"])
    rule["limit"] = max(float(rule["limit"]), case.width / case.height)
    torch.manual_seed(0)
    graph = Graph(spec.with_values(input=rule)).eval()
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.normal_(0.0, 0.05) if parameter.dim() > 1 else parameter.add_(0.02)
    return graph


def build_peers(case: Case, attention: str | None, device: torch.device) -> Peers:
    """Return ours and theirs with the same weights; ``attention`` is how theirs computes it, None its default.

    Raises:
        RunError: a tensor of theirs has no counterpart.
        UsageError: the model is no YOLOS.
    """
    make_config, make_model, make_processor = transformers_yolos()
    graph = lively_graph(case)
    modules = dict(graph.named_modules())
    rows = find_token_rows(graph)
    if rows is None or not rows.blocks:
        raise UsageError(f"--cases {case.cfg}: is no YOLOS")
    embed, block = modules[rows.embed], modules[rows.blocks[0]]
    assert isinstance(block, ViTBlock)
    head = graph.heads["detect"]
    config = make_config(
        hidden_size=embed.proj.out_channels,
        num_hidden_layers=len(rows.blocks),
        num_attention_heads=block.heads,
        intermediate_size=block.fc1.out_features,
        image_size=[side * embed.layout.patch for side in embed.tables.grid],
        patch_size=embed.layout.patch,
        num_detection_tokens=embed.layout.suffix,
        use_mid_position_embeddings=isinstance(block, ViTBlockPE),
        num_labels=head.labels,
    )
    chosen = {} if attention is None else {"attn_implementation": attention}
    theirs = load_theirs(make_model, config, published_state(graph, HUGGING_FACE), chosen)
    processor = make_processor(size={"shortest_edge": case.height, "longest_edge": longest(graph, case)})
    return Peers(fuse_graph(graph).to(device), theirs.to(device), processor)


def load_theirs(make_model: Any, config: Any, state: dict[str, Tensor], chosen: dict[str, str]) -> nn.Module:
    """Return the model of transformers with the given weights, read from a file as published ones are.

    Raises:
        RunError: it has other tensors.
    """
    from safetensors.torch import save_file  # transformers needs it too

    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        tensors = {name: tensor.contiguous().clone() for name, tensor in state.items()}
        save_file(tensors, Path(folder) / "model.safetensors", {"format": "pt"})
        theirs, told = make_model.from_pretrained(folder, output_loading_info=True, **chosen)
    wrong = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in told[kind]]
    if wrong:
        raise RunError(f"transformers has other tensors than those that models.convert names: {wrong[:3]}")
    return theirs.eval()


def longest(graph: Graph, case: Case) -> int:
    """Return the longest side that our rule allows, for theirs."""
    return int(case.height * graph.letterbox.limit)


def attention_of(theirs: nn.Module) -> str:
    """Return how theirs computes attention, in its own word."""
    return str(getattr(theirs.config, "_attn_implementation", "an unknown attention"))
