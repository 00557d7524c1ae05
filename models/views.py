"""Looking at the same network input several times: mirrored, smaller, larger (test-time augmentation).

A ``Pass`` says how to look, a ``View`` is one such look at an input of a given size. Predictions know how to undo it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from data.samples import Placement
from utils.errors import UsageError
from utils.image_size import round_up_to_stride

Level = Literal["finest", "coarsest"]
"""An outermost feature map of a head: the one of the smallest or of the largest stride."""


@dataclass(frozen=True)
class View:
    """How an input was changed before a pass: mirrored left to right first, then scaled into another input.

    Attributes:
        placement: where the (mirrored) input lies within the changed one; its native size is the input's.
        mirrored: whether left and right were exchanged.
    """

    placement: Placement
    mirrored: bool = False

    @property
    def area(self) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of the input within the changed one, in its whole rows and columns."""
        place = self.placement
        top, left = round(place.top), round(place.left)
        return top, top + round(place.height * place.scale_y), left, left + round(place.width * place.scale_x)


@dataclass(frozen=True)
class Pass:
    """One look at every input.

    Attributes:
        scale: of the input's sides, above 0.
        mirrored: exchange left and right.
        leave_out: the level of a head whose objects another pass sees at a better size, or None to use all.
        apart: let the boxes of this pass suppress each other before they meet those of other passes.
    """

    scale: float = 1.0
    mirrored: bool = False
    leave_out: Level | None = None
    apart: bool = False

    @property
    def plain(self) -> bool:
        """Whether the input is taken as it is."""
        return self.scale == 1 and not self.mirrored

    def view(self, size: tuple[int, int], whole: int | None = None) -> View:
        """Return the view of an input; its scales follow the whole pixels that it is resized to.

        Args:
            size: (height, width) of the input.
            whole: the stride of a network whose pictures fill their inputs: the view's sides are the nearest multiples
                of it, so that nothing is padded. None cuts them to whole pixels.
        """
        height, width = size
        if whole is None:
            rows, columns = (max(int(side * self.scale), 1) for side in size)
        else:
            rows, columns = (max(int(side * self.scale / whole + 0.5), 1) * whole for side in size)
        return View(Placement(height, width, columns / width, rows / height), self.mirrored)


SINGLE = (Pass(),)
"""Every input once, as it is."""

AUGMENTED = (
    Pass(1.0, leave_out="coarsest"),
    Pass(0.83, mirrored=True),
    Pass(0.67, leave_out="finest"),
)
"""YOLOv5's test-time augmentation: the coarsest level looks for large objects in the smaller passes alone, the finest
level for small ones in the larger passes alone (as from v6.0 on)."""

SIX_VIEWS = tuple(Pass(scale, mirrored, apart=True) for scale in (1.0, 0.5, 1.5) for mirrored in (False, True))
"""The test-time augmentation of mmyolo's models (YOLO-MS, and YOLOv6 and YOLOv8 there): three sizes, each as it is and
mirrored, all levels everywhere. The views are made of the network's input, so at half the size a pixel is the mean of
four, and the largest view shows no more detail than the input has."""


def choose_passes(augment: bool, tta: bool) -> tuple[Pass, ...]:
    """Return how to look at an input under the two wishes for test-time augmentation.

    Raises:
        UsageError: both are wanted.
    """
    if augment and tta:
        raise UsageError("--augment looks three times as YOLOv5 does, --tta six times as YOLO-MS does; give one")
    if tta:
        return SIX_VIEWS
    return AUGMENTED if augment else SINGLE


def look(images: Tensor, view: View, stride: int, grey: Tensor) -> Tensor:
    """Change inputs as a view says.

    Args:
        images: (B, C, H, W) floats, already normalised.
        view: for inputs of this size, placed at the upper left.
        stride: height and width of the result are multiples of it.
        grey: (C,) value of the pixels below and to the right of the scaled input.

    Returns:
        (B, C, H', W') floats, channels-last.
    """
    _, rows, _, columns = view.area
    if view.mirrored:
        images = images.flip(-1)
    if images.shape[-2:] != (rows, columns):
        images = F.interpolate(images, (rows, columns), mode="bilinear", align_corners=False)
    out = round_up_to_stride(rows, stride), round_up_to_stride(columns, stride)
    canvas = grey.to(images).view(1, -1, 1, 1).expand(len(images), -1, *out)
    canvas = canvas.contiguous(memory_format=torch.channels_last)
    canvas[..., :rows, :columns] = images
    return canvas
