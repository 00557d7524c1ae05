"""Which recipe a new run has: ``--hyp``, else the one that its model names, else the one for large detection sets."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any

from models.spec import ModelSpec, load_spec
from models.weights import load_weights, spec_of
from utils.errors import ModelError
from utils.recipe import load_recipe

LOGGER = logging.getLogger("yolograph")
USUAL_RECIPE = "hyp.scratch"


def chosen_recipe(options: Namespace) -> dict[str, Any]:
    """Return the recipe of a run with the values that other options of ``train.py`` put in place of its own.

    Raises:
        ModelError: as ``load_recipe``; or the model's YAML names a recipe that does not exist.
    """
    hyp = load_recipe(options.hyp) if options.hyp else _recipe_of_model(_model_of(options))
    if options.label_smoothing is not None:
        hyp["label_smoothing"] = options.label_smoothing
    if options.linear_lr:
        hyp["schedule"] = "linear"
    if options.optimizer:
        hyp["optimizer"] = options.optimizer
    if options.close_mosaic is not None:
        hyp["close_mosaic"] = options.close_mosaic
    elif hyp["close_mosaic"] > options.epochs // 2:
        # A recipe is written for a long run; a short one would train without mosaic alone.
        LOGGER.info(
            "the recipe closes the mosaic for the last %d epochs; in a run of %d it is the last %d, "
            "unless --close-mosaic says otherwise",
            hyp["close_mosaic"],
            options.epochs,
            options.epochs // 2,
        )
        hyp["close_mosaic"] = options.epochs // 2
    return hyp


def _model_of(options: Namespace) -> ModelSpec:
    if options.cfg:
        return load_spec(options.cfg)
    return spec_of(load_weights(options.weights, options.pretrained_grid), options.weights)


def _recipe_of_model(spec: ModelSpec) -> dict[str, Any]:
    """Return the recipe that a model's YAML names, the usual one where it names none.

    Raises:
        ModelError: there is no such recipe, or it is at fault.
    """
    named = spec.values.get("recipe")
    if named is None:
        return load_recipe(USUAL_RECIPE)
    if not isinstance(named, str):
        raise ModelError(f"{spec.source}: 'recipe' is the name of a recipe, such as {USUAL_RECIPE}, not {named!r}")
    try:
        hyp = load_recipe(named)
    except ModelError as error:
        raise ModelError(
            f"{spec.source}: its recipe cannot be used ({error}); mend it, or choose one with --hyp"
        ) from None
    LOGGER.info("recipe %s, named by %s; --hyp chooses another one", named, spec.source)
    return hyp
