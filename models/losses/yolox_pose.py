"""The loss of YOLOX-Pose: that of YOLOX, with object keypoint similarity (OKS) in assignment, class targets and loss.

Formulas: MMYOLO; Maji et al., YOLO-Pose, arXiv:2204.06806. Shape suffixes: B images, M padded objects, A anchor points,
P candidates, K keypoints, S slots for positive points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.keypoints import KeypointSpec
from data.samples import Batch
from models.anchor_points import AnchorPoints, decode_keypoints_at, rows_at
from models.assigners.simota import SIMOTA_RULES, PairCost
from models.losses.oks import OKS_FORMS, keypoint_similarity, oks_tolerance, pairwise_keypoint_similarity
from models.losses.recipe_words import chosen_word
from models.losses.yolox import YOLOX_RECIPE, ObjectTargets, Positives, YOLOXCriterion
from utils.errors import ModelError

YOLOX_POSE_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        **{key: value for key, value in YOLOX_RECIPE.items() if key != "simota"},
        "pose_simota": "mm",
        "pose_oks": 30.0,
        "pose_l1": 0.0,
        "pose_oks_cost": 3.0,
        "pose_oks_form": "diagonal",
        "pose_vis": 1.0,
        "pose_vis_cost": 0.0,
    }
)
"""Recipe keys of the head, with the published values. Its assignment has its own key, having another default."""
_EPSILON = 1e-7


class YOLOXPoseCriterion(YOLOXCriterion):
    """Loss of a YOLOX-Pose head: the parts of YOLOX, and ``kpt`` and ``vis``.

    Objects without a visible keypoint have similarity 0 with everything; they should be left out of training, but do no
    harm to the arithmetic.

    Args:
        strides: pixels per cell of each level.
        num_classes: classes.
        keypoints: what the keypoints are.
        hyp: keys of ``YOLOX_POSE_RECIPE``, each optional; ``close_mosaic`` as in YOLOX.

    Raises:
        ModelError: the recipe names an unknown box loss, assignment or form of OKS.
    """

    def __init__(
        self, strides: Sequence[int], num_classes: int, keypoints: KeypointSpec, hyp: Mapping[str, Any]
    ) -> None:
        rule = chosen_word(hyp, "pose_simota", YOLOX_POSE_RECIPE, tuple(SIMOTA_RULES))
        super().__init__(strides, num_classes, {**hyp, "simota": rule})
        self.register_buffer("sigmas", torch.tensor(keypoints.sigmas, dtype=torch.float32), persistent=False)
        self.form = chosen_word(hyp, "pose_oks_form", YOLOX_POSE_RECIPE, OKS_FORMS)
        value = lambda key: float(hyp.get(key, YOLOX_POSE_RECIPE[key]))  # noqa: E731
        self.gains |= {"kpt": value("pose_oks"), "vis": value("pose_vis")}
        self.l1_gain = value("pose_l1")
        self.oks_cost, self.visibility_cost = value("pose_oks_cost"), value("pose_vis_cost")

    def prepare(self, batch: Batch) -> ObjectTargets:
        """Collect the labels.

        Raises:
            ModelError: the batch has no keypoints, or another number of them.
        """
        count = 0 if batch.keypoints is None else batch.keypoints.shape[2]
        if count != len(self.sigmas):
            raise ModelError(f"the pose head has {len(self.sigmas)} keypoints, but the labels have {count}")
        return replace(super().prepare(batch), keypoints=batch.keypoints.float())

    def _pair_cost(self, flat: Tensor, points: AnchorPoints, targets: ObjectTargets) -> PairCost:
        tolerance = oks_tolerance(targets.boxes, self.sigmas, self.form)
        first = 5 + self.num_classes
        outputs = flat[..., first : first + 3 * len(self.sigmas)]
        return _KeypointCost(outputs, points, targets.keypoints, tolerance, self.oks_cost, self.visibility_cost)

    def similarity(self, positives: Positives, targets: ObjectTargets) -> tuple[Tensor, Tensor, Tensor]:
        """Compare the keypoints of the positive points with those of their objects.

        Returns:
            OKS (B, S); the mean distance of visible keypoints, |x| + |y| as a share of the box' diagonal (B, S); which
            keypoints are visible (B, S, K).
        """
        labelled = rows_at(targets.keypoints.flatten(2), positives.object).unflatten(-1, (-1, 3))
        labelled = labelled.to(positives.values.dtype)
        visible = (labelled[..., 2] > 0).to(labelled.dtype)
        first = 5 + self.num_classes
        offsets = positives.values[..., first : first + 2 * len(self.sigmas)]
        predicted = decode_keypoints_at(offsets, positives.corners, positives.strides)
        tolerance = oks_tolerance(positives.boxes, self.sigmas, self.form)
        off = (predicted - labelled[..., :2]).abs().sum(-1) * visible
        diagonal = positives.boxes[..., 2:].square().sum(-1).sqrt().clamp(min=1)
        distance = off.sum(-1) / visible.sum(-1).clamp(min=1) / diagonal
        return keypoint_similarity(predicted, labelled[..., :2], visible, tolerance), distance, visible

    def _parts(self, flat: Tensor, positives: Positives, targets: ObjectTargets) -> dict[str, Tensor]:
        similarity, distance, visible = self.similarity(positives, targets)
        parts = super()._parts(flat, replace(positives, fit=similarity.detach().sqrt()), targets)
        first = 5 + self.num_classes + 2 * len(self.sigmas)
        logits = positives.values[..., first : first + len(self.sigmas)]
        entropy = (F.softplus(logits) - logits * visible).sum(-1)
        weighted = visible.sum(-1) * positives.weight
        kpt = ((1 - similarity) * positives.weight).sum() * self.gains["kpt"]
        if self.l1_gain:
            # OKS has no slope where a keypoint is far off, so persons of whom only a face is labelled are never learnt.
            kpt = kpt + (distance * positives.weight).sum() * self.l1_gain
        vis = (entropy * positives.weight).sum() / weighted.sum().clamp(min=1) * positives.count
        return {**parts, "kpt": kpt, "vis": vis * self.gains["vis"]}


@dataclass(frozen=True)
class _KeypointCost:
    """Cost of keypoints in the assignment: ``-ln(OKS)``, and the mean cross entropy of visibility.

    Attributes:
        outputs: (B, A, 3K) raw offsets and visibilities.
        points: the anchor points.
        keypoints: (B, M, K, 3) labels.
        tolerance: (B, M, K) from ``oks_tolerance``.
        oks_weight: of the first part.
        visibility_weight: of the second part.
    """

    outputs: Tensor
    points: AnchorPoints
    keypoints: Tensor
    tolerance: Tensor
    oks_weight: float
    visibility_weight: float

    def at(self, points: Tensor) -> Callable[[slice], Tensor]:
        """Return a function that gives the cost (B, g, P) of some objects at points (B, P)."""
        outputs = rows_at(self.outputs, points).float()
        count = self.keypoints.shape[2]
        corners, strides = self.points.corners[points], self.points.strides[points]
        predicted = decode_keypoints_at(outputs[..., : 2 * count], corners, strides)
        visible = (self.keypoints[..., 2] > 0).float()
        logits = outputs[..., 2 * count :]

        def cost(some: slice) -> Tensor:
            labelled = self.keypoints[:, some, :, :2]
            similarity = pairwise_keypoint_similarity(predicted, labelled, visible[:, some], self.tolerance[:, some])
            total = similarity.add_(_EPSILON).log_().mul_(-self.oks_weight)
            if self.visibility_weight:
                entropy = F.softplus(logits).sum(-1)[:, None] - torch.matmul(visible[:, some], logits.mT)
                total += entropy * (self.visibility_weight / count)
            return total

        return cost
