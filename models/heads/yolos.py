"""The detection head of YOLOS (Fang et al., arXiv:2106.00666): every [DET] token says a class and a box."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.samples import Placement
from models.heads.base import Head
from models.losses.set_prediction import YOLOS_RECIPE, SetCriterion
from models.predictions import DetectionResult, Detections, PostprocessOptions
from models.registry import Built, Scale, construct, register
from models.set_outputs import SetLayer, SetOutputs, extents
from models.tokens import Tokens, TokenWidth
from utils.boxes import xywh_to_xyxy
from utils.detection_results import detection_results
from utils.precision import full_precision

LOGGER = logging.getLogger("yolograph")


class TokenMLP(nn.ModuleList):
    """Three linear layers with ReLU between them, ``width`` wide inside.

    Args:
        width: channels of a token.
        c_out: channels of the answer.
    """

    def __init__(self, width: int, c_out: int) -> None:
        super().__init__((nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, c_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., c_out) for tokens (..., width)."""
        first, second, last = self
        return last(F.relu(second(F.relu(first(x)))))


@register
class YOLOSDetect(Head):
    """Two small networks that read the [DET] tokens; each token answers for one object or for none::

        tokens -> [DET] tokens -> | -> Linear, ReLU, Linear, ReLU, Linear -> L + 1 classes, the last is no object
                                  | -> Linear, ReLU, Linear, ReLU, Linear -> sigmoid -> centre x, y, width, height

    Boxes are fractions of the picture, or of its valid area within a padded batch. Nothing is suppressed: training lets
    one token answer for an object.

    Several source rows may be given: the last one answers, with the same weights the earlier ones are supervised too in
    training, if the recipe's ``set_earlier`` is above 0.

    Args:
        in_channels: widths of the tokens of the source rows, all the same.
        num_classes: number of classes.
        category_ids: for weights that know other labels than 0, 1, 2 ...: the label of every class, ascending, such as
            the ids of COCO's 80 categories among 0..90. There are ``L = max(category_ids) + 1`` labels then; answers
            are numbered by class again. Without it L is the number of classes.
    """

    task = "detect"
    targets = ("boxes", "classes")
    evaluator = "boxes"
    loss_names = ("cls", "box", "giou")
    recipe = YOLOS_RECIPE
    reads_tokens = True
    class_arguments = (1,)
    reads_suffix_alone = True
    knows_padding = True
    test_confidence = 0.0

    def __init__(self, in_channels: list[TokenWidth], num_classes: int, category_ids: list[int] | None = None) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"the number of classes is above 0, but it is {num_classes}")
        _check_sources(in_channels)
        _check_ids(category_ids, num_classes)
        self.num_classes = num_classes
        self.category_ids = None if category_ids is None else list(category_ids)
        self.labels = num_classes if category_ids is None else category_ids[-1] + 1
        self.sources, self.queries = len(in_channels), in_channels[0].suffix
        width = int(in_channels[0])
        self.class_mlp = TokenMLP(width, self.labels + 1)
        self.box_mlp = TokenMLP(width, 4)
        index = None if category_ids is None else torch.tensor(self.category_ids, dtype=torch.int64)
        self.register_buffer("label_of_class", index, persistent=False)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes]`` or ``[classes, category ids]``.

        Raises:
            ValueError: an argument is missing or of the wrong kind.
        """
        return Built(construct(cls, in_channels, *args), 0)

    def forward(self, features: list[Tokens]) -> SetOutputs:
        """Return logits and boxes of the last source row, in training those of the earlier ones too."""
        layers = [self._answer(x) for x in (features if self.training else features[-1:])]
        return SetOutputs(*layers[-1], features[-1].sizes, tuple(layers[:-1]))

    def _answer(self, x: Tokens) -> SetLayer:
        return SetLayer(full_precision(self.class_mlp(x.last)), full_precision(self.box_mlp(x.last)).sigmoid())

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> SetCriterion:
        """Return the set loss; its published gains hold for every size and class count."""
        criterion = SetCriterion(self.queries, hyp, self.category_ids)
        if self.sources > 1 and criterion.weight_of_earlier == 0:
            LOGGER.warning(
                "YOLOSDetect reads %d rows, but the recipe's set_earlier is 0, so only the last one learns",
                self.sources,
            )
        return criterion

    def predict(self, raw: SetOutputs, image_size: tuple[int, int]) -> Detections:
        """Decode to boxes in pixels of the network input, unclipped, one candidate per [DET] token."""
        scores = full_precision(raw.logits).softmax(-1)
        if self.label_of_class is None:
            scores = scores[..., : self.num_classes]
        else:
            scores = scores.index_select(-1, self.label_of_class)
        height, width = extents(raw.sizes, image_size, raw.boxes.device)
        x1, y1, x2, y2 = xywh_to_xyxy(full_precision(raw.boxes)).unbind(-1)
        boxes = torch.stack((x1 * width, y1 * height, x2 * width, y2 * height), -1)
        return Detections(boxes, scores, distinct=True)

    def postprocess(
        self, predictions: Detections, options: PostprocessOptions, placements: list[Placement]
    ) -> list[DetectionResult]:
        """Map boxes to native pixels; a token answers for its likeliest class alone, also in tests."""
        return detection_results(predictions, replace(options, multi_label=False), placements)


def _check_sources(in_channels: list[TokenWidth]) -> None:
    """Make sure that all source rows give the same kind of tokens.

    Raises:
        ValueError: they do not, or there are no [DET] tokens among these.
    """
    if len({(int(width), width.suffix) for width in in_channels}) != 1:
        given = " and ".join(f"{width.suffix} [DET] tokens of {int(width)}" for width in in_channels)
        raise ValueError(f"its source rows give equal numbers of [DET] tokens of one width, but these give {given}")
    if in_channels[0].suffix < 1:
        raise ValueError("it reads [DET] tokens, but its source row has none; give ViTEmbed a number of det_tokens")


def _check_ids(ids: list[int] | None, classes: int) -> None:
    """Hold category ids against the number of classes.

    Raises:
        ValueError: they are not as many, not ascending or below 0.
    """
    if ids is None:
        return
    if len(ids) != classes:
        raise ValueError(
            f"category_ids has {len(ids)} ids, but there are {classes} classes; give one id per class or leave it out"
        )
    if ids[0] < 0 or any(later <= first for first, later in pairwise(ids)):
        raise ValueError("category_ids must be whole numbers of 0 or more, each above the one before it")
