"""Classes chosen by index and by name, for one head and for several."""

from __future__ import annotations

import pytest

from utils.class_filter import MOST_SHOWN, kept_classes
from utils.errors import UsageError

NAMES = {"cars": ["car", "van", "traffic light"], "signs": ["stop", "van", "yield", "speed"]}


@pytest.mark.parametrize(
    ("indices", "wanted", "expected"),
    [
        (None, None, {"cars": None, "signs": None}),
        ([0, 2], None, {"cars": (0, 2), "signs": (0, 2)}),
        ([3], None, {"cars": (), "signs": (3,)}),
        (None, ["van"], {"cars": (1,), "signs": (1,)}),
        (None, ["traffic light", "stop"], {"cars": (2,), "signs": (0,)}),
        ([2, 2], ["car"], {"cars": (0, 2), "signs": (2,)}),
    ],
)
def test_what_is_kept(indices, wanted, expected):
    assert kept_classes(NAMES, indices, wanted) == expected


def test_equal_names_are_kept_together():
    assert kept_classes({"a": ["x", "y", "x"]}, None, ["x"]) == {"a": (0, 2)}


@pytest.mark.parametrize(
    ("indices", "wanted", "words"),
    [
        ([4], None, "--classes 4: the model's classes are 0 to 3"),
        ([-1], None, "--classes -1"),
        (None, ["trafic light"], "Did you mean 'traffic light'?"),
        (None, ["qqqq"], "finds no such objects. It finds car, van, traffic light, stop, yield, speed"),
    ],
)
def test_what_does_not_exist_is_named(indices, wanted, words):
    with pytest.raises(UsageError) as caught:
        kept_classes(NAMES, indices, wanted)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_list_is_cut():
    names = {"head": [f"c{i}" for i in range(MOST_SHOWN + 30)]}
    with pytest.raises(UsageError, match=r"c98, c99 and 30 more$"):
        kept_classes(names, None, ["?"])
