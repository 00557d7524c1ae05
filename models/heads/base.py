"""The Head contract: a head is a row of the graph that knows its own loss, decoding and evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from data.keypoints import KeypointSpec
from data.samples import Batch, Placement
from models.predictions import PostprocessOptions
from models.registry import RowBlock
from models.views import Level


class Targets(Protocol):
    """What a criterion makes of a batch's labels before it sees any prediction.

    Attributes:
        normalizers: (k,) float32, the batch's own denominators (images, matches, labelled pixels ...).
    """

    normalizers: Tensor

    def to(self, device: torch.device) -> Targets:
        """Return the targets on ``device``."""
        ...


class Criterion(nn.Module):
    """A head's loss, in two steps: ``prepare`` reads the labels alone, calling it weighs raw outputs.

    A loss is a mean over a nominal batch: over its images, its matched objects or its labelled pixels. Cutting the
    nominal batch into micro-batches must not change it, so the training loop adds up the ``normalizers`` of all its
    micro-batches before the first backward pass and hands the sum to each call as ``totals``.

    Class attributes:
        watched: names of what ``seen`` returns, which results show beside the losses and nobody learns from.
    """

    watched: ClassVar[tuple[str, ...]] = ()

    def prepare(self, batch: Batch) -> Targets:
        """Turn a batch's labels into targets; runs wherever the batch lies, usually still on the CPU."""
        raise TypeError(f"{type(self).__name__} does not prepare targets")

    def forward(self, raw: Any, targets: Targets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Return named scalar losses, already weighted, of this micro-batch's share of the nominal batch.

        Args:
            raw: what the head's ``forward`` returned.
            targets: what ``prepare`` made of the micro-batch.
            totals: (k,) sum of ``normalizers`` over the nominal batch; None when this batch is the whole of it.
        """
        raise TypeError(f"{type(self).__name__} does not weigh outputs")

    def seen(self) -> Mapping[str, Tensor]:
        """Return what is ``watched`` of the latest call, scalars without a gradient.

        They are this micro-batch's shares of the nominal batch's numbers, as losses are.
        """
        return {}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Hear that an epoch starts; a loss that has phases, such as a part for the last epochs alone, changes here.

        The training loop calls it at the start of every epoch and after a resume.

        Args:
            epoch: from 0.
            epochs: of the whole run.
        """

    @property
    def resting(self) -> Mapping[str, int | None]:
        """Parts that are off at present, with the epoch, from 0, in which each begins, or None for never."""
        return {}


class Head(RowBlock):
    """Base of every head.

    Class attributes:
        task: ``detect``, ``segment`` or ``pose``; also the default name of the head's output.
        targets: the Batch fields its criterion reads.
        evaluator: the name of the evaluator in ``utils.metrics`` that measures it.
        loss_names: names of the criterion's parts, in the order in which results show them; an instance has its own
            where they follow from its layers.
        loss_groups: of a head with many parts, such as one for every layer: what the progress line shows instead, each
            the sum of some parts; empty where it shows every part.
        recipe: the recipe keys that its criterion reads, with their defaults; keys of heads may coincide only where
            their defaults do.
        derived_buffers: names of its buffers that follow from the rows of the model, such as anchors; other weights
            do not replace them.
        keypoints_argument: position of the number of keypoints in its row; None for heads without keypoints.
        class_arguments: positions of arguments of its row that describe its classes one by one, such as their ids; they
            are left out where the number of classes changes.
        reads_suffix_alone: whether it reads no tokens of its source rows but those behind the patches, so that a model
            for running need not compute the others in the end.
        knows_padding: whether it says of a padded picture what it says of the picture alone, where the rows before it
            know its valid area. Where a head does not, pictures of different sizes do not share a pass.
        test_confidence: least confidence, 0..1, of an object that counts in a test; 0 where each of a few candidates
            stands for itself, so that all of them count.

    Attributes:
        num_classes: number of classes.
        keypoints: what its keypoints are; None for heads without any.
        counted_decoding: operations of decoding a cell's prediction that tables of MMDetection's family count, see
            ``models.operations``.
    """

    takes_list: ClassVar[bool] = True
    task: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    evaluator: ClassVar[str]
    loss_names: tuple[str, ...]
    loss_groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    recipe: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    derived_buffers: ClassVar[tuple[str, ...]] = ()
    keypoints_argument: ClassVar[int | None] = None
    class_arguments: ClassVar[tuple[int, ...]] = ()
    reads_suffix_alone: ClassVar[bool] = False
    knows_padding: ClassVar[bool] = False
    test_confidence: ClassVar[float] = 0.001
    num_classes: int
    keypoints: KeypointSpec | None = None
    counted_decoding: int = 0

    def set_strides(self, strides: list[int]) -> None:
        """Take the strides of the source rows in input pixels; the graph calls it once, after shape inference."""

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> Criterion:
        """Return the loss under a recipe.

        Args:
            hyp: the recipe's hyperparameters.
            image_size: training size in pixels. Published gains are meant for one size, class count and number of
                levels; with a size they are scaled from there as the family does it, with None they are taken as given.
        """
        raise TypeError(f"{type(self).__name__} has no criterion")

    def adapt_to_objects(self, wh: np.ndarray, hyp: Mapping[str, Any], rng: np.random.Generator) -> dict[int, Any]:
        """Return row arguments (position -> value) that suit the training objects better than the row's own.

        Args:
            wh: (n, 2) widths and heights of the training objects in pixels at training size.
            hyp: the recipe.
            rng: source of randomness.

        Returns:
            The arguments to change; empty for heads that have nothing to fit, and when the row's own serve.
        """
        return {}

    def predict(self, raw: Any, image_size: tuple[int, int]) -> Any:
        """Decode raw outputs for a network input of ``image_size`` (height, width); still batched, no suppression."""
        raise TypeError(f"{type(self).__name__} cannot predict")

    def predict_without(self, level: Level, raw: Any, image_size: tuple[int, int]) -> Any:
        """Decode one of several passes over the same picture, whose outermost ``level`` another pass serves better.

        Heads without levels, or with a single one, leave nothing out.
        """
        return self.predict(raw, image_size)

    def drop_training_branch(self) -> None:
        """Forget what serves training alone, in a model that will only run from now on; most have no such part."""

    def own_options(self, options: PostprocessOptions) -> PostprocessOptions:
        """Return how this head's predictions become results where something is asked for; most do as they are asked."""
        return options

    def postprocess(self, predictions: Any, options: PostprocessOptions, placements: list[Placement]) -> list[Any]:
        """Turn batched predictions into one result per image, in native pixels."""
        raise TypeError(f"{type(self).__name__} cannot postprocess")
