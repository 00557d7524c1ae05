"""Masks of objects from their boxes, by a model that takes boxes for prompts: Segment Anything, an optional extra.

Source: Kirillov et al., "Segment Anything", 2023, and the package ``segment-anything`` that goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.convert.matching import load_matching
from models.convert.official import state_dict_of
from models.convert.torch_file import TorchFile
from models.predictions import DetectionResult
from utils.errors import ModelError, UsageError
from utils.optional_packages import import_optional

SAM_WIDTHS = {"vit_b": 768, "vit_l": 1024, "vit_h": 1280}
"""Models of Segment Anything, and the channels of the image encoder that tell their weights apart."""

POSITIONS = "image_encoder.pos_embed"
SAM_SIDE = 1024
AT_ONCE = 2**27
"""Most values of the masks that are enlarged at once; all boxes of a picture go in one batch as long as that holds."""


class BoxMasks(Protocol):
    """What outlines objects that are already found; anything of this form can stand in."""

    def __call__(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """Return the pixels of every object.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (k, 4) float32 x1 y1 x2 y2 in native pixels, k 1 or more.

        Returns:
            (k, H, W) bool on the CPU.
        """
        ...


def with_masks(image: np.ndarray, results: Mapping[str, Any], box_masks: BoxMasks) -> dict[str, Any]:
    """Return the results of all heads, those with boxes with the masks of their objects.

    The objects of all heads are one batch. A picture without objects is not looked at; its masks are (0, H, W).

    Args:
        image: (H, W, 3) uint8 RGB of the results' native size.
        results: per head.
        box_masks: outlines objects.
    """
    found = {head: result for head, result in results.items() if isinstance(result, DetectionResult)}
    boxes = torch.cat([torch.zeros(0, 4), *(result.boxes for result in found.values())])
    masks = box_masks(image, boxes) if len(boxes) else torch.zeros(0, *image.shape[:2], dtype=torch.bool)
    parts = masks.split([len(result.boxes) for result in found.values()]) if found else ()
    outlined = {head: replace(found[head], masks=part) for head, part in zip(found, parts, strict=True)}
    return {**results, **outlined}


class SegmentAnything:
    """Outlines objects with a predictor of the package ``segment-anything``: one look at the picture, one mask per box.

    Args:
        predictor: a ``SamPredictor``.
    """

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, boxes: Tensor) -> Tensor:
        """Return the (k, H, W) bool masks of the objects in (k, 4) boxes, see ``BoxMasks``."""
        predictor, size = self._predictor, image.shape[:2]
        predictor.set_image(image, image_format="RGB")
        prompts = predictor.transform.apply_boxes_torch(boxes.to(predictor.device), size)
        most = max(AT_ONCE // max(size[0] * size[1], SAM_SIDE**2), 1)
        masks = [
            predictor.predict_torch(point_coords=None, point_labels=None, boxes=part, multimask_output=False)[0]
            for part in prompts.split(most)
        ]
        return torch.cat([part[:, 0].cpu() for part in masks])


def load_segment_anything(weights: str | Path, size: str | None, device: torch.device) -> SegmentAnything:
    """Load Segment Anything. Nothing is downloaded, and nothing in the file is executed.

    Args:
        weights: the file of its weights, as published (``sam_vit_b_01ec64.pth`` ...).
        size: which of ``SAM_WIDTHS`` it is; None for what the file holds.
        device: where to compute.

    Raises:
        UsageError: the package is not installed, or the file holds another size.
        ModelError: the file is missing, damaged, or holds other weights.
    """
    path = Path(weights)
    if not path.is_file():
        raise ModelError(
            f"--sam {path}: there is no such file; get the weights of Segment Anything yourself (such as "
            "sam_vit_b_01ec64.pth), nothing is downloaded"
        )
    package = import_optional("segment_anything", "--sam")
    model = _read_model(path, size, package)
    return SegmentAnything(package.SamPredictor(model.eval().to(device)))


def _read_model(path: Path, size: str | None, package: ModuleType) -> nn.Module:
    """Build the model that a file holds weights of, and give them to it.

    The package's own loading is passed by: it unpickles.
    """
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: is empty; download or copy it again")
    with TorchFile(path) as file:
        try:
            stored = state_dict_of(file.root) or {}
        except ValueError:
            stored = {}
        shape = stored[POSITIONS].shape if POSITIONS in stored else (0,)
        held = next((name for name, width in SAM_WIDTHS.items() if shape[-1:] == (width,)), None)
        if held is None:
            raise ModelError(f"{path}: holds no weights of Segment Anything ({', '.join(SAM_WIDTHS)})")
        if size not in (None, held):
            raise UsageError(f"--sam-size {size}: {path} holds {held}; leave the option out")
        model = package.sam_model_registry[held]()
        names = {name: name for name in model.state_dict()}
        model.load_state_dict(load_matching(file, model, f"{held} of segment-anything", stored, names))
    return model
