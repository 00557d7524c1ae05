"""MS-Block of YOLO-MS (Chen et al., arXiv:2308.05480): branches that look at more and more of the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.channel_attention import SE
from models.layers.conv import Conv
from models.registry import RowBlock, register

ATTENTIONS = {"se": SE}
"""What may weigh the channels of a block's output, by the word in the YAML."""
MOST_LAYERS = 100


def inverted_bottleneck(channels: int, hidden: int, kernel: int | list[int] | tuple[int, ...]) -> nn.Module:
    """Return ``Conv 1x1 -> depthwise Conv -> Conv 1x1``, ``channels`` in and out, ``hidden`` in the middle.

    All three have an activation, and nothing is added: the block around it joins its branches.
    """
    bottleneck = nn.Sequential()
    bottleneck.add_module("in_conv", Conv(channels, hidden))
    bottleneck.add_module("mid_conv", Conv(hidden, hidden, kernel, groups=hidden))
    bottleneck.add_module("out_conv", Conv(hidden, channels))
    return bottleneck


@register
class MSBlock(RowBlock):
    """MS-Block of YOLO-MS (Chen et al., arXiv:2308.05480): every branch sees what the one before it found::

        x -> Conv 1x1 -> split -> x0 -> branch 0 ------------> y0 -> |
                               -> x1 (+ y0) -> branch 1 -----> y1 -> |
                               -> x2 (+ y1) -> branch 2 -----> y2 -> cat -> Conv 1x1 -> (attention) -> y

    A branch is a chain of inverted bottlenecks (1x1, depthwise k x k, 1x1) with the kernel of its own. The kernel 1
    stands for a branch without convolutions, which the first one of every published model is. Kernels grow with the
    stride of a row: 3, 5, 7 and 9 in the four stages of the backbone, 3 in the neck.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernels: of the depthwise convolutions, one per branch; each may be a pair for height and width.
        layers: inverted bottlenecks per branch.
        expand: channels of all branches together as a multiple of the input's.
        mid_expand: channels inside a bottleneck as a multiple of the branch's.
        down: divisor of the channels of all branches, 1 in backbones and 2 in necks.
        attention: ``se`` weighs the output's channels (SE with reduction 16), None does not.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernels: list[int | list[int]] | tuple[int | tuple[int, ...], ...] = (1, 3, 3),
        layers: int = 1,
        expand: float = 3.0,
        mid_expand: float = 2.0,
        down: int = 1,
        attention: str | None = None,
    ) -> None:
        super().__init__()
        if not kernels or layers < 1 or down < 1:
            raise ValueError(
                f"kernels, layers and down are 1 or more, but they are {len(kernels)} kernels, {layers} and {down}"
            )
        if layers > MOST_LAYERS:
            raise ValueError(f"the layers of a branch are {MOST_LAYERS} at most, but they are {layers}")
        sides = [side for kernel in kernels for side in ([kernel] if isinstance(kernel, int) else kernel)]
        even = [side for side in sides if side < 1 or side % 2 == 0]
        if even:
            raise ValueError(f"the kernels are odd numbers above 0, so that the size stays, but one is {even[0]}")
        if attention is not None and attention not in ATTENTIONS:
            raise ValueError(f"the attention is {', '.join(ATTENTIONS)} or None, but it is {attention!r}")
        hidden = int(c_in * expand) // down
        if hidden < len(kernels) or hidden % len(kernels):
            raise ValueError(
                f"its {hidden} hidden channels ({c_in} x {expand:g} / {down}) do not divide into {len(kernels)} "
                "branches; change expand, down or the channels of the row it reads"
            )
        self.branch = hidden // len(kernels)
        mid = int(self.branch * mid_expand)
        self.in_conv = Conv(c_in, hidden)
        self.mid_convs = nn.ModuleList(self._branch(mid, kernel, layers) for kernel in kernels)
        self.out_conv = Conv(hidden, c_out)
        self.attention = nn.Identity() if attention is None else ATTENTIONS[attention](c_out)

    def _branch(self, mid: int, kernel: int | list[int] | tuple[int, ...], layers: int) -> nn.Module:
        if kernel == 1:
            return nn.Identity()
        return nn.Sequential(*(inverted_bottleneck(self.branch, mid, kernel) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.in_conv(x).split(self.branch, 1)
        found: list[Tensor] = []
        for part, convs in zip(parts, self.mid_convs, strict=True):
            found.append(convs(part + found[-1] if found else part))
        return self.attention(self.out_conv(torch.cat(found, 1)))
