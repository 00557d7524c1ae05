"""What answers for a picture: one graph or several together, each looking at it once or several times.

An exported file stands where a graph does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.transforms.letterbox import LetterboxRule
from models.exported.model import ExportedModel
from models.exported.paths import is_exported
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.heads.base import Head
from models.padded_batches import cut_to_size, pictures_by_size
from models.predictions import Predictions
from models.views import SINGLE, Pass, look
from models.weights import load_model
from utils.devices import autocast_dtype
from utils.errors import UsageError

LOGGER = logging.getLogger("yolograph")

RGB_CHANNELS = 3
Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels of every picture's own input, measured from the upper left corner of a padded batch."""


class Inference:
    """Graphs with the same heads that answer together.

    Every graph makes every pass, and what they predict is combined head by head: boxes are laid side by side before
    suppression, masks are averaged. Calling it changes no gradient mode; callers use ``torch.inference_mode``.

    Args:
        graphs: one or more, in eval mode, all on one device, with equal heads and letterboxes; ``load_inference`` holds
            them against each other. Each is a graph or an exported file.
        passes: how each graph looks at an input.

    Raises:
        UsageError: an exported file shall look more than once.

    Attributes:
        heads: every head by name; those of the first graph, which also turn the predictions into results.
        names: class names per head.
        stride: height and width of inputs are multiples of it, pixels.
        letterbox: how pictures lie within inputs; the graphs' own, but no shared rectangles for passes that are apart.
    """

    def __init__(self, graphs: Sequence[Graph | ExportedModel], passes: Sequence[Pass] = SINGLE) -> None:
        self.graphs, self.passes = tuple(graphs), tuple(passes)
        if self.files and any(not each.plain for each in self.passes):
            raise UsageError(
                f"--augment and --tta change pictures within the network, but {self.files[0].path} takes whole pixels; "
                "leave them out, or give the checkpoint that the file was made from"
            )
        self.heads: dict[str, Head] = self.graphs[0].heads
        self.names: dict[str, list[str]] = self.graphs[0].names
        # Strides are powers of two as a rule, and then this is the largest.
        self.stride: int = math.lcm(*(graph.stride for graph in self.graphs))
        own = self.graphs[0].letterbox
        apart = all(each.apart for each in self.passes)
        self.letterbox: LetterboxRule = own.without_shared_rectangles() if apart else own

    @property
    def files(self) -> tuple[ExportedModel, ...]:
        """Those of the graphs that are exported files."""
        return tuple(graph for graph in self.graphs if isinstance(graph, ExportedModel))

    @property
    def device(self) -> torch.device:
        """Where the graphs are."""
        first = self.graphs[0]
        return first.device if isinstance(first, ExportedModel) else next(first.parameters()).device

    def __call__(
        self, images: Tensor, heads: Iterable[str], dtype: torch.dtype | None = None, sizes: Sizes | None = None
    ) -> dict[str, Any]:
        """Return the decoded predictions of the asked heads.

        What is said of a picture does not depend on those that share its batch, also where it is padded for their sake.

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W multiples of ``stride``.
            heads: names of heads.
            dtype: reduced format of the graphs' passes, None for float32; predictions are float32.
            sizes: (height, width) of every picture's own input, which begins in the upper left corner; what lies
                beyond is padding. None where all fill the batch.
        """
        heads = tuple(heads)
        answers = [answer for graph in self.graphs for answer in self._answers(graph, images, heads, dtype, sizes)]
        if len(answers) == 1:
            return answers[0]
        if all(each.apart for each in self.passes):
            answers = [{head: found[head].of_view(i) for head in heads} for i, found in enumerate(answers)]
        return {head: _combine([answer[head] for answer in answers]) for head in heads}

    def _answers(
        self,
        graph: Graph | ExportedModel,
        images: Tensor,
        heads: tuple[str, ...],
        dtype: torch.dtype | None,
        sizes: Sizes | None,
    ) -> list[dict[str, Any]]:
        """Return one graph's predictions of every pass; of a padded batch, as if nothing were padded."""
        if not sizes or self._sees_through_padding(graph, heads):
            return self._passes(graph, images, heads, dtype, sizes)
        groups = pictures_by_size(sizes)
        found = [
            self._passes(graph, cut_to_size(images, pictures, size, graph.stride), heads, dtype)
            for size, pictures in groups.items()
        ]
        places, canvas = list(groups.values()), (images.shape[-2], images.shape[-1])
        return [
            {head: _stack([answers[i][head] for answers in found], places, canvas) for head in heads}
            for i in range(len(self.passes))
        ]

    def _sees_through_padding(self, graph: Graph | ExportedModel, heads: tuple[str, ...]) -> bool:
        """Whether a padded batch can go through a graph whole: a mirrored picture would lie behind its padding."""
        plain = all(each.plain for each in self.passes)
        return plain and graph.takes_sizes and all(graph.heads[name].knows_padding for name in heads)

    def _passes(
        self,
        graph: Graph | ExportedModel,
        images: Tensor,
        heads: tuple[str, ...],
        dtype: torch.dtype | None,
        sizes: Sizes | None = None,
    ) -> list[dict[str, Any]]:
        """Return one graph's predictions of every pass over inputs of one size, or over a padded batch it knows of."""
        if isinstance(graph, ExportedModel):
            return [graph.predict(images, heads)]
        if any(not each.plain for each in self.passes):
            grey = images.new_full((1, images.shape[1], 1, 1), self.letterbox.pad, dtype=torch.uint8)
            images, grey = graph.preprocess(images), graph.preprocess(grey).flatten()
        # A picture that fills its input is taught to no grey: its views fill theirs too.
        whole = graph.stride if self.letterbox.by_short_side else None
        answers = []
        for each in self.passes:
            view = each.view(images.shape[-2:], whole)
            seen = images if each.plain else look(images, view, graph.stride, grey)
            size = seen.shape[-2], seen.shape[-1]
            with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
                raw = graph(seen, heads=heads) if sizes is None else graph(seen, heads=heads, sizes=sizes)
            found = {name: _decode(graph.heads[name], raw.pop(name), size, each) for name in heads}
            answers.append(found if each.plain else {name: found[name].undo(view) for name in heads})
        return answers


def _decode(head: Head, raw: Any, size: tuple[int, int], each: Pass) -> Predictions:
    if each.leave_out is None:
        return head.predict(raw, size)
    return head.predict_without(each.leave_out, raw, size)


def _combine(parts: list[Predictions]) -> Predictions:
    return type(parts[0]).combine(parts)


def _stack(parts: list[Predictions], places: list[list[int]], size: tuple[int, int]) -> Predictions:
    return type(parts[0]).stack(parts, places, size)


def as_inference(model: Graph | Inference) -> Inference:
    """Return what answers for a single graph, looking once; an ``Inference`` is returned as it is."""
    return Inference([model]) if isinstance(model, Graph) else model


def load_inference(
    weights: Sequence[str | Path],
    device: torch.device | None = None,
    passes: Sequence[Pass] = SINGLE,
    deploy: bool = False,
    at_once: int = 1,
) -> Inference:
    """Load one or more trained models to answer together, their BatchNorms folded.

    Args:
        weights: paths of weights, or of files that ``export.py`` has written.
        device: where to run, None for the CPU.
        passes: how each model looks at a picture.
        deploy: re-parameterise the models too, see ``models.fusing.deploy_graph``; the answers are the same.
        at_once: threads that will ask exported files at the same time; graphs are copied for them.

    Raises:
        ModelError: a file is missing or damaged.
        UsageError: two models do not have the same heads, classes and letterbox, or one does not take three channels;
            an exported file cannot do what is asked for, or nothing installed can run it.
    """
    graphs = [_load(path, device, deploy, at_once) for path in weights]
    for path, graph in zip(weights, graphs, strict=True):
        if graph.spec.channels != RGB_CHANNELS:
            raise UsageError(f"{path}: takes {graph.spec.channels} channels, but pictures have {RGB_CHANNELS}")
    choosing = [path for path, graph in zip(weights, graphs, strict=True) if getattr(graph, "gives_objects", False)]
    if choosing and len(graphs) > 1:
        raise UsageError(
            f"--weights: {choosing[0]} chooses its objects itself (--nms), so it cannot answer together with other "
            "models; give it alone, or export it without --nms"
        )
    for path, graph in zip(weights[1:], graphs[1:], strict=True):
        require_same_answers(graphs[0], graph, weights[0], path)
        require_same_letterbox(graphs[0], graph, weights[0], path)
    return Inference(graphs, passes)


def _load(path: str | Path, device: torch.device | None, deploy: bool, at_once: int) -> Graph | ExportedModel:
    """Return a graph ready to run, or an exported file in its place."""
    if not is_exported(path):
        return (deploy_graph if deploy else fuse_graph)(load_model(path, device))
    if deploy:
        raise UsageError(f"--deploy: {path} runs in the form in which it was written; leave the option out")
    model = ExportedModel(path, device or torch.device("cpu"), at_once)
    if not model.description.checked:
        LOGGER.warning("%s was written without a check; nobody knows whether it computes what the model does", path)
    return model


def forward_format(model: Inference, wanted: str) -> torch.dtype | None:
    """Return the reduced format of a model's passes, or None for float32 and for the formats of exported files.

    Args:
        model: what answers.
        wanted: see ``utils.devices.autocast_dtype``.

    Raises:
        UsageError: a format is asked for that the model cannot run in.
    """
    if not model.files:
        return autocast_dtype(model.device, wanted)
    if wanted in ("auto", "float32"):
        return None
    option = "--half" if wanted == "half" else f"--dtype {wanted}"
    raise UsageError(
        f"{option}: {model.files[0].path} computes in the format in which it was written; leave the option out, or "
        "export the model anew with --half"
    )


def require_same_letterbox(
    first: Graph | ExportedModel, other: Graph | ExportedModel, first_path: str | Path, other_path: str | Path
) -> None:
    """Make sure that two graphs want pictures to lie in the same place of the input, because both look at one input.

    Raises:
        UsageError: they do not; the sentence names both files and rules.
    """
    if first.letterbox != other.letterbox:
        raise UsageError(
            f"--weights: the letterbox of {first_path} is {first.letterbox}, but that of {other_path} is "
            f"{other.letterbox}; models answer together only with the same one"
        )


def require_same_answers(
    first: Graph | ExportedModel, other: Graph | ExportedModel, first_path: str | Path, other_path: str | Path
) -> None:
    """Make sure that two graphs answer the same questions.

    Raises:
        UsageError: their heads, tasks or class names differ; the sentence names both files and the difference.
    """
    tasks, other_tasks = ({name: head.task for name, head in graph.heads.items()} for graph in (first, other))
    if tasks != other_tasks:
        heads, other_heads = (
            ", ".join(f"'{name}' ({task})" for name, task in found.items()) for found in (tasks, other_tasks)
        )
        raise UsageError(
            f"--weights: {first_path} has the heads {heads}, but {other_path} has {other_heads}; "
            "models answer together only with the same heads"
        )
    for name in tasks:
        difference = _names_difference(first, other, name)
        if difference:
            raise UsageError(
                f"--weights: head '{name}' of {first_path} has {difference[0]}, but that of {other_path} has "
                f"{difference[1]}; models answer together only with the same classes"
            )
        keypoints, other_keypoints = first.heads[name].keypoints, other.heads[name].keypoints
        if keypoints != other_keypoints:
            own, others = (0 if spec is None else len(spec) for spec in (keypoints, other_keypoints))
            raise UsageError(
                f"--weights: the keypoints of head '{name}' differ between {first_path} ({own}) and {other_path} "
                f"({others}) in number, names, mirror partners, sigmas or skeleton; models answer together only with "
                "the same keypoints"
            )


def _names_difference(first: Graph, other: Graph, head: str) -> tuple[str, str] | None:
    """Return what each of two graphs says where the classes of a head differ."""
    counts = first.heads[head].num_classes, other.heads[head].num_classes
    if counts[0] != counts[1]:
        return f"{counts[0]} classes", f"{counts[1]}"
    pairs = zip(first.names[head], other.names[head], strict=False)
    differing = [(i, *pair) for i, pair in enumerate(pairs) if pair[0] != pair[1]]
    if not differing:
        return None
    index, ours, theirs = differing[0]
    return f"the name '{ours}' for class {index}", f"'{theirs}'"
