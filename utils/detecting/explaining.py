"""``--explain``: whether what was found can be explained by the row that was named."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from models.inference import Inference
from utils.errors import UsageError
from utils.explain.grad_cam import GradCam
from utils.explain.rows import choose_row


def choose_explanation(options: argparse.Namespace, model: Inference, sizes: Mapping[str, int]) -> GradCam | None:
    """Return what explains the results; None where nobody asked for it.

    Args:
        options: of the command line.
        model: what answers.
        sizes: per head to run, of pictures in the input.

    Raises:
        UsageError: the row has no map, or the results are not those of one look of one model.
    """
    if options.explain is None:
        return None
    if model.files:
        raise UsageError(
            f"--explain looks at the rows of a model, and {model.files[0].path} has none; give the checkpoint that it "
            "was made from"
        )
    several = (
        ("several --weights", len(model.graphs) > 1),
        ("--augment", options.augment),
        ("--tta", options.tta),
        ("--tile", options.tiling is not None),
    )
    for what, given in several:
        if given:
            raise UsageError(f"--explain shows what one look of one model rests on; leave {what} out")
    return GradCam(model.graphs[0], choose_row(model.graphs[0], options.explain, list(sizes)), sizes)
