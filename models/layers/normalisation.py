"""The constants of BatchNorm: what is added to the variance, and how fast running statistics follow the batches.

Networks differ in them, and weights belong to the ``eps`` they were trained with. A model's YAML says them with the key
``norm``, for one row alone with a mapping behind the row's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from utils.errors import did_you_mean
from utils.yaml_text import is_number

BATCHNORM_EPS = 1e-3
BATCHNORM_MOMENTUM = 0.03
KEYS = ("eps", "momentum")


@dataclass(frozen=True)
class NormRule:
    """How BatchNorms are set up.

    Attributes:
        eps: added to the variance before the square root, above 0 and below 1.
        momentum: share of a batch in the running statistics, above 0 and up to 1, as PyTorch counts it.
    """

    eps: float = BATCHNORM_EPS
    momentum: float = BATCHNORM_MOMENTUM

    def apply(self, module: nn.Module) -> None:
        """Set up every BatchNorm within ``module``, in place."""
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.eps, norm.momentum = self.eps, self.momentum


def read_norm_rule(given: Any, default: NormRule) -> NormRule:
    """Check what a YAML says of BatchNorms.

    Args:
        given: a mapping with ``eps``, ``momentum`` or both; None for a YAML that says nothing.
        default: for what is not said.

    Raises:
        ValueError: a key is unknown or a value does not fit; the sentence says which.
    """
    if given is None:
        return default
    if not isinstance(given, Mapping):
        raise ValueError(f"'norm' is written like {{eps: 1.0e-5, momentum: 0.1}}, but it is {given!r}")
    unknown = [str(key) for key in given if key not in KEYS]
    if unknown:
        raise ValueError(f"'norm' takes {' and '.join(KEYS)}, but has '{unknown[0]}'.{did_you_mean(unknown[0], KEYS)}")
    eps, momentum = given.get("eps", default.eps), given.get("momentum", default.momentum)
    if not is_number(eps) or not 0 < eps < 1:
        raise ValueError(f"'norm' needs for eps a number above 0 and below 1, but has {eps!r}{_point(eps)}")
    if not is_number(momentum) or not 0 < momentum <= 1:
        raise ValueError(f"'norm' needs for momentum a number above 0 and up to 1, but has {momentum!r}")
    return NormRule(float(eps), float(momentum))


def _point(value: Any) -> str:
    """Return the mend for a number such as 1e-5, which YAML 1.1 reads as text."""
    if not isinstance(value, str):
        return ""
    digits, letter, power = value.partition("e")
    return f"; write {digits}.0e{power}" if letter and digits.isdecimal() else ""
