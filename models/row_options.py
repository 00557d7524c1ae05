"""What a model's YAML says of all rows with a key of its own, and a row may say for itself alone.

A mapping behind a row's arguments holds such keys: ``[-1, 1, SPPF, [640, 5, {norm: {eps: 1.0e-3, momentum: 0.03}}]]``.
Beside them it holds the options of the block itself: ``[-1, 1, ResNetStage, [256, 3, 1, {frozen: true}]]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def options_of_block(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a mapping behind a row's arguments says to the block itself.

    That is all that holds for no other block, and a ``norm`` that is a word: a kind of norm and not its constants.
    """
    return {key: value for key, value in given.items() if key not in ROW_OPTIONS or _is_kind_of_norm(key, value)}


def _is_kind_of_norm(key: str, value: Any) -> bool:
    return key == "norm" and isinstance(value, str)


def check_block_options(given: Any, names: Sequence[str]) -> None:
    """Refuse an option that a block does not have.

    Args:
        given: the last argument of a row; nothing is done where it is no mapping.
        names: of the block's options.

    Raises:
        ValueError: the sentence says what there is.
    """
    for key, value in given.items() if isinstance(given, Mapping) else ():
        if key in names:
            continue
        if key in ROW_OPTIONS:
            read_row_options({key: value}, RowOptions())
        known = [*(name for name in names if name not in ROW_OPTIONS), *ROW_OPTIONS]
        raise ValueError(
            f"the mapping behind its arguments takes {', '.join(known[:-1])} and {known[-1]}, but has '{key}'."
            f"{did_you_mean(key, known)}"
        )


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
