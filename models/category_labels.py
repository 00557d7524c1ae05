"""Labels that a network knows, where they are not 0, 1, 2 ..., such as the ids of COCO's categories."""

from __future__ import annotations

from itertools import pairwise


def count_labels(classes: int, category_ids: list[int] | None) -> int:
    """Return how many labels a class layer has.

    Args:
        classes: number of classes.
        category_ids: the label of every class, ascending; None where classes are labels.

    Returns:
        The number of classes, or the last id and one.

    Raises:
        ValueError: there is no class, or the ids are not as many, not ascending or below 0.
    """
    if classes < 1:
        raise ValueError(f"the number of classes is above 0, but it is {classes}")
    if category_ids is None:
        return classes
    if len(category_ids) != classes:
        raise ValueError(
            f"category_ids has {len(category_ids)} ids, but there are {classes} classes; "
            "give one id per class or leave it out"
        )
    if category_ids[0] < 0 or any(later <= first for first, later in pairwise(category_ids)):
        raise ValueError("category_ids must be whole numbers of 0 or more, each above the one before it")
    return category_ids[-1] + 1
