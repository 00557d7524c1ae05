"""Evaluators: what measures a head's results against a batch's labels.

``build_evaluator`` makes the one that a head asks for. Every evaluator offers ``for_head(head, names)``,
``update(results, batch)``, ``compute()``, ``per_class()``, ``fitness()``, ``table(verbose)`` and ``plot(folder)``;
``state()`` and ``merge(state)`` join the parts of a test that ran in several processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.heads.base import Head
from utils.metrics.box_evaluator import BoxEvaluator
from utils.metrics.keypoint_evaluator import KeypointEvaluator
from utils.metrics.mask_evaluator import MaskEvaluator

Evaluator = BoxEvaluator | KeypointEvaluator | MaskEvaluator

EVALUATORS: dict[str, type[Evaluator]] = {
    "boxes": BoxEvaluator,
    "keypoints": KeypointEvaluator,
    "masks": MaskEvaluator,
}

__all__ = ["EVALUATORS", "BoxEvaluator", "Evaluator", "KeypointEvaluator", "MaskEvaluator", "build_evaluator"]


def build_evaluator(head: Head, names: Sequence[str]) -> Evaluator:
    """Return what measures a head, without images yet.

    Args:
        head: names its evaluator, and knows what else that one needs, such as keypoints.
        names: one name per class index of the data.
    """
    return EVALUATORS[head.evaluator].for_head(head, names)
