"""How candidates become objects within a file: what ``detect.py`` does with the same thresholds, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from models.graph import Graph
from models.predictions import PostprocessOptions


@dataclass(frozen=True)
class ObjectRule:
    """How the candidates of one head become objects.

    Attributes:
        confidence: an object's is above it, 0..1.
        overlap: above which the weaker of two boxes of a class goes, 0..1; None where each candidate stands for an
            object of its own, so that none goes.
        most: objects of a picture at most; also how many places its answer has.
        every_class: whether a candidate may answer for several classes, or only for its likeliest.
    """

    confidence: float
    overlap: float | None
    most: int
    every_class: bool

    def to_plain(self) -> dict[str, Any]:
        """Return the rule for the metadata of a file."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the rule that a file tells."""
        return cls(**plain)


def object_rules(graph: Graph, distinct: Mapping[str, bool], options: PostprocessOptions) -> dict[str, ObjectRule]:
    """Return the rule of every head whose candidates are boxes.

    Args:
        graph: the model.
        distinct: by name of these heads, whether every candidate stands for an object of its own.
        options: what is asked for; a head may insist on something else.
    """
    rules = {}
    for name, is_distinct in distinct.items():
        own = graph.heads[name].own_options(options)
        rules[name] = ObjectRule(own.conf, None if is_distinct else own.iou, own.max_det, own.multi_label)
    return rules
