"""A YOLOS of ours as a folder that Hugging Face's transformers reads: weights, configuration, and input rule."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from models.checkpoint import Checkpoint
from models.convert.hugging_face import CONFIG, WEIGHTS
from models.convert.label_classes import label_names
from models.convert.yolos_names import HUGGING_FACE, published_state
from models.graph import Graph
from models.input_rule import RGB
from models.layers.vit import NORM_EPS, ViTEmbed
from models.token_rows import find_token_rows
from models.weights import build_model, require_trained_form
from utils.errors import ModelError
from utils.files import atomic_write

LOGGER = logging.getLogger("yolograph")

PREPROCESSOR = "preprocessor_config.json"
SMALL_SIDE, LARGE_SIDE = 512, 800
"""Short side of a picture at which the smallest published model is measured, and the others."""
SMALL_WIDTH = 192
BILINEAR = 2
"""PIL's number of it."""
LIMIT = 1333 / 800
"""Longest side of a picture in shortest ones, as published, where the model's rule has none."""


def hugging_face_state(graph: Graph) -> dict[str, Tensor]:
    """Return the tensors of a YOLOS under the names of transformers' ``YolosForObjectDetection``.

    Raises:
        ValueError: the graph is no YOLOS, or one that transformers has not; the sentence says why.
    """
    state = published_state(graph, HUGGING_FACE)
    rows = find_token_rows(graph)
    grids = {getattr(graph.get_submodule(name), "tables", None) for name in (rows.embed, *rows.blocks)} - {None}
    if len({tables.grid for tables in grids}) > 1:
        raise ValueError("its position tables have several grids, and there they all have one")
    if graph.spec.channels != 3 or graph.spec.input.channels != RGB:
        raise ValueError("its pictures have other channels than R, G, B")
    if graph.get_submodule(rows.norms[0]).norm.eps != NORM_EPS:
        raise ValueError(
            f"its norms have several eps, and there they all have one; write {NORM_EPS} in TokenNorm's row"
        )
    return state


def hugging_face_config(graph: Graph) -> dict[str, Any]:
    """Return what a config.json says of a YOLOS that ``hugging_face_state`` takes."""
    rows, (head,) = find_token_rows(graph), graph.heads.values()
    embed, block = graph.get_submodule(rows.embed), graph.get_submodule(rows.blocks[0])
    (names,) = graph.names.values()
    labels = label_names(names, head.category_ids)
    has_tables = hasattr(graph.get_submodule(rows.blocks[0]), "tables")
    return {
        "architectures": ["YolosForObjectDetection"],
        "model_type": "yolos",
        "hidden_size": int(embed.tables.layout),
        "num_hidden_layers": len(rows.blocks),
        "num_attention_heads": block.heads,
        "intermediate_size": block.fc1.out_features,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": NORM_EPS,
        "image_size": _image_size(graph, embed, has_tables),
        "patch_size": embed.tables.layout.patch,
        "num_channels": 3,
        "qkv_bias": True,
        "num_detection_tokens": embed.tables.layout.suffix,
        "use_mid_position_embeddings": has_tables,
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": _numbers(labels),
    }


def _numbers(labels: list[str]) -> dict[str, int]:
    """Return the label of every name; of labels that share one, such as those of no class, the first."""
    return {name: i for i, name in reversed(list(enumerate(labels)))}


def _image_size(graph: Graph, embed: ViTEmbed, has_tables: bool) -> list[int]:
    """Return the size that the tables are made for; in whole patches where there are several, as it has to be there."""
    (row,) = (row for row, module in zip(graph.spec.rows, graph.model, strict=True) if module is embed)
    patch = embed.tables.layout.patch
    return [side * patch for side in embed.tables.grid] if has_tables else [int(side) for side in row.args[3]]


def preprocessor_config(graph: Graph, short_side: int | None = None) -> dict[str, Any]:
    """Return what a preprocessor_config.json says of a model's input.

    Args:
        graph: the model.
        short_side: of pictures, in pixels; None for the published one of a model of this width.
    """
    rule = graph.spec.input
    if rule.letterbox.fit != "shortest":
        LOGGER.warning(
            "%s: its boxes are fractions of a padded canvas, and transformers takes them as fractions of the picture; "
            "train with 'input: {fit: shortest}' for models that shall be used there",
            graph.spec.source,
        )
    width = int(graph.get_submodule(find_token_rows(graph).embed).tables.layout)
    short_side = short_side or (SMALL_SIDE if width <= SMALL_WIDTH else LARGE_SIDE)
    limit = rule.letterbox.limit if rule.letterbox.fit == "shortest" else LIMIT
    mean, std = (
        list(numbers) if numbers else [default] * 3 for numbers, default in ((rule.mean, 0.0), (rule.std, 1.0))
    )
    return {
        "image_processor_type": "YolosImageProcessor",
        "format": "coco_detection",
        "do_resize": True,
        "size": {"shortest_edge": short_side, "longest_edge": math.floor(short_side * limit)},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / rule.scale,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "do_pad": True,
    }


def write_hugging_face(
    folder: Path, checkpoint: Checkpoint, source: str | Path = "checkpoint", short_side: int | None = None
) -> None:
    """Write a folder that ``YolosForObjectDetection.from_pretrained`` reads; the folder is made if it is absent.

    Args:
        folder: where to.
        checkpoint: of the model; of several weights the averaged ones are written.
        source: the file it came from, for messages.
        short_side: see ``preprocessor_config``; None takes the size that a run of ours trained with.

    Raises:
        ModelError: it is no YOLOS, or one that transformers has not.
    """
    require_trained_form(checkpoint, source)
    graph = build_model(checkpoint, source)
    try:
        state = hugging_face_state(graph)
    except ValueError as error:
        raise ModelError(
            f"{source}: {checkpoint.source} cannot be written for Hugging Face, whose YOLOS is another network: {error}"
        ) from None
    texts = {
        CONFIG: hugging_face_config(graph),
        PREPROCESSOR: preprocessor_config(graph, short_side or _trained_size(checkpoint)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    flat = {name: value.float().contiguous().clone() for name, value in state.items()}
    atomic_write(folder / WEIGHTS[0], save(flat, metadata={"format": "pt"}))
    for name, values in texts.items():
        atomic_write(folder / name, (json.dumps(values, indent=2, sort_keys=True) + "\n").encode())


def _trained_size(checkpoint: Checkpoint) -> int | None:
    """Return the size of pictures in the tests of a run of ours; None for weights of others."""
    options = checkpoint.progress.get("options")
    sizes = options.get("img_size") if isinstance(options, dict) else None
    return sizes[-1] if isinstance(sizes, list) and sizes and type(sizes[-1]) is int else None
