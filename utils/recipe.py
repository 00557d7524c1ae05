"""Training recipes: YAML files of hyperparameters under ``data/hyps``, filled up with defaults and checked."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import ModelError, did_you_mean
from utils.yaml_text import read_yaml

LOGGER = logging.getLogger("yolograph")
RECIPE_FOLDER = Path(__file__).resolve().parents[1] / "data" / "hyps"

DEFAULTS: dict[str, Any] = {
    "optimizer": "SGD",
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "schedule": "cosine",
    "warmup_epochs": 3.0,
    "warmup_min": 100,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
    "nominal_batch": 64,
    "clip_norm": 10.0,
    "ema_decay": 0.9999,
    "ema_tau": 2000.0,
    "epoch": "longest",
    "turns": "alternate",
    "gains": {},
    "balance": "fixed",
    "balance_lr": 0.025,
    "balance_alpha": 1.5,
    "bn": "shared",
    "lr_factors": {},
    "fitness": {},
    "box": 0.05,
    "obj": 1.0,
    "obj_pw": 1.0,
    "cls": 0.5,
    "cls_pw": 1.0,
    "iou_t": 0.2,
    "anchor_t": 4.0,
    "fl_gamma": 0.0,
    "label_smoothing": 0.0,
    "autobalance": False,
    "seg_loss": "cross_entropy",
    "seg_class_weights": None,
    "seg_aux": [0.15, 0.05],
    "seg_ohem_threshold": 0.7,
    "seg_focal_gamma": 1.0,
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
WITHOUT_EFFECT = {
    "iou_t": "objects are matched by the ratio of their sides, see anchor_t",
    "copy_paste": "it needs the outlines of objects, and boxes have none",
}
"""Keys of YOLOv5's files that are read so that those files load, and why they change nothing."""
BELOW_ONE = ("momentum", "warmup_momentum", "ema_decay", "label_smoothing")
POSITIVE = ("lr0", "nominal_batch", "anchor_t", "ema_tau", "balance_lr")
CHOICES = {
    "schedule": ("cosine", "linear"),
    "turns": ("alternate", "proportional"),
    "balance": ("fixed", "uncertainty", "gradnorm", "pcgrad"),
    "bn": ("shared", "per-task", "frozen"),
}
"""Keys whose value is one of a few words."""


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe.

    Args:
        path: of the YAML, or the name of one in ``data/hyps`` (with or without ``.yaml``).

    Returns:
        Every known key with its value, the file's where it has the key.

    Raises:
        ModelError: the file is missing or broken, or a key is unknown or of the wrong kind.
    """
    path = _find(Path(path))
    given = read_yaml(path, ModelError)
    if not isinstance(given, Mapping):
        raise ModelError(f"{path}: a recipe is a list of keys and values, such as lr0: 0.01")
    return fill_recipe(given, str(path))


def chosen_recipe(options: Namespace) -> dict[str, Any]:
    """Return the recipe of ``--hyp`` with the values that other options of ``train.py`` put in place of its own.

    Raises:
        ModelError: as ``load_recipe``.
    """
    hyp = load_recipe(options.hyp)
    if options.label_smoothing is not None:
        hyp["label_smoothing"] = options.label_smoothing
    if options.linear_lr:
        hyp["schedule"] = "linear"
    if options.optimizer:
        hyp["optimizer"] = options.optimizer
    return hyp


def fill_recipe(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the defaults with ``given`` over them, checked.

    Raises:
        ModelError: a key is unknown or its value is of the wrong kind; the sentence names it.
    """
    for key, value in given.items():
        if key not in DEFAULTS:
            raise ModelError(f"{source}: there is no recipe key '{key}'.{did_you_mean(str(key), DEFAULTS)}")
        _check(source, key, value)
        if key in WITHOUT_EFFECT and value != DEFAULTS[key]:
            LOGGER.warning("%s: the recipe key %s has no effect: %s", source, key, WITHOUT_EFFECT[key])
    return {**DEFAULTS, **given}


def _check(source: str, key: str, value: Any) -> None:
    default = DEFAULTS[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        fits, wanted = number and value >= 0, "a number of 0 or more"
    elif isinstance(default, str):
        fits, wanted = isinstance(value, str), "a word"
    elif isinstance(default, dict):
        fits, wanted = _is_number_mapping(value), "a mapping of head names to numbers"
    else:
        fits, wanted = isinstance(value, list) or (value is None and not default), "a list"
    if key in POSITIVE and fits and not value > 0:
        fits, wanted = False, "a number above 0"
    if key in BELOW_ONE and fits and not value < 1:
        fits, wanted = False, "a number from 0 to below 1"
    if key in CHOICES and (not fits or value not in CHOICES[key]):
        fits, wanted = False, f"{', '.join(CHOICES[key][:-1])} or {CHOICES[key][-1]}"
    if not fits:
        near = did_you_mean(value, CHOICES[key]) if key in CHOICES and isinstance(value, str) else ""
        raise ModelError(
            f"{source}: recipe key '{key}' must be {wanted}, but it is {value!r}{_number_hint(value)}"
            f"{'.' + near if near else ''}"
        )


def _number_hint(value: Any) -> str:
    """Return the mend for a number that YAML takes for a word, such as 1e-3."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    return "" if number is None else f", which YAML reads as a word; write {number:.10f}".rstrip("0").rstrip(".")


def _is_number_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in value.values()
    )


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    wanted = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    known = {entry.name: entry for entry in sorted(RECIPE_FOLDER.glob("*.yaml"))}
    if wanted in known and len(path.parts) == 1:
        return known[wanted]
    raise ModelError(
        f"{path}: there is no such recipe; give a path or a name from data/hyps.{did_you_mean(wanted, known)}"
    )
