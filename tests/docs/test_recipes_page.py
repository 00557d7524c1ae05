"""docs/recipes.md holds every recipe key with its default and what it may be, and no other."""

from __future__ import annotations

import re

import pytest
import yaml

from data.transforms.detection import DetectionTrainTransform
from data.transforms.detr import DETRTrainTransform
from data.transforms.letterbox import CENTERED
from data.transforms.rtmdet import RTMDetTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from data.transforms.yolox import YOLOXTrainTransform
from models.assigners.simota import SIMOTA_RULES
from models.losses import rtmdet, yolov6, yolox
from models.losses.oks import OKS_FORMS
from models.losses.segmentation_criterion import PIXEL_LOSSES
from tests.conftest import REPO
from utils.errors import ModelError
from utils.optimizer import OPTIMIZERS
from utils.recipe import DEFAULTS, RECIPE_FOLDER
from utils.recipe_keys import CHOICES, kind_of
from utils.recipe_ranges import HEAD_GAIN, RANGES

PAGE = (REPO / "docs" / "recipes.md").read_text(encoding="utf-8")
KEYS, SEARCH = PAGE.split("\n## Search\n")
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+?) \| (.+?) \|$", KEYS, flags=re.MULTILINE)
BETWEEN = re.compile(r"([\d.]+)\.\.([\d.]+)")
VALUES = {
    "above 0": ([0.5, 3], [0, -1]),
    "0 or more": ([0, 3.5], [-1]),
    "0 to below 1": ([0, 0.99], [1, -1]),
    "whole, 0 or more": ([0, 7], [0.5, -1]),
    "true, false": ([True, False], [2]),
    "0, 1": ([0, 1], [2]),
    "two whole numbers, 0 or more": ([[0, 4]], [[1], [0.5, 1]]),
    "two rising numbers above 0": ([[0.5, 1.5]], [[1, 1], [0, 1]]),
    "three numbers, 0 or more": ([[0, 1, 2.5]], [[1, 2], [-1, 0, 0]]),
    "three whole numbers above 0": ([[256, 608, 16]], [[256, 608], [0, 1, 1]]),
    "two whole numbers above 0": ([[384, 600]], [[0, 1], [1]]),
    "whole numbers above 0": ([[400], [400, 500, 600]], [[], [0.5]]),
    "heads to numbers, 0 or more": ([{}, {"detect": 2}], [{"detect": -1}, 1]),
    "names to numbers, 0 or more": ([{}, {"backbone": 0.1}], [{"backbone": "x"}, 1]),
}
"""What a recipe takes and what it refuses, by what the page says a key may be."""
WORDS = {
    "optimizer": OPTIMIZERS,
    "seg_loss": PIXEL_LOSSES,
    "rtmdet_box_loss": rtmdet.BOX_LOSSES,
    "rtmdet_assigner": rtmdet.ASSIGNERS,
    "yolox_box_loss": yolox.BOX_LOSSES,
    "yolov6_box_loss": yolov6.BOX_LOSSES,
    "simota": SIMOTA_RULES,
    "pose_simota": SIMOTA_RULES,
    "pose_oks_form": OKS_FORMS,
    **CHOICES,
}
OTHERS = {
    ("epoch", "longest, shortest, a head's name"),
    ("seg_class_weights", "a list of numbers, None"),
    ("seg_aux", "a list of numbers"),
    ("seg_jitter", "four numbers, 0..1"),
    ("flip_pairs", "a list of pairs"),
}
"""Keys whose values depend on the model."""
TRANSFORMS = (
    lambda hyp: DetectionTrainTransform(hyp, 64),
    lambda hyp: YOLOXTrainTransform(hyp, 64, CENTERED),
    lambda hyp: RTMDetTrainTransform(hyp, 64),
    lambda hyp: DETRTrainTransform(hyp, 64, 16, CENTERED),
    lambda hyp: SegmentationTrainTransform(hyp, 64, (64, 64)),
)
RANGE_ROWS = re.findall(r"^\| `([\w.]+)` \| (\S+) \| (\S+) \| (\w+) \| (\w+) \| (.+?) \|$", SEARCH, flags=re.MULTILINE)


def test_every_key_has_exactly_one_row():
    assert sorted(key for key, *_ in ROWS) == sorted(DEFAULTS)


@pytest.mark.parametrize(("key", "default", "may_be", "meaning"), ROWS)
def test_row_gives_the_default(key, default, may_be, meaning):
    value = None if default == "None" else yaml.safe_load(default)
    assert value == DEFAULTS[key]
    assert len(meaning) > 5


@pytest.mark.parametrize(("key", "may_be"), [(key, may_be) for key, _, may_be, _ in ROWS])
def test_row_says_what_the_value_may_be(key, may_be):
    kind = kind_of(key)
    if key in WORDS:
        assert may_be == ", ".join(WORDS[key])
    elif may_be in VALUES:
        taken, refused = VALUES[may_be]
        assert all(kind.fits(value) for value in taken) and not any(kind.fits(value) for value in refused)
    elif between := BETWEEN.fullmatch(may_be):
        assert_limits(key, *map(float, between.groups()))
    else:
        assert (key, may_be) in OTHERS


def assert_limits(key, low, high):
    """Hold the limits against those that all pipelines together have."""
    kind = kind_of(key)
    assert kind.fits(low) and kind.fits(high) and not kind.fits(-1)
    # Its partner's limits depend on it.
    partner = {"seg_scale_low": ("seg_scale_high", 8), "seg_scale_high": ("seg_scale_low", 0.05)}.get(key)
    refused = {}
    for value in (low, high, low / 2, 1.01 * high):
        hyp = {**DEFAULTS, key: value} | ({partner[0]: partner[1]} if partner else {})
        refused[value] = sum(refuses(transform, hyp) for transform in TRANSFORMS)
    within = {low, high}
    assert not any(refused[value] for value in within)
    assert all(refused[value] or not kind.fits(value) for value in {low / 2, 1.01 * high} - within)


def refuses(transform, hyp):
    try:
        transform(hyp)
    except ModelError:
        return True
    return False


def test_packaged_recipes_are_on_the_page():
    table = PAGE.split("| file in `data/hyps` | for |")[1].split("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w.-]+)`", row.split("|")[1])}
    assert listed == {path.stem for path in RECIPE_FOLDER.glob("*.yaml")}


def test_every_range_of_the_search_is_on_the_page():
    ranges = {**RANGES, "gains.HEAD": HEAD_GAIN}
    assert [row[0] for row in RANGE_ROWS] == list(ranges)
    for (name, low, high, steps, heads, usual), found in zip(RANGE_ROWS, ranges.values(), strict=True):
        assert (float(low), float(high), steps == "factors") == (found.low, found.high, found.log), name
        assert usual.startswith("yes") == found.usual
        assert heads == (found.needs or ("several" if found is HEAD_GAIN else "any"))
        if found.only_if is not None:
            assert f"`{found.only_if[0]}` is {' or '.join(map(str, found.only_if[1]))}" in usual
