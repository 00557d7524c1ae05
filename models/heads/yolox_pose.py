"""The pose head of YOLOX-Pose (mmyolo; Maji et al., YOLO-Pose, arXiv:2204.06806): YOLOX plus keypoints per cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.keypoints import KeypointSpec, default_keypoints
from data.samples import Placement
from models.anchor_points import AnchorPoints, decode_keypoints
from models.heads.anchor_free import start_from_prior
from models.heads.yolox import YOLOXDetect, tower
from models.losses.yolox_pose import YOLOX_POSE_RECIPE, YOLOXPoseCriterion
from models.predictions import PoseResult, Poses, PostprocessOptions
from models.registry import register
from utils.pose_results import pose_results


@register
class YOLOXPose(YOLOXDetect):
    """YOLOXDetect with a third tower for K keypoints::

        P -> Conv 1x1 -> | -> towers of YOLOXDetect -> 4 box values, objectness, C classes
                         | -> 4 Conv 3x3 -> | 1x1 -> 2K offsets
                                            | 1x1 -> K visibilities

    Raw output of a level: (B, 4 + 1 + C + 2K + K, rows, columns), offsets as x0, y0, x1, y1 ... A keypoint decodes as
    ``(offset + cell) * stride``.

    Args:
        in_channels: channels of the source rows.
        num_classes: number of classes.
        hidden: channels of the towers; a row's are scaled by the model's width.
        num_keypoints: K; the data's takes its place in training.
        depthwise: build the towers of ``DWConvPair``.

    Attributes:
        keypoints: what the K keypoints are; ``Graph.set_keypoints`` gives those of the data.
    """

    task = "pose"
    targets = ("boxes", "classes", "keypoints")
    evaluator = "keypoints"
    loss_names = ("box", "obj", "cls", "l1", "kpt", "vis")
    recipe = YOLOX_POSE_RECIPE
    keypoints_argument = 2

    def __init__(
        self, in_channels: list[int], num_classes: int, hidden: int, num_keypoints: int, depthwise: bool = False
    ) -> None:
        super().__init__(in_channels, num_classes, hidden, depthwise)
        if num_keypoints < 1:
            raise ValueError(f"the number of keypoints is above 0, but it is {num_keypoints}")
        self.keypoints: KeypointSpec = default_keypoints(num_keypoints)
        levels = range(len(in_channels))
        self.pose_convs = nn.ModuleList(tower(hidden, 4, depthwise) for _ in levels)
        self.offset_preds = nn.ModuleList(nn.Conv2d(hidden, 2 * num_keypoints, 1) for _ in levels)
        self.vis_preds = nn.ModuleList(start_from_prior(nn.Conv2d(hidden, num_keypoints, 1)) for _ in levels)

    def _level(self, level: int, x: Tensor) -> list[Tensor]:
        x = self.stems[level](x)
        pose = self.pose_convs[level](x)
        return [*self._box_and_class(level, x), self.offset_preds[level](pose), self.vis_preds[level](pose)]

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> YOLOXPoseCriterion:
        """Return the YOLOX-Pose loss; its published gains hold for every size and number of levels."""
        return YOLOXPoseCriterion(self.strides, self.num_classes, self.keypoints, hyp)

    def decode(self, values: Tensor, points: AnchorPoints) -> Poses:
        """Decode (B, A, channels) float32 of all cells."""
        found = super().decode(values, points)
        first = 5 + self.num_classes
        offsets, visibility = values[..., first:].split((2 * len(self.keypoints), len(self.keypoints)), -1)
        places = decode_keypoints(offsets, points)
        keypoints = torch.cat((places, visibility.sigmoid()[..., None]), -1)
        return Poses(found.boxes, found.scores, found.objectness, keypoints=keypoints, spec=self.keypoints)

    def postprocess(
        self, predictions: Poses, options: PostprocessOptions, placements: list[Placement]
    ) -> list[PoseResult]:
        """Suppress overlapping boxes and map the rest with their keypoints to native pixels."""
        return pose_results(predictions, options, placements)
