"""Grad-CAM: which places of a row's map speak for what a head has found.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017; for
areas Vinogradova et al., "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping",
2020.

Shape suffixes: B pictures, N candidate boxes, C channels of the row, h w cells of its map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.samples import Placement
from data.transforms.letterbox import apply_plan, plan_for_stride
from models.graph import Graph
from models.predictions import DetectionResult, Detections, Masks
from models.tokens import Tokens
from utils.boxes import scale_to_native
from utils.explain.native_maps import enlarge_smoothly
from utils.explain.rows import reads_places
from utils.mask_results import area_of

MOST_CLASSES = 5
"""Of a head and a picture; those that it is surest of, or that cover most."""

LEAST_AREA = 0.01
"""Share of the picture that a class of areas covers at least to be explained."""

_SURE = 1e-6
_OBJECTS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class ClassMap:
    """What speaks for one class in one picture.

    Attributes:
        class_index: of the head's classes.
        values: (H, W) float32, 0 and more, for every native pixel; 0 everywhere where nothing in the row speaks for it.
    """

    class_index: int
    values: np.ndarray


class GradCam:
    """Explains what heads have found by one row of a graph.

    What is explained of a picture is a class: all its objects together, or all its pixels. Its score is the sum of the
    logits of the objects' confidences, or the mean of its own logit over its pixels. A channel of the row weighs as
    much as the mean gradient of the score over the map; the map is the sum of the weighed channels where that is
    positive. Everything is computed in float32, for all pictures of equal input at once.

    Args:
        graph: in eval mode; a copy of it is kept. What a graph remembers of passes in inference mode, such as position
            tables, cannot have a gradient, and whoever uses the graph meanwhile is not disturbed.
        row: its index.
        sizes: per head that may be explained, of pictures in the input; see ``Predictor``.

    Attributes:
        heads: those that depend on places of the row.
    """

    def __init__(self, graph: Graph, row: int, sizes: Mapping[str, int]) -> None:
        self.graph, self.row, self.sizes = deepcopy(graph), row, sizes
        self.heads = [head for head in sizes if reads_places(graph, row, head)]

    def __call__(
        self, images: Sequence[np.ndarray], results: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, list[ClassMap]]]:
        """Explain what has been found in pictures.

        Args:
            images: (H, W, 3) uint8 RGB each.
            results: per picture and head, in native pixels, as the graph gives them.

        Returns:
            Per picture and head the maps of its classes, the surest or largest first.
        """
        explained: list[dict[str, list[ClassMap]]] = [{head: [] for head in self.heads} for _ in images]
        device = next(self.graph.parameters()).device
        for head in self.heads:
            size, rule = self.sizes[head], self.graph.letterbox
            plans = [plan_for_stride(image.shape[:2], size, self.graph.stride, rule) for image in images]
            for shape in dict.fromkeys(plan.out for plan in plans):
                members = [i for i, plan in enumerate(plans) if plan.out == shape]
                inputs = np.stack([apply_plan(images[i], plans[i]) for i in members])
                batch = torch.from_numpy(inputs).permute(0, 3, 1, 2).to(device)
                places = [plans[i].placement for i in members]
                maps = self._explain(head, batch, [results[i][head] for i in members], places)
                for i, of_picture in zip(members, maps, strict=True):
                    explained[i][head] = of_picture
        return explained

    def _explain(
        self, head: str, batch: Tensor, results: Sequence[Any], places: Sequence[Placement]
    ) -> list[list[ClassMap]]:
        # The caller may be in inference mode, where nothing learns where it came from.
        with torch.inference_mode(False), torch.enable_grad():
            batch = batch.clone()
            with _watching(self.graph.model[self.row]) as seen:
                raw = self.graph(batch, heads=(head,))[head]
            found = self.graph.heads[head].predict(raw, tuple(batch.shape[-2:]))
            scores = [
                _scores(found, i, result, place) for i, (result, place) in enumerate(zip(results, places, strict=True))
            ]
            maps: list[list[ClassMap]] = [[] for _ in results]
            for turn in range(max((len(of_picture) for of_picture in scores), default=0)):
                # Pictures do not touch each other, so one pass backwards serves one class of each of them.
                asked = {i: of_picture[turn] for i, of_picture in enumerate(scores) if turn < len(of_picture)}
                total = torch.stack([score for _, score in asked.values()]).sum()
                (gradient,) = torch.autograd.grad(total, seen.values, retain_graph=True)
                values = _weighed(seen.map_of(seen.values), seen.map_of(gradient))
                for i, (class_index, _) in asked.items():
                    native = enlarge_smoothly(values[i], places[i], self.graph.trace[self.row].stride)
                    maps[i].append(ClassMap(class_index, native))
        return maps


@dataclass
class _Seen:
    """What a row has given: its values, and how they lie in the picture."""

    values: Tensor | None = None
    tokens: Tokens | None = None

    def map_of(self, values: Tensor) -> Tensor:
        """Return values of the row, or gradients of them, as (B, C, h, w)."""
        if self.tokens is None:
            return values.detach()
        patches = self.tokens._replace(values=values.detach()).patches
        return patches.transpose(1, 2).unflatten(2, self.tokens.grid)


@contextmanager
def _watching(row: nn.Module) -> Iterator[_Seen]:
    """Keep what a row gives while the block runs, and let gradients begin there."""
    seen = _Seen()

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        seen.tokens = output if isinstance(output, Tokens) else None
        seen.values = (output if seen.tokens is None else output.values).detach().requires_grad_()
        # A copy, because a row behind it may work in place.
        copy = seen.values.clone()
        return copy if seen.tokens is None else output._replace(values=copy)

    handle = row.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _weighed(values: Tensor, gradient: Tensor) -> np.ndarray:
    """Return (B, h, w) float32 maps of (B, C, h, w) values and the gradients of scores by them."""
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * values).sum(1).relu().float().cpu().numpy()


def _scores(found: Detections | Masks, picture: int, result: Any, place: Placement) -> list[tuple[int, Tensor]]:
    """Return the classes of one picture that are explained, each with its score, which knows its gradient."""
    if isinstance(result, DetectionResult):
        return _scores_of_objects(found, picture, result, place)
    return _scores_of_areas(found, picture, place)


def _scores_of_objects(
    found: Detections, picture: int, result: DetectionResult, place: Placement
) -> list[tuple[int, Tensor]]:
    if len(result.classes) == 0:
        return []
    rows = _rows_of(found, picture, result, place)
    # A copy, because what comes from inference mode cannot be part of what has a gradient.
    classes = result.classes.clone().to(found.scores.device)
    confidence = found.scores[picture, rows, classes].float()
    if found.objectness is not None:
        confidence = confidence * found.objectness[picture, rows].float()
    logits = torch.logit(confidence, _SURE)
    # Results come with the surest first.
    told = list(dict.fromkeys(result.classes.tolist()))[:MOST_CLASSES]
    return [(index, logits[classes == index].sum()) for index in told]


def _rows_of(found: Detections, picture: int, result: DetectionResult, place: Placement) -> Tensor:
    """Return (k,) which candidates the objects of a result have been: at the same place, of the same confidence."""
    boxes = scale_to_native(found.boxes[picture].detach(), place)
    scores = found.scores[picture].detach().float()
    if found.objectness is not None:
        scores = scores * found.objectness[picture].detach().float()[:, None]
    wanted = zip(
        result.boxes.to(boxes).split(_OBJECTS_AT_ONCE),
        result.classes.to(boxes.device).split(_OBJECTS_AT_ONCE),
        result.scores.to(scores).split(_OBJECTS_AT_ONCE),
        strict=True,
    )
    rows = [
        (torch.cdist(own, boxes, p=1) + (scores[:, classes].T - confidence[:, None]).abs()).argmin(1)
        for own, classes, confidence in wanted
    ]
    return torch.cat(rows)


def _scores_of_areas(found: Masks, picture: int, place: Placement) -> list[tuple[int, Tensor]]:
    area = area_of(place)
    planes = found.planes(picture, 0, found.num_classes)
    logits = planes[0, :, area.top : area.top + area.rows, area.left : area.left + area.columns].float()
    best = logits.detach().argmax(0)
    covered = torch.bincount(best.flatten(), minlength=len(logits)).cpu()
    told = covered.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist()
    return [
        (index, logits[index][best == index].mean()) for index in told if covered[index] >= LEAST_AREA * best.numel()
    ]
