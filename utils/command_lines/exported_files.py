"""What options say about exported files, which have made some choices when they were written."""

from __future__ import annotations

import argparse
import logging

import torch

from models.inference import Inference
from utils.errors import UsageError

LOGGER = logging.getLogger("yolograph")


def take_fixed_input(options: argparse.Namespace, model: Inference) -> None:
    """Let the sizes be the one that an exported file has, and say so where they were others.

    Args:
        options: of ``detect.py`` or ``test.py``; ``img_size`` and ``base_size`` may change.
        model: what answers.

    Raises:
        UsageError: several sizes are asked for.
    """
    shape = model.letterbox.shape
    if shape is None:
        return
    height, width = shape
    if getattr(options, "sizes", None):
        raise UsageError(
            f"--sizes: {model.files[0].path} takes inputs of {height} x {width} pixels alone; leave it out, or export "
            "the model with --dynamic"
        )
    if {options.img_size, options.base_size} - {max(shape), None}:
        LOGGER.info("%s takes inputs of %d x %d pixels, whatever --img-size says", model.files[0].path, height, width)
    options.img_size = max(shape)
    if options.base_size is not None:
        options.base_size = max(shape)


def say_what_is_chosen(model: Inference) -> None:
    """Say by which thresholds a file chooses its objects itself; others can only be stricter."""
    for file in model.files:
        for name, rule in file.description.rules.items():
            overlap = "no suppression" if rule.overlap is None else f"overlap {rule.overlap:g}"
            LOGGER.info(
                "%s has chosen the objects of '%s' itself: confidence %g, %s, at most %d of a picture; thresholds here "
                "can only be stricter",
                *(file.path, name, rule.confidence, overlap, rule.most),
            )


def say_what_stays_empty(model: Inference, batch_size: int) -> None:
    """Say where batches leave places of a file empty, which takes the file as long as if they were filled.

    Args:
        model: what answers.
        batch_size: most pictures per pass.
    """
    for file in model.files:
        places = file.description.batch_size or 1
        if batch_size % places:
            LOGGER.warning(
                "%s takes %d pictures at a time, full or not; --batch-size %d leaves places empty: take a multiple "
                "of %d, or export the model with --dynamic-batch",
                *(file.path, places, batch_size, places),
            )


def number_formats(model: Inference, dtype: torch.dtype | None) -> str:
    """Return the formats in which models compute or, for an exported file, hold their weights, each once.

    Args:
        model: what answers.
        dtype: reduced format of passes, None for float32 and for the formats of exported files.
    """
    passes = str(dtype or torch.float32).removeprefix("torch.")
    formats = [graph.description.precision if graph in model.files else passes for graph in model.graphs]
    return " and ".join(dict.fromkeys(formats))
