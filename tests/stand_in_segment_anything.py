"""A stand-in for the package ``segment_anything``: the same calls, ellipses for masks, and a record of the calls."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

WIDTHS = {"vit_b": 768, "vit_l": 1024, "vit_h": 1280}
PROMPT_SCALE = 2.0


class Sam(nn.Module):
    """Has the one tensor that tells the sizes apart, and another one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_encoder = nn.Module()
        self.image_encoder.pos_embed = nn.Parameter(torch.zeros(1, 2, 2, width))
        self.mask_decoder = nn.Linear(3, 2)


class Transform:
    """Moves boxes to another scale, as the package does for its 1024 pixels."""

    def apply_boxes_torch(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        return boxes * PROMPT_SCALE


class SamPredictor:
    """Outlines what it is asked for, and remembers what it was shown."""

    made: list[SamPredictor]

    def __init__(self, model: Sam) -> None:
        assert not model.training
        self.model, self.transform, self.device = model, Transform(), torch.device("cpu")
        self.images: list[np.ndarray] = []
        self.batches: list[int] = []
        SamPredictor.made.append(self)

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        assert image_format == "RGB" and image.dtype == np.uint8
        self.images.append(image)

    def predict_torch(
        self,
        point_coords: None,
        point_labels: None,
        boxes: Tensor,
        mask_input: None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert point_coords is None and point_labels is None and not multimask_output
        self.batches.append(len(boxes))
        height, width = self.images[-1].shape[:2]
        x1, y1, x2, y2 = (boxes / PROMPT_SCALE)[:, :, None, None].unbind(1)
        y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
        radii = ((x2 - x1) / 2).clamp_min(1e-3), ((y2 - y1) / 2).clamp_min(1e-3)
        inside = ((x - (x1 + x2) / 2) / radii[0]) ** 2 + ((y - (y1 + y2) / 2) / radii[1]) ** 2 <= 1
        return inside[:, None], torch.ones(len(boxes), 1), torch.zeros(len(boxes), 1, 4, 4)


def install(monkeypatch: pytest.MonkeyPatch) -> type[SamPredictor]:
    """Let ``import segment_anything`` find the stand-in; returns the class whose ``made`` lists all predictors."""
    module = ModuleType("segment_anything")
    module.sam_model_registry = {name: lambda width=width: Sam(width) for name, width in WIDTHS.items()}
    module.SamPredictor = SamPredictor
    SamPredictor.made = []
    monkeypatch.setitem(sys.modules, "segment_anything", module)
    return SamPredictor


def write_sam_weights(path: Path, size: str = "vit_b") -> Path:
    """Write weights of the stand-in as the published files are: a bare state dict."""
    torch.save(Sam(WIDTHS[size]).state_dict(), path)
    return path
