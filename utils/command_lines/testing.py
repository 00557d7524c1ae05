"""The command line of ``test.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.task_data import SPLITS
from models.views import choose_passes
from utils.command_lines.inference import (
    add_folder_options,
    add_machine_options,
    add_model_options,
    require_at_least,
    require_shares,
)
from utils.command_lines.tiles import add_tile_option, tiling_of
from utils.errors import UsageError
from utils.image_size import require_possible_sizes
from utils.validation import SAME_POSE

IMG_SIZE = 640
"""Size of a test unless another one is asked for, pixels."""

STUDY_SIZES = tuple(range(256, 1536 + 1, 128))
"""Sizes of --task study unless others are asked for, pixels."""

TASKS = (*SPLITS, "speed", "study")
IOU, SPEED_IOU = 0.6, 0.45
BORDER, WIDEST_BORDER = 5, 100
WIDEST_PAD = 16
ONE_SIZE = ("save_json", "save_txt", "save_hybrid")
"""Options that write the results of a test at one size."""

EPILOG = """examples:
  python test.py --weights runs/train/exp/weights/best.safetensors --data embedded.yaml --img-size 256
  python test.py --weights best.safetensors --data my_data.yaml --task test --save-json --verbose
  python test.py --weights best.safetensors --data boxes.yaml --segdata my_masks/ --base-size 1024
  python test.py --weights best.safetensors --data my_data.yaml --tta --iou-thres 0.65
  python test.py --weights best.safetensors --data my_data.yaml --sizes 256 384 512 640
  python test.py --weights small.pt large.pt --data my_data.yaml --task study
  python test.py --weights small.pt large.pt --data my_data.yaml --task speed --batch-size 1
  python test.py --weights best.safetensors --data new.yaml --task train --save-hybrid --conf-thres 0.4

results, in a new folder runs/test/exp, exp2, ...:
  results.json                what was measured and how: all metrics, every class, and the time of every stage, by head
  HEAD/                       curves of precision, recall and F1 and the confusion of classes of heads for objects; IoU
                              and confusion of heads that label pixels
  test_batchN_HEAD_*.jpg      labels and results of three batches
  HEAD_predictions.json       --save-json: all objects as COCO results
  labels_HEAD/STEM.txt        --save-txt, --save-hybrid
  sizes.csv, .json, .png      --sizes and --task study, in place of all others; study.png: accuracy over time
An image that cannot be read is named, counted in results.json, and left out.

exit codes: 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault, 130 Ctrl-C"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    require_shares(options, "conf_thres", "iou_thres", "oks_thres")
    options.split = options.task if options.task in SPLITS else "val"
    options.iou_thres = _first_given(options.iou_thres, SPEED_IOU if options.task == "speed" else IOU)
    if options.task == "speed":
        check_speed(options)
    if options.task == "study":
        options.sizes = options.sizes or list(STUDY_SIZES)
    if options.task not in SPLITS:
        options.models = models_by_name(options.weights, options.task)
    if options.sizes is not None:
        check_sizes(options)
    options.img_size = _first_given(options.img_size, IMG_SIZE)
    require_possible_sizes("--img-size", [options.img_size])
    require_possible_sizes("--base-size", [options.base_size])
    options.base_size = _first_given(options.base_size, options.img_size)
    require_at_least(options, batch_size=1, max_det=1, workers=0)
    if not 0 <= options.pad <= WIDEST_PAD:
        raise UsageError(f"--pad must be 0 to {WIDEST_PAD} strides, but is {options.pad:g}")
    if not 0 <= options.border <= WIDEST_BORDER:
        raise UsageError(f"--border must be 0 to {WIDEST_BORDER} pixels, but is {options.border}")
    options.passes = choose_passes(options.augment, options.tta)
    options.tiling = tiling_of(options.tile)
    if options.tiling is not None and options.pad:
        raise UsageError("--pad adds grey to whole pictures, and --tile cuts them; give one")
    options.save_txt = options.save_txt or options.save_hybrid
    if options.save_conf and not options.save_txt:
        raise UsageError("--save-conf adds a column to the files of --save-txt; give both")
    return options


def _first_given(value: Any, default: Any) -> Any:
    return default if value is None else value


def check_speed(options: argparse.Namespace) -> None:
    """Hold ``--task speed`` against what it cannot go together with.

    Raises:
        UsageError: an option asks for files of results, or for several sizes.
    """
    if options.sizes is not None:
        raise UsageError("--task speed is about one size, that of --img-size; for several there is --task study")
    for name in ONE_SIZE:
        if getattr(options, name):
            option = name.replace("_", "-")
            raise UsageError(f"--task speed times a model and writes none of its results; leave --{option} out")


def models_by_name(weights: Sequence[str], task: str) -> dict[str, str]:
    """Return models that are measured each by itself, by a name that tells them apart: the file's, or else the path.

    Raises:
        UsageError: one is given twice.
    """
    twice = [path for path in weights if weights.count(path) > 1]
    if twice:
        raise UsageError(f"--task {task} measures every model by itself, and {twice[0]} is given twice; give it once")
    names = [Path(path).stem for path in weights]
    return dict(zip(names if len(set(names)) == len(names) else weights, weights, strict=True))


def check_sizes(options: argparse.Namespace) -> None:
    """Hold several sizes against what they cannot go together with.

    Raises:
        UsageError: a size is impossible or comes twice, or an option is about one size alone.
    """
    require_possible_sizes("--sizes", options.sizes)
    twice = [size for size in options.sizes if options.sizes.count(size) > 1]
    if twice:
        raise UsageError(f"--sizes has {twice[0]} more than once; give every size once")
    asked = "--task study" if options.task == "study" else "--sizes"
    for name in ("img_size", "base_size"):
        if getattr(options, name) is not None:
            raise UsageError(f"{asked} measures every head at each of its sizes; leave --{name.replace('_', '-')} out")
    if options.tile is not None:
        raise UsageError(f"--tile has a size of its own; leave it or {asked} out")
    for name in ONE_SIZE:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} writes the results of one size; leave it or {asked} out")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="test.py",
        description="Measure every head of a model on its data: AP, P and R for boxes, AP and AR of keypoints for "
        "poses, IoU for masks. AP also by area: S, below 32 x 32 pixels of the picture, M, and L, from 96 x 96 on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model and data")
    add_model_options(model)
    _add_data(model)
    _add_pictures(parser.add_argument_group("pictures"))
    _add_objects(parser.add_argument_group("objects"))
    _add_pixels(parser.add_argument_group("labelled pixels"))
    _add_files(parser.add_argument_group("files"))
    machine = parser.add_argument_group("machine")
    add_machine_options(machine)
    machine.add_argument(
        "--workers", type=int, default=8, help="worker processes, at most one per core (default %(default)s)"
    )
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    """Add the options about what the model is measured on."""
    add = group.add_argument
    add("--data", required=True, help="data YAML: a path or a name in data/configs")
    add("--segdata", help="segmentation data in place of the YAML's: a root folder or another data YAML")
    add(
        "--task",
        default="val",
        choices=TASKS,
        help="the split to measure on; or, on the split val, 'speed': the time of every stage at thresholds of use "
        "(confidence 0.25, overlap 0.45), or 'study': --sizes from 256 to 1536; both take each of several --weights by "
        "itself (default %(default)s)",
    )
    add("--heads", nargs="+", help="only these heads (default: all that have data)")
    add(
        "--single-cls",
        action="store_true",
        help="count all objects, labelled and found, as one class; the model may know other classes than the data",
    )


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    """Add the options about how pictures become inputs."""
    add = group.add_argument
    add(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        help="long side for objects, pixels; the short side for models whose YAML says 'fit: shortest' "
        f"(default {IMG_SIZE})",
    )
    add("--base-size", type=int, help="the same for segmentation (default: --img-size)")
    add(
        "--sizes",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="measure at each of these sizes in place of --img-size: AP also by area, time, operations and tokens, as "
        "a table, sizes.csv, sizes.json and sizes.png",
    )
    add_tile_option(group)
    add("--batch-size", type=int, default=16, help="images, or tiles of one, per batch (default %(default)s)")
    add(
        "--pad",
        type=float,
        default=0.0,
        help="strides of grey around pictures for objects beyond what their shape needs; 0 shows the model what "
        "detect.py shows it, YOLOv5's own test has 0.5 (default %(default)g)",
    )


def _add_objects(group: argparse._ArgumentGroup) -> None:
    """Add the options about which objects are kept."""
    add = group.add_argument
    add(
        "--conf-thres",
        "--conf",
        type=float,
        help="least confidence (default: 0.001; 0 for models that choose their objects without suppression, such as "
        "YOLOS; 0.25 for speed)",
    )
    add("--iou-thres", "--iou", type=float, help=f"overlap that suppresses (default: {IOU}; {SPEED_IOU} for speed)")
    add(
        "--oks-thres",
        type=float,
        default=SAME_POSE,
        help="similarity of keypoints (OKS) above which the weaker of two poses is left out; 1 looks at boxes alone "
        "(default %(default)s)",
    )
    add("--max-det", type=int, default=300, help="most objects per image (default %(default)s)")


def _add_pixels(group: argparse._ArgumentGroup) -> None:
    """Add the options about how labelled pixels are counted."""
    group.add_argument(
        "--border",
        type=int,
        default=BORDER,
        metavar="PIXELS",
        help="mIoU is that of all labelled pixels; mIoU_inner leaves out those with a pixel of another class at most "
        "so many rows and columns away in the mask, where labels are as uncertain as answers; 0 for no mIoU_inner "
        "(default %(default)s)",
    )


def _add_files(group: argparse._ArgumentGroup) -> None:
    """Add the options about what is written, and where."""
    add = group.add_argument
    add("--save-json", action="store_true", help="write boxes, and keypoints of poses, as COCO results")
    add("--save-txt", action="store_true", help="write the objects as label text, one file per image")
    add(
        "--save-hybrid",
        action="store_true",
        help="like --save-txt, but with the labels, and of what was found only what no label overlaps by more than "
        "--iou-thres: a start for labelling the rest; what is measured stays the model's own",
    )
    add("--save-conf", action="store_true", help="add the confidence to --save-txt; that of a label is 1")
    add("--verbose", action="store_true", help="show every class, also where there are many")
    add("--noplots", action="store_true", help="draw no pictures")
    add_folder_options(group, "runs/test", "test")
