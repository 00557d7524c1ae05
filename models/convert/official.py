"""Any official checkpoint -> ours: opens the file, finds out which family wrote it, and hands over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from models.checkpoint import Checkpoint
from models.convert import mmyolo, ms_detr, ms_detr_names, resnet, ultralytics, vit, yolos, yolov5, yolox
from models.convert.by_names import convert_by_names
from models.convert.hugging_face import require_uncut
from models.convert.mmengine_file import RAW_KEY, raw_weights
from models.convert.module_tree import dotted, stored_tensors
from models.convert.records import Inert, StoredTensor
from models.convert.weight_file import open_weights
from models.spec import load_spec
from utils.errors import ModelError

FIRST_PARTS = (
    *("backbone", "neck", "head", "bbox_head", "class_embed", "bbox_embed"),
    *("vit", "class_labels_classifier", "bbox_predictor"),
    *("blocks", "patch_embed", "norm", "head_dist"),
    *("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
)
SINGLE_TENSORS = ("cls_token", "dist_token", "mask_token", "pos_embed")
WRAPPED_NAME = re.compile(
    rf"((?:module|model)\.)+(?=model\.\d|(?:{'|'.join(FIRST_PARTS)})\.|(?:{'|'.join(SINGLE_TENSORS)})$)"
)
"""What DataParallel and torch.hub put before the names of a network's tensors."""
STATE_DICT_KEYS = ("ema", "model", "state_dict", "model_state_dict")
KEY_SHOWN = 40


FAMILIES = (yolox, mmyolo, ultralytics)
"""Modules that know families whose files hold tensors by name and no model."""


def read_official(
    path: str | Path, cfg: str | Path | None = None, raw: bool = False, grid: tuple[int, int] | None = None
) -> Checkpoint:
    """Read an official checkpoint; nothing of it is executed.

    Args:
        path: of the file.
        cfg: the model YAML (path, or name below ``models/configs``) where the file holds tensors alone.
        raw: take the weights that were not averaged, which mmengine's training checkpoints hold beside the others.
        grid: rows and columns of patches of the position table of a vision transformer that classifies pictures, where
            it is no square.

    Raises:
        ModelError: the file is damaged or dangerous, nothing here knows who wrote it, or it does not say which model
            it belongs to, or has no raw weights.
    """
    path = Path(path)
    require_uncut(path)
    with open_weights(path) as file:
        if raw:
            file.root = _with_raw_weights(path, file.root)
        model = yolov5.find_model(file.root)
        if model is not None and cfg is None:
            return yolov5.convert_model(file, model)
        pickled = model if model is not None else ultralytics.find_model(path, file.root)
        try:
            tensors = stored_tensors(pickled) if pickled is not None else state_dict_of(file.root)
        except ValueError as error:
            raise ModelError(f"{path}: is no checkpoint of YOLO that is known here: {error}") from None
        if tensors is None:
            raise ModelError(f"{path}: holds {_describe(file.root)}, not a network that this program can rebuild")
        if (scheme := yolos.find_scheme(tensors)) is not None:
            return yolos.convert(file, tensors, scheme, None if cfg is None else load_spec(cfg))
        if (scheme := ms_detr_names.find_scheme(tensors)) is not None:
            return ms_detr.convert(file, tensors, scheme, None if cfg is None else load_spec(cfg))
        if cfg is None and (scheme := vit.find_scheme(tensors)) is not None:
            return vit.convert(file, tensors, scheme, grid)
        if cfg is None and (named := resnet.find_names(tensors)) is not None:
            return resnet.convert(file, tensors, *named)
        for family in FAMILIES:
            table = family.find_table(path, tensors)
            if table is not None:
                shapes = {name: tensor.shape for name, tensor in tensors.items()}
                spec = load_spec(cfg) if cfg is not None else family.find_spec(path, shapes, table)
                names = ultralytics.class_names(pickled) if family is ultralytics else None
                return convert_by_names(file, tensors, table, spec, names)
        if pickled is not model:
            raise ModelError(
                f"{path}: holds a network of the ultralytics package that is no YOLOv8; of its files only those are "
                "read here"
            )
        if cfg is None:
            raise ModelError(
                f"{path}: holds {len(tensors)} tensors but not the model they belong to; name that: "
                f"python -m models.convert {path} OUT.safetensors --cfg MODEL.yaml"
            )
        spec = load_spec(cfg)
        names = model.state.get("names") if model is not None else None
        return yolov5.rebuild(file, spec, tensors, spec.source, names)


def state_dict_of(root: Any) -> dict[str, StoredTensor] | None:
    """Return the tensors by name of a saved state dict, which may lie one level deep; None when there is none.

    Raises:
        ValueError: see ``dotted``.
    """
    candidates = [root, *(root.get(key) for key in STATE_DICT_KEYS)] if isinstance(root, dict) else []
    for candidate in candidates:
        if isinstance(candidate, dict) and candidate and all(isinstance(v, StoredTensor) for v in candidate.values()):
            return {WRAPPED_NAME.sub("", dotted("", name), count=1): tensor for name, tensor in candidate.items()}
    return None


def _with_raw_weights(path: Path, root: Any) -> dict[str, Any]:
    """Return what a file holds, with the raw weights where the averaged ones were.

    Raises:
        ModelError: it has none.
    """
    found = raw_weights(root)
    if found is None:
        raise ModelError(
            f"{path}: has no raw weights ('{RAW_KEY}') beside the averaged ones, as training checkpoints of mmengine "
            "do; convert it without --raw"
        )
    return {**root, "state_dict": found}


def _describe(root: Any) -> str:
    """Return what a file holds, for a message."""
    if isinstance(root, Inert):
        return f"an object of {root.kind}"
    if isinstance(root, dict):
        inner = next((entry for key in STATE_DICT_KEYS if isinstance(entry := root.get(key), Inert)), None)
        keys = ", ".join(f"{key!r:.{KEY_SHOWN}}" for key in list(root)[:6])
        return _describe(inner) if inner is not None else f"the keys {keys}"
    return f"a {type(root).__name__}"
