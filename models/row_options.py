"""What a model's YAML says of all rows with a key of its own, and a row may say for itself alone.

A mapping behind a row's arguments holds such keys: ``[-1, 1, SPPF, [640, 5, {norm: {eps: 1.0e-3, momentum: 0.03}}]]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.layers.activations import make_activation
from models.layers.normalisation import NormRule, read_norm_rule
from utils.errors import did_you_mean

ROW_OPTIONS = ("activation", "norm")


@dataclass(frozen=True)
class RowOptions:
    """How the blocks of a row are built where their arguments do not say it.

    Attributes:
        activation: such as ``nn.ReLU()``; None for the default.
        norm: of every BatchNorm.
    """

    activation: str | None = None
    norm: NormRule = field(default_factory=NormRule)


def read_row_options(given: Mapping[Any, Any], default: RowOptions) -> RowOptions:
    """Check the options that a row or a model gives.

    Args:
        given: values of ``ROW_OPTIONS``, symbols replaced.
        default: for what is not given.

    Raises:
        ValueError: there is no such option, or its value does not fit; the sentence says which.
    """
    unknown = [str(key) for key in given if key not in ROW_OPTIONS]
    if unknown:
        raise ValueError(
            f"the mapping behind its arguments takes {' and '.join(ROW_OPTIONS)}, but has '{unknown[0]}'."
            f"{did_you_mean(unknown[0], ROW_OPTIONS)}"
        )
    activation = given.get("activation")
    if activation is not None:
        try:
            make_activation(activation)
        except ValueError as error:
            raise ValueError(f"'activation': {error}") from None
    return RowOptions(
        activation=default.activation if activation is None else activation,
        norm=read_norm_rule(given.get("norm"), default.norm),
    )
