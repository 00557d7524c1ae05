"""Activations by name, the model's default activation, and FReLU.

A YAML writes an activation as ``nn.LeakyReLU(0.1)``. The text is held against a pattern and a table and never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers.batch_norm import BatchNorm2d
from models.registry import ChannelKeepingBlock, register
from utils.errors import did_you_mean

DEFAULT_ACTIVATION = "nn.SiLU()"


@dataclass(frozen=True)
class Activation:
    """What a name stands for.

    Attributes:
        module: the class of PyTorch.
        number: whether it takes a number of 0 or more, such as a slope.
        in_place: whether it can overwrite its input, which saves memory.
    """

    module: type[nn.Module]
    number: bool = False
    in_place: bool = True


ACTIVATIONS: dict[str, Activation] = {
    "ELU": Activation(nn.ELU, number=True),
    "GELU": Activation(nn.GELU, in_place=False),
    "Hardswish": Activation(nn.Hardswish),
    "Identity": Activation(nn.Identity, in_place=False),
    "LeakyReLU": Activation(nn.LeakyReLU, number=True),
    "Mish": Activation(nn.Mish),
    "ReLU": Activation(nn.ReLU),
    "ReLU6": Activation(nn.ReLU6),
    "Sigmoid": Activation(nn.Sigmoid, in_place=False),
    "SiLU": Activation(nn.SiLU),
    "Tanh": Activation(nn.Tanh, in_place=False),
}
# A name, then in brackets at most one number and at most one `inplace`, which changes no result and is passed over.
WRITTEN = re.compile(
    r"(?:torch\.)?(?:nn\.)?(?P<name>[A-Za-z]\w*)"
    r"\(\s*(?P<number>\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})?\s*,?\s*(?:inplace\s*=\s*(?:True|False))?\s*\)"
)
KNOWN = f"known are {', '.join(ACTIVATIONS)}"
_default: ContextVar[str] = ContextVar("default_activation", default=DEFAULT_ACTIVATION)


def make_activation(text: str | None = None) -> nn.Module:
    """Return a new activation module.

    Args:
        text: such as ``nn.ReLU()`` or ``nn.LeakyReLU(0.1)``; None makes the default of the model that is being built.

    Raises:
        ValueError: the text is none of the known activations; the sentence lists them.
    """
    text = _default.get() if text is None else text
    match = WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"an activation is written like nn.LeakyReLU(0.1), but it is {text!r}; {KNOWN}")
    name, number = match["name"], match["number"]
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation '{name}', {KNOWN}.{did_you_mean(name, ACTIVATIONS)}")
    known = ACTIVATIONS[name]
    if number is not None and not known.number:
        raise ValueError(f"the activation {name} takes no number, but it is {text!r}; write nn.{name}()")
    options = {"inplace": True} if known.in_place else {}
    return known.module(*([float(number)] if number is not None else []), **options)


@contextmanager
def using_activation(text: str | None) -> Iterator[None]:
    """Make ``text`` the default activation of the blocks that are built inside; None leaves the default as it is.

    Raises:
        ValueError: see ``make_activation``.
    """
    if text is None:
        yield
        return
    make_activation(text)
    token = _default.set(text)
    try:
        yield
    finally:
        _default.reset(token)


@register
class FReLU(ChannelKeepingBlock):
    """Funnel activation (Ma et al., arXiv:2007.11824): the larger of a value and what its surroundings say::

        y = max(x, BatchNorm(depth-wise Conv2d(x)))

    Args:
        c_in: channels.
        kernel: odd size of the surroundings.
    """

    def __init__(self, c_in: int, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"the kernel is an odd number above 0, so that the size stays, but it is {kernel}")
        self.conv = nn.Conv2d(c_in, c_in, kernel, padding=kernel // 2, groups=c_in, bias=False)
        self.bn = BatchNorm2d(c_in)

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.bn(self.conv(x)))
