"""The four segmentation heads of the multi-task YOLOv5: Base, PSP, Lab and BiSe.

All give class logits at a fraction of the input size; loss and decoding enlarge them bilinearly with aligned corners.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from data.samples import Placement
from models.heads.base import Head
from models.layers.conv import Conv
from models.layers.csp import C3
from models.layers.pooling import C3SPP, PyramidPooling
from models.layers.segmentation import ASPP, FFM, RFB2
from models.losses.segmentation_criterion import SegmentationCriterion
from models.predictions import CoarseMasks, MaskResult, Masks, PostprocessOptions
from models.registry import Built, Scale, construct, register
from utils.mask_results import mask_results

MOST_CLASSES = 255


def enlarge(factor: int) -> nn.Upsample:
    """Return a bilinear upsampling with aligned corners."""
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)


class SegmentationHead(Head):
    """What the four heads share: row arguments ``[classes, number, hidden, shortcut]``, loss, decoding.

    ``number`` is scaled by the model's depth, ``hidden`` by its width. ``forward`` returns a list of logits
    (B, C, h, w): the main one, and in training behind it the auxiliary ones of heads that have them.

    Args:
        in_channels: channels of the source rows.
        num_classes: classes of pixels, 1 to 255.
        number: blocks of SegMaskBase; branches of SegMaskLab are narrower by the factor 5 - ``number``, at least 1; the
            others do not read it. 3 where a row leaves it out.
        hidden: hidden channels; SegMaskBiSe has 128 whatever it is. 256 where a row leaves it out.
        shortcut: the blocks of SegMaskBase add their input; the others do not read it.
    """

    task = "segment"
    targets = ("masks",)
    evaluator = "masks"
    loss_names = ("seg",)
    recipe = MappingProxyType(
        {
            "seg_loss": "cross_entropy",
            "seg_class_weights": None,
            "seg_aux": [0.15, 0.05],
            "seg_ohem_threshold": 0.7,
            "seg_focal_gamma": 1.0,
        }
    )
    sources = 1

    def __init__(self, in_channels: list[int], num_classes: int, number: int, hidden: int, shortcut: bool) -> None:
        super().__init__()
        self.num_classes = num_classes

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes, number, hidden, shortcut]``; the last three may be left out (3, 256, False).

        Raises:
            ValueError: the arguments or the number of source rows do not fit.
        """
        if len(in_channels) != cls.sources:
            raise ValueError(f"{cls.__name__} reads {cls.sources} rows, but 'from' names {len(in_channels)}")
        if not 1 <= len(args) <= 4:
            raise ValueError(f"{cls.__name__} takes [classes, number, hidden, shortcut], but got {len(args)} arguments")
        classes, inner, hidden, shortcut = [*args, *(None, 3, 256, False)[len(args) :]]
        for what, value in (("number of classes", classes), ("number of blocks", inner), ("hidden channels", hidden)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the {what} must be a whole number above 0, but it is {value!r}")
        if classes > MOST_CLASSES:
            raise ValueError(
                f"a mask's pixels are one byte, so there are at most {MOST_CLASSES} classes, not {classes}"
            )
        built = construct(cls, in_channels, classes, scale.repeats(inner), scale.channels(hidden), shortcut)
        return Built(built, 0)

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> SegmentationCriterion:
        """Return the pixel loss that the recipe's ``seg_loss`` names."""
        return SegmentationCriterion(self.num_classes, hyp)

    def predict(self, raw: list[Tensor], image_size: tuple[int, int]) -> Masks:
        """Return the main logits, which are enlarged to the network input's size when they are asked for."""
        return CoarseMasks(raw[0].float(), image_size)

    def postprocess(
        self, predictions: Masks, options: PostprocessOptions, placements: list[Placement]
    ) -> list[MaskResult]:
        """Cut the padding off, enlarge to native size and take the most likely class of every pixel."""
        return mask_results(predictions, placements)


@register
class SegMaskBase(SegmentationHead):
    """C3, C3SPP, dropout, 3x3 convolution on one stride-8 row."""

    def __init__(
        self, in_channels: list[int], num_classes: int, number: int, hidden: int, shortcut: bool = False
    ) -> None:
        super().__init__(in_channels, num_classes, number, hidden, shortcut)
        wide = int(1.5 * hidden)
        self.m = nn.Sequential(
            C3(in_channels[0], hidden, number, shortcut),
            C3SPP(hidden, wide),
            nn.Dropout(0.1),
            nn.Conv2d(wide, num_classes, 3, padding=1, bias=False),
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [self.m(features[0])]


@register
class SegMaskPSP(SegmentationHead):
    """Three rows brought to stride 8, RFB2, pyramid pooling, FFM::

    P3, P4 x2, P5 x4 (each Conv 1x1) -> cat -> RFB2 -> PyramidPooling -> FFM -> 1x1
    """

    sources = 3

    def __init__(
        self, in_channels: list[int], num_classes: int, number: int, hidden: int, shortcut: bool = False
    ) -> None:
        super().__init__(in_channels, num_classes, number, hidden, shortcut)
        c8, c16, c32 = in_channels
        self.out = nn.Sequential(
            RFB2(3 * hidden, hidden, map_reduce=6, dilations=(2, 3)),
            PyramidPooling(hidden),
            FFM(2 * hidden, hidden, kernel=3),
            nn.Conv2d(hidden, num_classes, 1),
        )
        self.m8 = nn.Sequential(Conv(c8, hidden, 1))
        self.m32 = nn.Sequential(Conv(c32, hidden, 1), enlarge(4))
        self.m16 = nn.Sequential(Conv(c16, hidden, 1), enlarge(2))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x8, x16, x32 = features
        return [self.out(torch.cat((self.m8(x8), self.m16(x16), self.m32(x32)), 1))]


@register
class SegMaskLab(SegmentationHead):
    """DeepLabv3+ style: detail from an early stride-8 row, context from a stride-16 row through ASPP."""

    sources = 2

    def __init__(
        self, in_channels: list[int], num_classes: int, number: int, hidden: int, shortcut: bool = False
    ) -> None:
        super().__init__(in_channels, num_classes, number, hidden, shortcut)
        c_detail, c_context = in_channels
        map_reduce = max(5 - number, 1)
        self.detail = nn.Sequential(Conv(c_detail, 48, 1), Conv(48, 48, 3))
        self.encoder = nn.Sequential(
            Conv(c_context, 2 * hidden, 1),
            ASPP(2 * hidden, 256, (3, 6, 9), global_pool=False, map_reduce=map_reduce),
            enlarge(2),
        )
        self.decoder = nn.Sequential(FFM(304, 256), Conv(256, hidden, 3), nn.Conv2d(hidden, num_classes, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        detail, context = features
        return [self.decoder(torch.cat((self.detail(detail), self.encoder(context)), 1))]


@register
class SegMaskBiSe(SegmentationHead):
    """BiSeNet style, 128 channels whatever the row says, two auxiliary outputs in training::

    P5 -> RFB2 with global pool -> x2 -> f3 -> aux32
    P4 -> RFB2, + f3            -> x2 -> f2 -> aux16
    cat(P3 -> 1x1, f2) -> FFM -> 1x1
    """

    sources = 3
    width = 128

    def __init__(
        self, in_channels: list[int], num_classes: int, number: int, hidden: int, shortcut: bool = False
    ) -> None:
        super().__init__(in_channels, num_classes, number, hidden, shortcut)
        c8, c16, c32 = in_channels
        width = self.width
        self.m8 = nn.Sequential(Conv(c8, width, 1))
        self.m16 = nn.Sequential(RFB2(c16, width, map_reduce=4, dilations=(2, 3)))
        self.m32 = nn.Sequential(RFB2(c32, width, map_reduce=8, dilations=(2, 3), global_pool=True))
        self.up16 = nn.Sequential(Conv(width, width, 3), enlarge(2))
        self.up32 = nn.Sequential(Conv(width, width, 3), enlarge(2))
        self.out = nn.Sequential(FFM(2 * width, 2 * width, kernel=3), nn.Dropout(0.1), nn.Conv2d(256, num_classes, 1))
        self.aux16 = nn.Sequential(Conv(width, width, 3), nn.Conv2d(width, num_classes, 1))
        self.aux32 = nn.Sequential(Conv(width, width, 3), nn.Conv2d(width, num_classes, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x8, x16, x32 = features
        f3 = self.up32(self.m32(x32))
        f2 = self.up16(self.m16(x16) + f3)
        main = self.out(torch.cat((self.m8(x8), f2), 1))
        return [main, self.aux16(f2), self.aux32(f3)] if self.training else [main]
