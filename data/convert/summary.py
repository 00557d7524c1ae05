"""What a conversion has written, as it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.convert.choosing import Choice
from data.convert.losses import Losses
from data.prepare.summary import Prepared, first_of
from utils.errors import DataError

_MOST_COLUMNS = 12
"""Classes that have a column of their own."""


def converted(
    out: Path, target: str, choice: Choice, images: Mapping[str, int], counts: Mapping[str, np.ndarray], losses: Losses
) -> Prepared:
    """Return what was written.

    Args:
        out: folder of the result.
        target: name of its format.
        choice: its classes.
        images: split -> number of pictures.
        counts: split -> (n,) number of objects or pixels per class.
        losses: what was left out or changed.

    Raises:
        DataError: no class occurs in any picture.
    """
    notes = [*losses.lines(), *choice.warnings]
    if not any(count.any() for count in counts.values()):
        found = "; ".join(notes) or "the source holds nothing"
        raise DataError(
            f"nothing is left to write as {target}, whose classes would be {first_of(choice.names)} ({found}); give "
            "--classes to say what becomes them, such as car=truck,van"
        )
    names: list[str] = list(choice.names)
    shown = dict(counts)
    if len(names) > _MOST_COLUMNS:
        names, shown = ["all"], {split: count.sum(keepdims=True) for split, count in counts.items()}
    return Prepared(out / f"{out.name}.yaml", names, dict(images), shown, notes)
