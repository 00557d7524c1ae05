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
        DataError: there is no picture, or no class occurs in any.
    """
    notes = [*losses.lines(), *choice.warnings]
    found = f" ({'; '.join(notes)})" if notes else ""
    if not any(images.values()):
        raise DataError(f"no picture of the source can be used{found}; mend the folders of pictures and labels")
    if not any(count.any() for count in counts.values()):
        raise DataError(
            f"nothing is left to write as {target}{found}; mend the folder of labels, or give --classes to say what "
            f"becomes {first_of(choice.names) or 'a class'}"
        )
    names: list[str] = list(choice.names)
    shown = dict(counts)
    if len(names) > _MOST_COLUMNS:
        names, shown = ["all"], {split: count.sum(keepdims=True) for split, count in counts.items()}
    return Prepared(out / f"{out.name}.yaml", names, dict(images), shown, notes)
