"""Small deformable DETRs, and files of them as the official programs and Hugging Face's transformers write them."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from models.blank_rows import BlankRows, Rows
from models.convert.ms_detr_names import HUGGING_FACE, OFFICIAL, Scheme, copied_names, published_state
from models.resnet_rows import find_resnet_rows
from models.spec import ModelSpec, load_spec, parse_spec

QUERIES, LABELS = 12, 3
STAGES = ((16, 1), (32, 1), (48, 2), (64, 1))
"""Channels and blocks of the backbone's stages."""
LAYERS, HEADS, POINTS = 2, 8, 2
DETAILS: dict[str, dict[str, Any]] = {
    "ms-detr-r50-300": {"supervision": "c", "aux_ffn": True},
    "ms-detr-r50-pp-300": {"supervision": "c", "aux_ffn": True, "look_forward_twice": True},
    "ms-detr-r50-a-300": {"supervision": "a"},
    "deformable-detr-r50": {"supervision": "none", "order": "self_first"},
}
"""Options of the decoder of the YAMLs that small models are made like."""


def small_spec(cfg: str = "ms-detr-r50-300", **values: Any) -> ModelSpec:
    """Return a deformable DETR of a few narrow layers.

    Args:
        cfg: the YAML that it is like, a key of ``DETAILS``.
        values: other values of the YAML; ``options`` are those of the decoder (None leaves one out), ``queries_row`` is
            the row of queries.
    """
    options = {**DETAILS[cfg], **values.pop("options", {})}
    options = {key: value for key, value in options.items() if value is not None}
    mixed = [{"mixed_selection": True}] if "-pp-" in cfg else []
    queries_row = values.pop("queries_row", ["TwoStageQueries", ["nc", "queries", *mixed]])
    backbone: list[Any] = [[-1, 1, "FrozenStem", [8]]]
    for number, (channels, blocks) in enumerate(STAGES):
        frozen = [{"frozen": True}] if number == 0 else []
        backbone.append([-1, 1, "ResNetStage", [channels, blocks, 2 if number else 1, *frozen]])
    head: list[Any] = [[source, 1, "ConvGN", ["dim", 1, 1]] for source in (2, 3, 4)]
    head += [[4, 1, "ConvGN", ["dim", 3, 2]]]
    head += [[[5, 6, 7, 8], 1, "DeformEncoder", ["dim", LAYERS, HEADS, POINTS, "ffn", "dropout"]]]
    head += [[9, 1, *queries_row]]
    layout = ["nc", "dim", LAYERS, HEADS, POINTS, "ffn", "dropout"]
    head += [[[9, 10], 1, "MSDETRDecoder", [*layout, options]]]
    small = {"nc": LABELS, "queries": QUERIES, "dim": 32, "ffn": 48, "backbone": backbone, "head": head}
    return load_spec(cfg).with_values(**{**small, **values})


def filled_rows(spec: ModelSpec, seed: int = 0) -> BlankRows:
    """Return a model's rows, every tensor with numbers of its own; those of seed 0 nobody may change."""
    return _filled_rows(spec.text) if seed == 0 else _drawn_rows(spec.text, seed)


@lru_cache(maxsize=16)
def _filled_rows(text: str) -> BlankRows:
    return _drawn_rows(text, 0)


def _drawn_rows(text: str, seed: int) -> BlankRows:
    generator = torch.Generator().manual_seed(seed)
    rows = BlankRows(parse_spec(yaml.safe_load(text), "small.yaml"))
    state = {name: drawn(name, value, generator) for name, value in rows.state_dict().items()}
    rows.load_state_dict(state, assign=True)
    return rows


def drawn(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers that keep a signal's size: matrices by their inputs, variances above 0, vectors around a half."""
    if name.endswith("running_var"):
        return torch.rand(value.shape, generator=generator) + 0.5
    if value.dim() > 1:
        return torch.randn(value.shape, generator=generator) / max(value[0].numel(), 1) ** 0.5
    return 0.3 * torch.randn(value.shape, generator=generator) + 0.5


def official_file(graph: Rows, **options: Any) -> dict[str, Any]:
    """Return what the official programs save after an epoch; tensors written twice share their memory."""
    given = {"nheads": HEADS, "num_queries": QUERIES, "dropout": 0.1, **options}
    momentum = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3)}}
    return {
        "model": OrderedDict(published_state(graph, OFFICIAL)),
        "optimizer": {"state": momentum, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.999), "params": [0]}]},
        "lr_scheduler": {"step_size": 11, "gamma": 0.1},
        "epoch": 11,
        "args": argparse.Namespace(lr=2e-4, device="cuda", lr_backbone_names=["backbone.0"], **given),
    }


def hugging_face_folder(
    graph: Rows, folder: Path, scheme: Scheme = HUGGING_FACE, name: str = "model.safetensors", **config: Any
) -> Path:
    """Write what transformers keeps of a model, and return the folder."""
    folder.mkdir(exist_ok=True)
    state = published_state(graph, scheme)
    if name.endswith(".safetensors"):
        # Such files have every tensor once; transformers keeps the names within the decoder.
        again = copied_names(graph, scheme)
        kept = {first: name for name, first in again.items() if name.startswith("model.decoder.")}
        state = {kept.get(name, name): value.clone() for name, value in state.items() if name not in again}
        save_file(state, folder / name, {"format": "pt"})
    else:
        torch.save(OrderedDict(state), folder / name)
    given = {"model_type": "deformable_detr", "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS}
    given |= {"two_stage": True, "two_stage_num_proposals": QUERIES, "with_box_refine": True, **config}
    (folder / "config.json").write_text(json.dumps(given))
    return folder


def resnet_state(graph: Rows, names: Any = lambda name: name) -> dict[str, Tensor]:
    """Return what a ResNet for classification has of a deformable DETR, under torchvision's names or others."""
    found: dict[str, Tensor] = {}
    for number, row in enumerate(find_resnet_rows(graph)):
        for part, value in graph.model[row].state_dict().items():
            found[names(f"layer{number}.{part}" if number else part)] = value
    return found


def torchvision_file(graph: Rows) -> Mapping[str, Tensor]:
    """Return a state dict of torchvision's ResNet: with counters of its norms, and what classifies."""
    state = resnet_state(graph)
    norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    state |= {f"{norm}num_batches_tracked": torch.tensor(5) for norm in norms}
    classifier = nn.Linear(STAGES[-1][0], 10)
    return OrderedDict(state | {f"fc.{name}": value.detach() for name, value in classifier.state_dict().items()})
