"""What a preparation has written and left out, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_SHOWN = 3
_NARROWEST = 12


@dataclass
class Prepared:
    """What was written.

    Attributes:
        yaml: the data YAML.
        names: class names of the boxes, the headings of their columns.
        images: split -> number of images.
        boxes: split -> (n,) number of boxes per class of ``names``.
        notes: a line each for whatever was left out or changed.
    """

    yaml: Path
    names: Sequence[str]
    images: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        widths = [max(_NARROWEST, len(name) + 2) for name in self.names]
        rows = [f"{'split':8}{'images':>8}" + "".join(f"{n:>{w}}" for n, w in zip(self.names, widths, strict=True))]
        for split, count in self.images.items():
            counts = zip(self.boxes[split], widths, strict=True)
            rows.append(f"{split:8}{count:8}" + "".join(f"{boxes:{width}}" for boxes, width in counts))
        return "\n".join([*rows, *self.notes, f"wrote {self.yaml}"])


def first_of(entries: Sequence[str]) -> str:
    """Return the first three entries and how many more there are."""
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(entries[:_SHOWN]) + more
