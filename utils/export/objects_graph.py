"""The module of a file that answers with objects: thresholds, suppression and the best few behind every head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.graph import Graph
from models.object_rules import ObjectRule, object_rules
from models.predictions import Detections, Masks, Poses, PostprocessOptions
from utils.export.exported_graph import NCHW, ExportedGraph
from utils.export.suppression import GONE, suppressed

CLASS_MAP = "classmap"
"""Field of the class of every pixel."""


class ObjectsGraph(ExportedGraph):
    """A graph with preprocessing in front and, behind every head, what makes objects of its candidates.

    A head that finds boxes has the outputs ``HEAD_boxes`` (B, M, 4), ``HEAD_scores`` (B, M) descending,
    ``HEAD_classes`` (B, M) int64 and ``HEAD_count`` (B,) int64, one for poses also ``HEAD_keypoints`` (B, M, K, 3).
    What lies behind the count is 0. A head for segmentation has ``HEAD_classmap`` (B, H, W) uint8.

    Args:
        graph: the model; the wrapper puts it into eval mode.
        heads: names of the heads to run.
        options: thresholds and limits, as in detecting.
        layout: of the input's axes.

    Attributes:
        rules: how candidates become objects, by the name of every head that finds boxes.

    Raises:
        ModelError: the model has no such head.
    """

    answers = "objects"

    def __init__(self, graph: Graph, heads: Iterable[str], options: PostprocessOptions, layout: str = NCHW) -> None:
        super().__init__(graph, heads, layout)
        self.rules: dict[str, ObjectRule] = object_rules(graph, self._distinct(), options)

    @torch.no_grad()
    def _distinct(self) -> dict[str, bool]:
        predictions = self._predictions(self._sample())
        return {name: each.distinct for name, each in predictions.items() if isinstance(each, Detections)}

    def _named(self, predictions: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        found = {}
        for head, answer in predictions.items():
            if isinstance(answer, Masks):
                outputs = {CLASS_MAP: answer.logits.argmax(1).to(torch.uint8)}
            else:
                outputs = objects_of(answer, self.rules[head])
            found[head] = {f"{head}_{field}": tensor for field, tensor in outputs.items()}
        return found


def objects_of(candidates: Detections, rule: ObjectRule) -> dict[str, Tensor]:
    """Return the objects among candidates by field, in shapes that do not depend on what there is to see.

    Args:
        candidates: of a batch, float32.
        rule: what is kept.
    """
    scores, objectness = candidates.scores, candidates.objectness
    num_classes = scores.shape[-1]
    if rule.every_class:
        scores = scores if objectness is None else scores * objectness[..., None]
        confidences, classes = scores.flatten(1), _every_class(scores).flatten(1)
        finite = candidates.boxes.isfinite().all(-1, keepdim=True).expand(scores.shape).flatten(1)
        per_row = num_classes
    else:
        # The likeliest class is that whatever the objectness, and this multiplies one number of a candidate, not all.
        best, classes = scores.max(-1)
        confidences = best if objectness is None else best * objectness
        finite, per_row = candidates.boxes.isfinite().all(-1), 1
    confidences = torch.where((confidences > rule.confidence) & finite, confidences, GONE)
    if rule.overlap is not None:
        boxes = candidates.boxes.repeat_interleave(per_row, 1) if per_row > 1 else candidates.boxes
        confidences = suppressed(boxes, confidences, classes, rule.overlap, rule.most, num_classes)
    # Where there are fewer pairs than places, these fill them up.
    filled = torch.nn.functional.pad(confidences, (0, rule.most), value=GONE)
    best, pairs = filled.topk(rule.most, 1)
    there = best >= 0
    pairs = torch.where(there, pairs, 0)
    rows = pairs // per_row
    objects = {
        "boxes": _of_rows(candidates.boxes, rows, there),
        "scores": torch.where(there, best, 0),
        "classes": torch.where(there, classes.gather(1, pairs), 0),
        "count": there.sum(1),
    }
    if isinstance(candidates, Poses):
        keypoints = _of_rows(candidates.keypoints.flatten(2), rows, there)
        objects["keypoints"] = keypoints.unflatten(2, candidates.keypoints.shape[2:])
    return objects


def _every_class(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[-1], device=scores.device).expand(scores.shape)


def _of_rows(values: Tensor, rows: Tensor, there: Tensor) -> Tensor:
    """Return (B, M, F) values of (B, M) rows of (B, N, F), 0 where nothing is there."""
    chosen = values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))
    return torch.where(there[..., None], chosen, 0)
