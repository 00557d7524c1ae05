"""How a set is converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.formats.colour_table import Colour
from utils.errors import UsageError

DROPPABLE = ("outlines", "keypoints", "crowd", "difficult")
"""Parts of objects, and marks of objects that go as a whole."""

RESTS = ("background", "ignore")


@dataclass(frozen=True)
class Options:
    """How a set is converted.

    Attributes:
        names: classes of the result in the order of their indices; objects of other classes are left out. None: all.
        classes: per class of the result the classes that become it, as the key ``classes`` of a data YAML.
        drop: what is left out on purpose: ``outlines`` and ``keypoints`` of the objects; objects that are marked as
            ``crowd`` or ``difficult``.
        copy: copy the pictures; otherwise they are further names of the same files where the system can do that.
        rest: what pixels become that no object covers: a class ``background``, or ``ignore``.
        least_area: areas of a mask with fewer pixels become no object.
        colours: red, green, blue by class, for masks that are seen in colours; other classes get one that is free.
    """

    names: Sequence[str] | None = None
    classes: Mapping[str, Any] | None = None
    drop: Collection[str] = ()
    copy: bool = False
    rest: str = "background"
    least_area: int = 1
    colours: Mapping[str, Colour] = field(default_factory=dict)

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(self.names or []).items() if count > 1]
        if repeated:
            raise UsageError(f"--names holds '{repeated[0]}' twice; give every class once")
        if self.names is not None and self.classes is not None:
            raise UsageError("--names and --classes both choose classes; give one of them")
        if self.least_area < 1:
            raise UsageError(f"--least-area {self.least_area} is no number of pixels; give 1 or more")
