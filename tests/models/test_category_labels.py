"""Labels of classes that are not 0, 1, 2 ..., such as the ids of COCO's categories."""

from __future__ import annotations

import pytest

from models.category_labels import count_labels


def test_labels_reach_to_the_last_id() -> None:
    assert count_labels(3, None) == 3
    assert count_labels(3, [0, 1, 2]) == 3
    assert count_labels(3, [1, 4, 90]) == 91


@pytest.mark.parametrize(
    ("classes", "ids", "words"),
    [
        (0, None, "above 0, but it is 0"),
        (3, [1, 2], "has 2 ids, but there are 3 classes"),
        (2, [-1, 2], "of 0 or more"),
        (2, [2, 2], "each above the one before it"),
        (2, [5, 2], "each above the one before it"),
    ],
)
def test_ids_that_do_not_fit_are_one_sentence(classes: int, ids: list[int] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        count_labels(classes, ids)
