"""The outputs of an exported file as the predictions that a head makes of its own raw outputs.

Shape suffixes: B images, N candidates or chosen objects, C classes, H rows, W columns, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.exported.description import OBJECTS, Description
from models.predictions import ClassMaps, Detections, Masks, Poses
from utils.errors import ModelError

FIELDS = {
    "candidates": {
        "segment": ("logits",),
        "detect": ("boxes", "scores"),
        "pose": ("boxes", "scores", "keypoints"),
    },
    "objects": {
        "segment": ("classmap",),
        "detect": ("boxes", "scores", "classes", "count"),
        "pose": ("boxes", "scores", "classes", "count", "keypoints"),
    },
}
"""What a file says of a head, by what it answers and by the head's task; ``HEAD_FIELD`` is the name of an output."""


def require_outputs(description: Description) -> None:
    """Make sure that a file's outputs are enough for its heads.

    Raises:
        ModelError: one is missing.
    """
    for name, head in description.heads.items():
        for field in FIELDS[description.answers][head.task]:
            if f"{name}_{field}" not in description.outputs[name]:
                raise ModelError(
                    f"{description.path}: has no output '{name}_{field}', which the head '{name}' needs; export the "
                    "model again"
                )


def predictions_of(outputs: Mapping[str, Tensor], name: str, description: Description) -> Detections | Masks:
    """Return what a file predicts for one head.

    Chosen objects are candidates that each answer for one class. They suppress each other once more, which changes
    nothing at the file's own thresholds and lets others be stricter.

    Args:
        outputs: of the file, by name.
        name: of the head.
        description: of the file.

    Raises:
        ModelError: a shape or a class does not fit the head.
    """
    head, answers = description.heads[name], description.answers
    absent = [f"{name}_{field}" for field in FIELDS[answers][head.task] if f"{name}_{field}" not in outputs]
    if absent:
        raise ModelError(f"{description.path}: gives no output '{absent[0]}' as it says; export the model again")
    of_head = {field: outputs.get(f"{name}_{field}") for field in (*FIELDS[answers][head.task], "objectness")}
    if head.task == "segment":
        return ClassMaps(of_head["classmap"], head.num_classes) if answers == OBJECTS else Masks(of_head["logits"])
    scores_BNC = of_head["scores"]
    if answers == OBJECTS:
        scores_BNC = _scores_of_objects(of_head, head.num_classes, description)
    if scores_BNC.shape[-1] != head.num_classes or scores_BNC.shape[:2] != of_head["boxes"].shape[:2]:
        raise ModelError(
            f"{description.path}: output '{name}_scores' of the shape {tuple(scores_BNC.shape)} does not fit the "
            f"{head.num_classes} classes of the head '{name}'; export the model again"
        )
    found = Detections(of_head["boxes"], scores_BNC, of_head["objectness"], distinct=name in description.distinct)
    if head.keypoints is None:
        return found
    return Poses(
        found.boxes,
        found.scores,
        found.objectness,
        distinct=found.distinct,
        keypoints=of_head["keypoints"],
        spec=head.keypoints,
    )


def _scores_of_objects(outputs: Mapping[str, Tensor], num_classes: int, description: Description) -> Tensor:
    """Return (B, N, C): the confidence of every object in its class, 0 for all else and behind the last object."""
    scores_BN, classes_BN = outputs["scores"], outputs["classes"].long()
    places = torch.arange(scores_BN.shape[1], device=scores_BN.device)
    valid_BN = places < outputs["count"].view(-1, 1)
    classes_BN = torch.where(valid_BN, classes_BN, 0)
    if bool(((classes_BN < 0) | (classes_BN >= num_classes)).any()):
        raise ModelError(f"{description.path}: answers with a class that it has no name for; export the model again")
    scores_BNC = scores_BN.new_zeros((*scores_BN.shape, num_classes))
    return scores_BNC.scatter_(2, classes_BN[..., None], (scores_BN * valid_BN)[..., None])
