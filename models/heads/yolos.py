"""The detection head of YOLOS (Fang et al., arXiv:2106.00666): every [DET] token says a class and a box."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data.samples import Placement
from models.heads.set_head import SetHead, boxes_in_pixels
from models.layers.token_mlp import TokenMLP
from models.losses.query_criterion import branch_names
from models.losses.set_prediction import O2M, YOLOS_RECIPE, SetCriterion
from models.predictions import DetectionResult, Detections, PostprocessOptions
from models.registry import Built, Scale, construct, register
from models.row_kinds import Kind
from models.set_outputs import SetLayer, SetOutputs
from models.tokens import Tokens, TokenWidth
from utils.detection_results import detection_results
from utils.errors import ModelError
from utils.precision import full_precision

LOGGER = logging.getLogger("yolograph")


@register
class YOLOSDetect(SetHead):
    """Two small networks that read the [DET] tokens; each token answers for one object or for none::

        tokens -> [DET] tokens -> | -> Linear, ReLU, Linear, ReLU, Linear -> L + 1 classes, the last is no object
                                  | -> Linear, ReLU, Linear, ReLU, Linear -> sigmoid -> centre x, y, width, height

    Boxes are fractions of the picture, or of its valid area within a padded batch. Nothing is suppressed: training lets
    one token answer for an object.

    Several source rows may be given: the last one answers, with the same weights the earlier ones are supervised too in
    training, if the recipe's ``set_earlier`` is above 0. If its ``o2m`` is 1, several tokens of each earlier row learn
    the same object. The last of four blocks by itself, and the tokens before it, each behind a norm::

        - [-1, 3, ViTBlock, [width, heads, 4.0]]  # 1
        - [-1, 1, ViTBlock, [width, heads, 4.0]]  # 2
        - [1, 1, TokenNorm, [width, 1.0e-6]]
        - [2, 1, TokenNorm, [width, 1.0e-6]]
        - [[3, 4], 1, YOLOSDetect, [nc]]

    Args:
        in_channels: widths of the tokens of the source rows, all the same.
        num_classes: number of classes.
        category_ids: for weights that know other labels than 0, 1, 2 ...: the label of every class, ascending, such as
            the ids of COCO's 80 categories among 0..90. There are ``L = max(category_ids) + 1`` labels then; answers
            are numbered by class again. Without it L is the number of classes.
    """

    loss_names = ("cls", "box", "giou")
    recipe = YOLOS_RECIPE
    reads = (Kind.TOKENS,)
    class_arguments = (1,)
    reads_suffix_alone = True
    knows_padding = True

    def __init__(self, in_channels: list[TokenWidth], num_classes: int, category_ids: list[int] | None = None) -> None:
        super().__init__(num_classes, category_ids)
        _check_sources(in_channels)
        self.sources, self.queries = len(in_channels), in_channels[0].suffix
        width = int(in_channels[0])
        self.class_mlp = TokenMLP(width, self.labels + 1)
        self.box_mlp = TokenMLP(width, 4)
        if self.sources > 1:
            names = branch_names(O2M, self.sources - 1)
            self.loss_names, self.loss_groups = (*type(self).loss_names, *names), {"o2m": names}

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
        """Return the set loss; its published gains hold for every size and class count.

        Raises:
            ModelError: the recipe asks for one-to-many supervision, but there are no earlier rows.
        """
        criterion = SetCriterion(self.queries, hyp, self.category_ids, self.sources - 1)
        if self.sources == 1 and criterion.many is not None:
            raise ModelError(
                "the recipe's o2m is 1, but YOLOSDetect reads one row, and one-to-many supervision is for the rows "
                "before the last one; split its ViTBlock row and let it read the tokens between (docs/yaml.md, "
                "YOLOSDetect, shows how), or set o2m to 0"
            )
        if self.sources > 1 and criterion.weight_of_earlier == 0 and criterion.many is None:
            LOGGER.warning(
                "YOLOSDetect reads %d rows, but the recipe's set_earlier and o2m are 0, so only the last one learns",
                self.sources,
            )
        return criterion

    def predict(self, raw: SetOutputs, image_size: tuple[int, int]) -> Detections:
        """Decode to boxes in pixels of the network input, unclipped, one candidate per [DET] token."""
        scores = self.of_classes(full_precision(raw.logits).softmax(-1))
        return Detections(boxes_in_pixels(raw, image_size), scores, distinct=True)

    def own_options(self, options: PostprocessOptions) -> PostprocessOptions:
        """Let a token answer for its likeliest class alone, also in tests."""
        return replace(options, multi_label=False)

    def postprocess(
        self, predictions: Detections, options: PostprocessOptions, placements: list[Placement]
    ) -> list[DetectionResult]:
        """Map boxes to native pixels."""
        return detection_results(predictions, self.own_options(options), placements)


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
