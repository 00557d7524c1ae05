"""Every recipe key with its default, and what its value may be.

What only one family of heads reads is declared by its heads (``Head.recipe``), what only one pipeline of
boxes reads by that pipeline (``data/transforms``), what leaves images out of training by ``data/training_part.py``; the
rest is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import models.zoo_modules  # noqa: F401 - fills the registry
from data.training_part import TRAINING_PART
from data.transforms.detection import DETECTION_AUGMENTATION
from data.transforms.detr import DETR_AUGMENTATION
from data.transforms.rtmdet import RTMDET_AUGMENTATION
from data.transforms.yolox import YOLOX_AUGMENTATION
from models.heads.base import Head
from models.registry import lookup, registered
from utils.optimizer import DECAYS

ENGINE: dict[str, Any] = {
    "optimizer": "SGD",
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "decay": "weights",
    "schedule": "cosine",
    "schedule_every": "round",
    "flat_share": 0.5,
    "step_epochs": 100,
    "step_factor": 0.1,
    "warmup": "linear",
    "warmup_epochs": 3.0,
    "warmup_min": 100,
    "warmup_steps": 0,
    "warmup_start": 0.0,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
    "nominal_batch": 64,
    "loss_reduction": "sum",
    "loss_images": 0,
    "clip_norm": 10.0,
    "ema_decay": 0.9999,
    "ema_tau": 2000.0,
    "ema_copy_first": False,
    "drop_path": 0.0,
    "close_mosaic": 0,
    "multi_scale_interval": 0,
    "multi_scale_range": [5, 5],
    "epoch": "longest",
    "turns": "alternate",
    "gains": {},
    "balance": "fixed",
    "balance_lr": 0.025,
    "balance_alpha": 1.5,
    "bn": "shared",
    "lr_factors": {},
    "lr_names": {},
    "fitness": {},
}
"""Keys of the training loop."""

AUGMENTATION: dict[str, Any] = {
    "seg_scale_low": 0.75,
    "seg_scale_high": 1.5,
    "seg_scale_std": 35.0,
    "seg_jitter": [0.4, 0.4, 0.4, 0.0],
    "hsv_h": 0.015,
    "hsv_s": 0.7,
    "hsv_v": 0.4,
    "degrees": 0.0,
    "translate": 0.1,
    "scale": 0.5,
    "shear": 0.0,
    "perspective": 0.0,
    "flipud": 0.0,
    "fliplr": 0.5,
    "flip_pairs": [],
    "mosaic": 1.0,
    "mixup": 0.0,
    "copy_paste": 0.0,
}
"""Keys of YOLOv5's pipeline and of the one for masks."""

WITHOUT_EFFECT = {
    "iou_t": "objects are matched by the ratio of their sides, see anchor_t",
    "copy_paste": "it needs the outlines of objects, and boxes have none",
}
"""Keys of YOLOv5's files that are read so that those files load, and why they change nothing."""
BELOW_ONE = ("momentum", "warmup_momentum", "ema_decay", "label_smoothing", "flat_share", "drop_path")
POSITIVE = (
    "anchor_t",
    "balance_lr",
    "ema_tau",
    "lr0",
    "max_aspect",
    "mixup_beta",
    "nominal_batch",
    "resize_base",
    "step_epochs",
    "step_factor",
)
UP_TO_ONE = ("focal_alpha", "o2m_iou_share", "o2m_positive_share", "o2m_threshold")
SWITCHES = ("o2m",)
WHOLE = (
    "close_mosaic",
    "drop_smaller",
    "loss_images",
    "mixup_cache",
    "mosaic_cache",
    "multi_scale_interval",
    "o2m_k",
    "warmup_steps",
    "yolov6_atss_epochs",
)
SIDES = {
    "resize_sides": (3, "three whole numbers above 0: from, to and the step, such as [256, 608, 16]"),
    "crop_range": (2, "two whole numbers above 0, such as [384, 600]"),
    "crop_sides": (0, "a list of whole numbers above 0, such as [400, 500, 600]"),
}
"""Keys that are sides in pixels: how many there are, 0 for any number, and in words."""
RISING_PAIRS = ("mosaic_scale", "mixup_scale", "resize_range")
CHOICES = {
    "decay": DECAYS,
    "schedule": ("cosine", "linear", "yolox", "flat_cosine", "step"),
    "schedule_every": ("round", "epoch", "late_epoch"),
    "warmup": ("linear", "quadratic"),
    "loss_reduction": ("sum", "mean"),
    "turns": ("alternate", "proportional"),
    "balance": ("fixed", "uncertainty", "gradnorm", "pcgrad"),
    "bn": ("shared", "per-task", "frozen"),
    "augment": ("yolov5", "yolox", "rtmdet", "detr"),
}
"""Keys whose value is one of a few words."""


def composed(*groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of all groups in their order.

    Raises:
        ValueError: two groups have the same key with different defaults.
    """
    keys: dict[str, Any] = {}
    for group in groups:
        for key, default in group.items():
            if key in keys and keys[key] != default:
                raise ValueError(f"the recipe key '{key}' has the defaults {keys[key]!r} and {default!r}")
            keys[key] = default
    return keys


def heads_of_the_house() -> list[type[Head]]:
    """Return the class of every registered head."""
    blocks = [lookup(name) for name in registered()]
    return [block for block in blocks if issubclass(block, Head)]


PIPELINES = (DETECTION_AUGMENTATION, YOLOX_AUGMENTATION, RTMDET_AUGMENTATION, DETR_AUGMENTATION)
"""Keys that single pipelines of boxes have."""
DEFAULTS = composed(ENGINE, *(head.recipe for head in heads_of_the_house()), AUGMENTATION, *PIPELINES, TRAINING_PART)
"""Every key that a recipe may have."""


class Kind(NamedTuple):
    """What a value has to be.

    Attributes:
        fits: says whether a value is of the kind.
        wanted: the kind in words.
    """

    fits: Callable[[Any], bool]
    wanted: str


def kind_of(key: str) -> Kind:
    """Return what the value of a key has to be; it follows from the default where nothing else is said of the key."""
    default = DEFAULTS[key]
    if key in CHOICES:
        words = CHOICES[key]
        return Kind(lambda value: isinstance(value, str) and value in words, f"{', '.join(words[:-1])} or {words[-1]}")
    if key == "multi_scale_range":
        return Kind(lambda value: _is_list_of(value, 2, is_whole), "two whole numbers of 0 or more, such as [5, 5]")
    if key in RISING_PAIRS:
        return Kind(_is_rising_pair, "two numbers above 0, the lower one first")
    if key in SIDES:
        count, wanted = SIDES[key]
        return Kind(lambda value: _are_sides(value, count), wanted)
    if key == "hsv_shift":
        return Kind(lambda value: _is_list_of(value, 3, is_number), "three numbers of 0 or more")
    if key in SWITCHES:
        return Kind(lambda value: value in (0, 1), "0 or 1")
    if key in WHOLE:
        return Kind(is_whole, "a whole number of 0 or more")
    if isinstance(default, bool):
        return Kind(lambda value: isinstance(value, bool), "true or false")
    if isinstance(default, int | float):
        return _number_kind(key)
    if isinstance(default, str):
        return Kind(lambda value: isinstance(value, str), "a word")
    if isinstance(default, Mapping):
        keys = "names of rows or parameters" if key == "lr_names" else "head names"
        return Kind(_is_number_mapping, f"a mapping of {keys} to numbers")
    return Kind(lambda value: isinstance(value, list) or (value is None and not default), "a list")


def _number_kind(key: str) -> Kind:
    if key in POSITIVE:
        return Kind(lambda value: is_number(value) and value > 0, "a number above 0")
    if key in UP_TO_ONE:
        return Kind(lambda value: is_number(value) and value <= 1, "a number from 0 to 1")
    if key in BELOW_ONE:
        return Kind(lambda value: is_number(value) and value < 1, "a number from 0 to below 1")
    return Kind(is_number, "a number of 0 or more")


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number of 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of 0 or more."""
    return is_number(value) and value == int(value)


def _is_list_of(value: Any, count: int, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == count and all(fits(entry) for entry in value)


def _are_sides(value: Any, count: int) -> bool:
    """Return whether a value is a list of so many sides in pixels, with a count of 0 of any number but none."""
    right = isinstance(value, list) and len(value) == (count or max(len(value), 1))
    return right and all(is_whole(entry) and entry > 0 for entry in value)


def _is_rising_pair(value: Any) -> bool:
    return _is_list_of(value, 2, is_number) and 0 < value[0] < value[1]


def _is_number_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(is_number(entry) for entry in value.values())
