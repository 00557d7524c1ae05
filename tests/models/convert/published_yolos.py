"""Small YOLOS, and files of them as the official program and Hugging Face's transformers write them."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from models.convert.yolos_names import HUGGING_FACE, OFFICIAL, VIT_SCHEMES, backbone_pieces, published_state
from models.graph import Graph
from models.spec import ModelSpec, load_spec, parse_spec

SIZES = {"width": 64, "heads": 1, "det_tokens": 5, "pe_size": [64, 96]}
SIDE = (64, 96)


def small_spec(cfg: str = "yolos-s", blocks: int = 3, **values: Any) -> ModelSpec:
    """Return a YOLOS of a few narrow blocks, with tables between them where ``cfg`` has some."""
    spec = load_spec(cfg).with_values(**{"nc": 3, **SIZES, **values})
    rows = [list(row) for row in spec.values["backbone"]]
    rows[1][1] = blocks - 1 if rows[1][2] == "ViTBlockPE" else blocks
    return spec.with_values(backbone=rows)


def filled_graph(spec: ModelSpec) -> Graph:
    """Return a model in eval mode whose every tensor has numbers of its own; nobody may change it."""
    return _filled_graph(spec.text)


@lru_cache(maxsize=8)
def _filled_graph(text: str) -> Graph:
    generator = torch.Generator().manual_seed(0)
    graph = Graph(parse_spec(yaml.safe_load(text), "small.yaml")).eval()
    for value in graph.parameters():
        nn.init.normal_(value, std=0.2, generator=generator)
    return graph


def official_file(graph: Graph, **options: Any) -> dict[str, Any]:
    """Return what the official program saves after an epoch."""
    state = OrderedDict((name, value.clone()) for name, value in published_state(graph, OFFICIAL).items())
    options = {"init_pe_size": [*SIDE], "mid_pe_size": [*SIDE], "backbone_name": "small", **options}
    momentum = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3)}}
    return {
        "model": state,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 5e-5, "betas": (0.9, 0.999), "params": [0]}]},
        "lr_scheduler": {"base_values": [5e-5], "t_initial": 300},
        "epoch": 299,
        "args": argparse.Namespace(lr=5e-5, device="cuda", output_dir="out", **options),
    }


def hugging_face_folder(graph: Graph, folder: Path, name: str = "model.safetensors", **config: Any) -> Path:
    """Write what transformers keeps of a model, and return the folder."""
    folder.mkdir(exist_ok=True)
    state = {name: value.clone() for name, value in published_state(graph, HUGGING_FACE).items()}
    if name.endswith(".safetensors"):
        save_file(state, folder / name, {"format": "pt"})
    else:
        torch.save(OrderedDict(state), folder / name)
    given = {"model_type": "yolos", "num_attention_heads": SIZES["heads"], "image_size": [*SIDE], **config}
    (folder / "config.json").write_text(json.dumps(given))
    return folder


def vit_state(graph: Graph, length: int, scheme: int = 0) -> dict[str, Tensor]:
    """Return what a vision transformer for classification has of a YOLOS, with a table of ``length`` entries."""
    state = graph.state_dict()
    names = VIT_SCHEMES[scheme]
    found = {piece.name: piece.of(state).clone() for piece in backbone_pieces(graph, names)}
    width = found[names.embed["cls_token"]].shape[2]
    found[names.embed["pos_embed"]] = torch.randn(1, length, width, generator=torch.Generator().manual_seed(1))
    return found


def deit_file(graph: Graph, length: int, distilled: bool = False) -> dict[str, Any]:
    """Return what DeiT publishes: a state dict under ``model``, with what classifies."""
    state = vit_state(graph, length)
    width = state["cls_token"].shape[2]
    state |= {"head.weight": torch.zeros(10, width), "head.bias": torch.zeros(10)}
    if distilled:
        state |= {"dist_token": torch.zeros(1, 1, width), "head_dist.weight": torch.zeros(10, width)}
    return {"model": state}
