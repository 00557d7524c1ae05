"""Pictures in, results out: letterbox, the model's answer, and suppression for every asked head."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import torch

from data.samples import Placement, unless_equal
from data.transforms.letterbox import plan_for_stride
from data.transforms.letterbox_batch import LetterboxBatch
from models.graph import Graph
from models.inference import Inference, as_inference
from models.predictions import PostprocessOptions
from utils.boxes import LetterboxPlan
from utils.stage_clock import StageClock

STAGES = ("preprocess", "inference", "postprocess")

Item = TypeVar("Item")


class Predictor:
    """Runs heads over batches of pictures. Heads with the same input size share one pass.

    Args:
        model: a graph, or what else answers for pictures, in eval mode on ``device``.
        sizes: per head to run, the longer side of the picture in the network's input, pixels; its shorter side where
            the model's letterbox goes by that.
        options: thresholds of the results, the same for all heads or by head.
        device: where the model is.
        dtype: reduced format of forward passes, None for float32.
        clock: gets the time of the stages in ``STAGES``.

    Attributes:
        heads_by_size: heads that share a pass, by the size of their input.
        order: of the heads in results.
    """

    def __init__(
        self,
        model: Graph | Inference,
        sizes: dict[str, int],
        options: PostprocessOptions | Mapping[str, PostprocessOptions],
        device: torch.device,
        dtype: torch.dtype | None,
        clock: StageClock,
    ) -> None:
        self.model = as_inference(model)
        self.options = dict.fromkeys(sizes, options) if isinstance(options, PostprocessOptions) else dict(options)
        self.device, self.dtype, self.clock = device, dtype, clock
        self.heads_by_size = {size: [head for head in sizes if sizes[head] == size] for size in sizes.values()}
        self.order = list(sizes)
        self._inputs = {size: LetterboxBatch(pinned=device.type == "cuda") for size in self.heads_by_size}

    def input_shapes(self, image: np.ndarray) -> tuple[tuple[int, int], ...]:
        """Return the (height, width) of every input that a picture needs; equal ones can share a batch."""
        return tuple(self._plan(image, size).out for size in self.heads_by_size)

    def shape_text(self, image: np.ndarray) -> str:
        """Return the input of a picture as ``480x640``; with a second input size, both."""
        return " and ".join(f"{height}x{width}" for height, width in self.input_shapes(image))

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return the results of every picture by head, in native pixels.

        Pictures of the same ``input_shapes`` share a pass best. Others are padded to the largest, which costs time and
        changes no result.

        Args:
            images: (H, W, 3) uint8 RGB each.
        """
        found: dict[str, list[Any]] = {}
        for size, heads in self.heads_by_size.items():
            predictions, placements = self.look(images, size, heads)
            with self.clock.time("postprocess"):
                for head in heads:
                    found[head] = self.model.heads[head].postprocess(predictions[head], self.options[head], placements)
        return [{head: found[head][i] for head in self.order} for i in range(len(images))]

    def look(
        self, images: Sequence[np.ndarray], size: int, heads: Sequence[str]
    ) -> tuple[dict[str, Any], list[Placement]]:
        """Return what some heads predict for pictures, before suppression, and where these lie in their inputs.

        Args:
            images: (H, W, 3) uint8 RGB each.
            size: of the pictures in the input.
            heads: names.
        """
        with self.clock.time("preprocess"):
            plans = [self._plan(image, size) for image in images]
            # Bytes go to the device, a quarter of what floats would be; the graph makes floats of them there.
            batch = self._inputs[size].fill(images, plans).to(self.device, non_blocking=self.device.type == "cuda")
        with self.clock.time("inference"):
            predictions = self.model(batch, heads, self.dtype, unless_equal([plan.out for plan in plans]))
            # The inputs' memory is used again, so nothing may still be on its way out of it.
            self._wait()
        return predictions, [plan.placement for plan in plans]

    def twin(self) -> Self:
        """Return a predictor for use by another thread at the same time: with the same weights, options and clock.

        Modules keep what they have worked out about their last input, so two threads cannot share them. Exported files
        keep nothing and are shared.
        """
        graphs = [graph for graph in getattr(self.model, "graphs", ()) if isinstance(graph, Graph)]
        weights = [tensor for graph in graphs for tensor in (*graph.parameters(), *graph.buffers())]
        return copy.deepcopy(self, {id(shared): shared for shared in (*weights, self.clock)})

    def warm_up(self, size: int) -> None:
        """Let a GPU choose its kernels on an empty picture, so that the first real one is not slow."""
        if self.device.type != "cpu":
            before = dict(self.clock.seconds)
            # As a whole, also where pictures are cut: one of this size may have thousands of tiles.
            Predictor.__call__(self, [np.zeros((size, size, 3), np.uint8)])
            self.clock.seconds = before

    def _plan(self, image: np.ndarray, size: int) -> LetterboxPlan:
        return plan_for_stride(image.shape[:2], size, self.model.stride, self.model.letterbox)

    def _wait(self) -> None:
        """Let queued GPU work finish, so that a clock read afterwards tells the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def group_equal(items: Iterable[tuple[Any, Item]], most: int) -> Iterator[list[Item]]:
    """Yield runs of consecutive items with equal keys, each at most ``most`` long, as soon as they are complete.

    Args:
        items: (key, item) pairs.
        most: items per group.
    """
    group: list[Item] = []
    current = None
    for key, item in items:
        if group and (key != current or len(group) == most):
            yield group
            group = []
        current = key
        group.append(item)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group
