"""What a recipe says of one-to-many supervision (MS-DETR, arXiv:2401.03989), for any head that answers with a set."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from models.assigners.one_to_many import OneToManyRule
from utils.errors import ModelError

ONE_TO_MANY_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "o2m": 0,
        "o2m_class": 2.0,
        "o2m_box": 5.0,
        "o2m_giou": 2.0,
        "o2m_k": 6,
        "o2m_threshold": 0.4,
        "o2m_iou_share": 0.7,
        "o2m_positive_share": 0.0,
        "o2m_merge": False,
    }
)
"""Recipe keys, with the published values; it is off unless a recipe asks for it."""


class Gains(NamedTuple):
    """What the parts of a branch's loss count: class, absolute differences of boxes, generalised IoU."""

    cls: float
    box: float
    giou: float


class OneToMany(NamedTuple):
    """One-to-many supervision as a recipe wants it.

    Attributes:
        rule: which queries learn which objects.
        gains: of the parts of its loss.
    """

    rule: OneToManyRule
    gains: Gains


def one_to_many_of(hyp: Mapping[str, Any]) -> OneToMany | None:
    """Return what a recipe says, or None where it asks for no one-to-many supervision.

    Args:
        hyp: keys of ``ONE_TO_MANY_RECIPE``, each optional.

    Raises:
        ModelError: a value is out of its range.
    """
    values = {key: hyp.get(key, default) for key, default in ONE_TO_MANY_RECIPE.items()}
    k = float(values["o2m_k"])
    if not values["o2m"]:
        return None
    try:
        rule = OneToManyRule(
            k=int(k) if k.is_integer() else k,
            threshold=float(values["o2m_threshold"]),
            iou_share=float(values["o2m_iou_share"]),
            positive_share=float(values["o2m_positive_share"]),
            merge=bool(values["o2m_merge"]),
        )
    except ValueError as error:
        raise ModelError(f"recipe key {error}") from None
    return OneToMany(rule, Gains(*(float(values[f"o2m_{part}"]) for part in ("class", "box", "giou"))))
