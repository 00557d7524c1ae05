"""Letterbox: a picture scaled as a whole into the network's input, the rest filled with grey.

Sizes and shapes are (height, width) in pixels. The arithmetic is in ``utils.boxes``; here is the rule by which a model
wants its pictures, and here pixels move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from data.images import resize_image
from data.transforms.geometry import BORDER_GREY
from utils.boxes import LetterboxPlan, plan_letterbox, plan_stretch, plan_top_left, shortest_fit
from utils.image_size import LONG_LIMIT, long_limit, round_up_to_stride

Anchor = Literal["center", "top-left"]
Shrink = Literal["linear", "area", "antialias"]
Fit = Literal["longest", "shortest"]
ANCHORS: tuple[Anchor, ...] = ("center", "top-left")
SHRINKS: tuple[Shrink, ...] = ("linear", "area", "antialias")
FITS: tuple[Fit, ...] = ("longest", "shortest")
MOST_LIMIT = 100


@dataclass(frozen=True)
class LetterboxRule:
    """How a model wants pictures to lie within its input; the key ``input`` of a model's YAML says it.

    Attributes:
        anchor: ``center`` puts the picture into the middle, its sides rounded to whole pixels (YOLOv5); ``top-left``
            puts it into the corner, its sides cut to whole pixels (YOLOX).
        square: whether every input is a square, whatever the picture; otherwise only as large as the picture needs.
        pad: grey level of what the picture does not cover, 0..255.
        shrink: how a picture that is too large is made smaller: ``linear`` interpolates (YOLOv5, YOLOX), ``area`` takes
            the mean of the pixels that become one (YOLO-MS, YOLOv6, YOLOv8). Enlarged ones are interpolated linearly.
            ``antialias`` is Pillow's bilinear, which takes the weighted mean of all pixels that a new one covers, in
            both directions (YOLOS).
        margin: strides that are added to each side of what a picture needs, before that is rounded up to whole strides;
            0.5 gives a square picture of 640 pixels an input of 672 (YOLO-MS, YOLOv6). Squares have none.
        group: in testing, so many pictures of neighbouring aspects have the one smallest rectangle that suits all of
            them; 1 gives every picture its own. It is no batch size: results are the same for any. Squares are
            the same for all pictures anyway.
        fit: which side of a picture the size means. ``longest`` fits the picture into a square of that size;
            ``shortest`` gives its short side the size and its long side what follows, and cuts both to whole strides by
            resizing, so that a picture alone has no padding at all (DETR, YOLOS; ``utils.boxes.shortest_fit``). Where
            an exact shape is asked for, as for mosaics and exported files, the picture is fitted into it as otherwise.
        limit: with ``shortest``, the long side is at most so many times the size; such a picture is made smaller.

    Raises:
        ValueError: there is no such anchor, shrinking, grey level, margin, group, fit or limit, or they exclude each
            other.
    """

    anchor: Anchor = "center"
    square: bool = False
    pad: int = BORDER_GREY
    shrink: Shrink = "linear"
    margin: float = 0.0
    group: int = 1
    fit: Fit = "longest"
    limit: float = LONG_LIMIT

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise ValueError(f"a letterbox is anchored at {' or '.join(ANCHORS)}, not at {self.anchor!r}")
        if self.shrink not in SHRINKS:
            raise ValueError(f"a letterbox is shrunk by {' or '.join(SHRINKS)}, not by {self.shrink!r}")
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not 0 <= self.margin <= 8:
            raise ValueError(f"a letterbox is given a margin of 0 to 8 strides, not of {self.margin!r}")
        if isinstance(self.group, bool) or not isinstance(self.group, int) or self.group < 1:
            raise ValueError(f"a letterbox is shared by a group of 1 picture or more, not of {self.group!r}")
        if isinstance(self.pad, bool) or not isinstance(self.pad, int) or not 0 <= self.pad <= 255:
            raise ValueError(f"a letterbox is padded with a grey level from 0 to 255, not {self.pad!r}")
        if self.fit not in FITS:
            raise ValueError(f"a letterbox is fitted by its {' or '.join(FITS)} side, not by {self.fit!r}")
        if isinstance(self.limit, bool) or not isinstance(self.limit, int | float) or not 1 <= self.limit <= MOST_LIMIT:
            raise ValueError(f"a letterbox is limited to 1 to {MOST_LIMIT} times its short side, not {self.limit!r}")
        if self.by_short_side and (self.square or self.margin or self.group > 1):
            raise ValueError("a letterbox is fitted by its shortest side without squares, margins and groups")

    @property
    def by_short_side(self) -> bool:
        """Whether a size means the short side of a picture."""
        return self.fit == "shortest"

    @property
    def shape(self) -> tuple[int, int] | None:
        """The one (height, width) of all inputs; None where a picture or a batch has its own."""
        return None

    def exactly(self, shape: tuple[int, int]) -> ExactLetterbox:
        """Return the rule for inputs that all have one (height, width), whatever the picture and the asked size.

        Pictures that fill their inputs are stretched; others are fitted in, and the rest is padded.
        """
        own = {entry.name: getattr(self, entry.name) for entry in fields(LetterboxRule)}
        return ExactLetterbox(**own, exact=shape)

    def sizes_alone(self, sizes: np.ndarray, short: int, stride: int) -> np.ndarray:
        """Return (..., 2) the inputs of pictures by their short side; see ``utils.boxes.shortest_fit``."""
        return shortest_fit(sizes, short, long_limit(short, self.limit), stride)

    def without_shared_rectangles(self) -> LetterboxRule:
        """Return the rule for inputs that are seen at several sizes: squares where pictures share rectangles.

        mmyolo switches its rectangles off so for test-time augmentation. Other rules stay.
        """
        if not self.margin and self.group == 1:
            return self
        return replace(self, square=True, margin=0.0, group=1)

    def __str__(self) -> str:
        """Words for people: ``top-left, square, padded with 114``."""
        words = [self.anchor, "square" if self.square else "as small as the picture allows", f"padded with {self.pad}"]
        if self.by_short_side:
            words = ["by the short side", f"the long one up to {self.limit:g} times as long"]
        words += {"area": ["shrunk by area"], "antialias": ["resized with antialiasing"]}.get(self.shrink, [])
        words += [f"a margin of {self.margin:g} strides"] if self.margin else []
        words += [f"shared by {self.group} pictures of similar aspect"] if self.group > 1 else []
        return ", ".join(words)

    def plan(self, native: tuple[int, int], new: tuple[int, int], stride: int | None = None) -> LetterboxPlan:
        """Fit a picture into a shape.

        Args:
            native: size of the picture.
            new: size to fit into.
            stride: pad only up to the next multiple of this instead of up to ``new``, with the margin, which may reach
                beyond ``new``; square inputs are padded whole. Under ``fit: shortest`` the sides are multiples of it,
                and the shorter side of ``new`` is what the short side of the picture becomes.
        """
        if self.by_short_side and stride is not None:
            height, width = self.sizes_alone(np.array(native), min(new), stride).tolist()
            return replace(plan_stretch(native, (height, width)), pad=self.pad, shrink=self.shrink)
        fit = plan_letterbox if self.anchor == "center" else plan_top_left
        if self.square or stride is None or not self.margin:
            return replace(fit(native, new, None if self.square else stride), pad=self.pad, shrink=self.shrink)
        ratio = min(new[0] / native[0], new[1] / native[1])
        height, width = (strides_for(side * ratio, stride, self.margin) for side in native)
        return self.within(replace(fit(native, new), pad=self.pad, shrink=self.shrink), (height, width))

    def within(self, plan: LetterboxPlan, shape: tuple[int, int]) -> LetterboxPlan:
        """Return a plan with its picture, as large as it is there, in a larger (height, width)."""
        if self.anchor == "top-left":
            return replace(plan, out=shape)
        around = plan_letterbox(plan.resized, shape, scale_up=False)
        return replace(plan, out=shape, top=around.top, left=around.left)


@dataclass(frozen=True)
class ExactLetterbox(LetterboxRule):
    """How pictures lie within inputs of one shape, such as those of an exported file.

    Attributes:
        exact: (height, width) of every input, pixels.
    """

    exact: tuple[int, int] = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int]:
        """The (height, width) of all inputs."""
        return self.exact

    @property
    def by_short_side(self) -> bool:
        """False: the shape says all about the size."""
        return False

    def __str__(self) -> str:
        """Words for people, with the shape in front."""
        return f"{self.exact[0]} x {self.exact[1]} pixels, {'filled' if self.fit == 'shortest' else super().__str__()}"

    def plan(self, native: tuple[int, int], new: tuple[int, int], stride: int | None = None) -> LetterboxPlan:
        """Fit a picture into the shape.

        Args:
            native: size of the picture.
            new: without effect, like ``stride``; for callers that know of no shape.
            stride: see ``new``.
        """
        fit = plan_letterbox if self.anchor == "center" else plan_top_left
        plan = (plan_stretch if self.fit == "shortest" else fit)(native, self.exact)
        return replace(plan, pad=self.pad, shrink=self.shrink)


CENTERED = LetterboxRule()
"""The rule of YOLOv5, and of every model whose YAML says nothing."""


def plan_for_stride(size: tuple[int, int], img_size: int, stride: int, rule: LetterboxRule = CENTERED) -> LetterboxPlan:
    """Plan the input for one picture alone: its sides are multiples of ``stride``, and it is the smallest one unless
    the rule wants squares.

    Args:
        size: native size.
        img_size: longer side of the picture in the input, or its shorter one as the rule's ``fit`` says; rounded up to
            the stride.
        stride: of the network, pixels.
        rule: of the model; its margin comes in addition.
    """
    side = round_up_to_stride(img_size, stride)
    return rule.plan(size, (side, side), stride)


def plan_for_batch(
    size: tuple[int, int], img_size: int, shape: tuple[int, int], rule: LetterboxRule = CENTERED
) -> LetterboxPlan:
    """Plan an input of exactly ``shape`` in which the picture's longer side is ``img_size``, or less where it must.

    Args:
        size: native size.
        img_size: greatest longer side of the picture in the input.
        shape: of the whole batch; padding may make it larger than ``img_size``.
        rule: of the model.
    """
    return rule.within(rule.plan(size, (min(shape[0], img_size), min(shape[1], img_size))), shape)


def strides_for(length: float, stride: int, margin: float) -> int:
    """Return the pixels of the whole strides that hold a length and a margin of strides beside it."""
    # Rounded first: 1 / (4 / 3) is a hair above 3/4 and would cost a whole stride.
    return math.ceil(round(length / stride + margin, 6)) * stride


def apply_plan(image: np.ndarray, plan: LetterboxPlan) -> np.ndarray:
    """Resize and pad an image as planned.

    Args:
        image: (H, W, 3) uint8 of the plan's native size.
        plan: of the letterbox.

    Returns:
        (*plan.out, 3) uint8, padded with the plan's grey; the image itself where nothing is to be done.
    """
    resized = resize_image(image, plan.resized, plan.shrink)
    if plan.resized == plan.out:
        return resized
    padded = np.full((*plan.out, 3), plan.pad, np.uint8)
    padded[plan.top : plan.top + plan.resized[0], plan.left : plan.left + plan.resized[1]] = resized
    return padded
