"""What the options of ``detect.py`` say about the heads of a model, and whether the model has what they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from models.inference import Inference
from models.predictions import PostprocessOptions
from utils.class_filter import kept_classes
from utils.errors import UsageError, did_you_mean
from utils.result_formats.submission import require_cityscapes
from utils.tracking.methods import Method

MOST_MASK_CLASSES = 255


def choose_heads(model: Inference, options: argparse.Namespace) -> list[str]:
    """Return the heads to run.

    Raises:
        UsageError: the model has no such head.
    """
    for name in options.heads or ():
        if name not in model.heads:
            hint = did_you_mean(name, model.heads)
            raise UsageError(f"--heads {name}: the model has no such head, only {', '.join(model.heads)}.{hint}")
    return [name for name in model.heads if not options.heads or name in options.heads]


def choose_thresholds(
    model: Inference, heads: Sequence[str], options: argparse.Namespace, tracking: Method | None = None
) -> dict[str, PostprocessOptions]:
    """Return for every head to run how its predictions become results.

    Args:
        model: with the heads.
        heads: those to run.
        options: of the command line.
        tracking: what follows objects, which may want to see less confident ones too.

    Raises:
        UsageError: the model has no such class of objects.
    """
    confidence = options.conf_thres if tracking is None else tracking.least_confidence
    thresholds = PostprocessOptions(
        conf=confidence, iou=options.iou_thres, max_det=options.max_det, agnostic=options.agnostic_nms
    )
    objects = {name: model.names[name] for name in heads if "boxes" in model.heads[name].targets}
    classes = kept_classes(objects, options.classes, options.class_names)
    return {name: replace(thresholds, classes=classes.get(name)) for name in heads}


def refuse_idle_options(model: Inference, heads: Sequence[str], options: argparse.Namespace) -> None:
    """Make sure that every option that needs a kind of head finds one.

    Raises:
        UsageError: none of the heads to run answers what an option asks for, or it has too many classes for that.
    """
    answered = {target for head in heads for target in model.heads[head].targets}
    wishes = (
        ("--save-txt", options.save_txt, "boxes"),
        ("--save-labelme", options.save_labelme, "boxes"),
        ("--save-crop", options.save_crop, "boxes"),
        ("--save-csv", options.save_csv, "boxes"),
        ("--save-json", options.save_json, "boxes"),
        ("--submit", options.submit, "masks"),
        ("--classes", options.classes, "boxes"),
        ("--class-names", options.class_names, "boxes"),
        ("--sam", options.sam, "boxes"),
        ("--track", options.track, "boxes"),
        ("--kpt-conf", options.kpt_conf is not None, "keypoints"),
        ("--save-mask", options.save_mask and not options.sam, "masks"),
        ("--base-size", options.base_size, "masks"),
    )
    for name, given, target in wishes:
        if given and target not in answered:
            raise UsageError(
                f"{name} needs a head for {target}, but this run has only {', '.join(heads)}; leave it out"
            )
    if options.submit:
        require_cityscapes({head: model.names[head] for head in heads if "masks" in model.heads[head].targets})
    most = max((len(model.names[head]) for head in heads if "boxes" in model.heads[head].targets), default=0)
    if options.sam and options.save_mask and most > MOST_MASK_CLASSES:
        raise UsageError(
            f"--save-mask writes classes 0 to {MOST_MASK_CLASSES - 1}, but the model has {most}; take --save-labelme"
        )
