"""The command lines of ``python -m utils.plots``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from data.task_data import SPLITS, TASKS
from utils.command_lines.inference import add_folder_options, require_at_least
from utils.errors import UsageError
from utils.image_size import require_possible_sizes

LABELS, BATCHES, RESULTS = "labels", "batches", "results"
PROJECT = "runs/plots"
_PROG = "python -m utils.plots"
_EXIT_CODES = "exit codes: 2 wrong usage, 3 the data or the results are at fault, 4 the model or the recipe is at fault"

_DESCRIPTION = """Draw what a data set holds, what training sees of it, and how runs went.

  labels    counts, places and sizes of the labels of a data YAML: boxes, masks, keypoints
  batches   the first batches of a training, augmented as the recipe says, with their labels
  results   the results.csv of one run, or of several side by side

Each has its own manual: python -m utils.plots labels --help"""

_LABELS = """Draw label statistics of every block of a data YAML and print them as tables."""

_LABELS_FILES = """what is written, in runs/plots/exp for every block of the data YAML:
  labels_BLOCK.png      boxes: objects per class, outlines, centres, sizes
                        masks: share of the pixels and of the pictures per class, where each class lies
  keypoints_BLOCK.png   poses: how often each keypoint is labelled and seen, where it lies within the box

examples:
  python -m utils.plots labels my_data.yaml
  python -m utils.plots labels embedded.yaml --task segment --split val

"""

_BATCHES = """Draw the first batches that train.py makes of a data YAML: the same pictures, to the pixel, that a run
with the same model, recipe, sizes and seed begins with. Nothing is trained and no weights are read."""

_BATCHES_FILES = """what is written, in runs/plots/exp:
  train_batchN_HEAD.jpg   batch N of a head, up to 16 pictures with boxes, keypoints or masks

Without --cfg a model is taken for every block by its task: yolov5n (detect), yolov5n_multitask (segment),
yolox_pose_nano (pose). --multi-scale of train.py resizes whole batches afterwards and is not drawn.

examples:
  python -m utils.plots batches my_data.yaml --hyp hyp.small --img-size 320
  python -m utils.plots batches my_data.yaml --cfg yolov5s_city_seg_psp --hyp hyp.multitask --base-size 1024
  python -m utils.plots batches embedded.yaml --task pose --without-mosaic

"""

_RESULTS = """Draw columns of results.csv. One RUN alone renews the results.png in its folder; several are drawn side by
side. --group puts runs that differ in what does not matter, such as the seed, under one name: they share a line, which
is their mean."""

_RESULTS_FILES = """Without --columns all of train/ and val/ that a run has are drawn, and one table has their last
values. With --columns there is a table for each, with a row per epoch. Tables show a group's mean and, in brackets, the
least and the most of its runs; `1 of 2` is how many of them have a value.

examples:
  python -m utils.plots results runs/train/exp
  python -m utils.plots results runs/train/exp runs/train/exp2 runs/train/exp3
  python -m utils.plots results --group small runs/train/exp runs/train/exp2 \\
      --group large runs/train/exp3 runs/train/exp4 --columns val/detect_AP50 val/detect_AP --out sizes.png

"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``options.command`` is ``labels``, ``batches`` or ``results``.

    Raises:
        UsageError: a value is out of its range, or no run is named.
    """
    options = build_parser().parse_args(arguments)
    if options.command == BATCHES:
        require_possible_sizes("--img-size", [options.img_size], 32)
        require_possible_sizes("--base-size", [options.base_size], 32)
        require_at_least(options, batch_size=1, count=1, workers=0, seed=0)
    if options.command == RESULTS:
        require_at_least(options, steps_per_epoch=0)
        if not options.runs and not options.group:
            raise UsageError("results needs runs: give their folders, such as runs/train/exp, or --group NAME RUN ...")
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=_PROG, description=_DESCRIPTION, epilog=_EXIT_CODES, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="labels | batches | results")
    for name, summary, about, files, add_options in (
        (LABELS, "label statistics of a data set", _LABELS, _LABELS_FILES, _add_labels),
        (BATCHES, "training batches with their labels", _BATCHES, _BATCHES_FILES, _add_batches),
        (RESULTS, "curves of runs side by side", _RESULTS, _RESULTS_FILES, _add_results),
    ):
        add_options(
            commands.add_parser(name, help=summary, description=about, epilog=files + _EXIT_CODES, formatter_class=raw)
        )
    return parser


def _add_labels(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--split", default="train", choices=SPLITS, help="split of the data (default %(default)s)")
    add_folder_options(parser.add_argument_group("files"), PROJECT, "run")


def _add_batches(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    add = parser.add_argument_group("what train.py would be given").add_argument
    add("--cfg", default="", help="model YAML whose heads and input count: a path or a name below models/configs")
    add("--hyp", default="", help="recipe: a path or a name in data/hyps (default: as train.py chooses it)")
    add(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        default=640,
        help="input size in pixels (default %(default)s)",
    )
    add("--base-size", type=int, help="long side of segmentation images before the crop (default: --img-size)")
    add("--batch-size", "--batch", type=int, default=16, help="images per batch (default %(default)s)")
    add("--rect", action="store_true", help="batches of pictures of similar shape, without mosaic")
    add("--single-cls", action="store_true", help="boxes of all classes as the one class 'item'")
    add("--seed", type=int, default=0, help="of shuffling and augmentation (default %(default)s)")
    add("--workers", type=int, default=8, help="worker processes, at most one per core (default %(default)s)")
    add = parser.add_argument_group("what is drawn").add_argument
    add("--count", type=int, default=3, metavar="N", help="batches of every head (default %(default)s)")
    add(
        "--without-mosaic",
        action="store_true",
        help="as in the last epochs, those of --close-mosaic: without mosaic and mixup",
    )
    add_folder_options(parser.add_argument_group("files"), PROJECT, "run")


def _add_results(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="folders of training runs, each with its results.csv")
    add(
        "--group",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "RUN"),
        help="a name and the folders of its runs; may be given several times",
    )
    add("--columns", nargs="+", default=[], metavar="COLUMN", help="columns of results.csv (default: train/ and val/)")
    add("--steps-per-epoch", type=int, default=0, metavar="N", help="show steps instead of epochs, N of them in each")
    add("--out", type=Path, metavar="PNG", help="the picture (default: results.png in the folder below)")
    add_folder_options(parser.add_argument_group("files"), PROJECT, "run")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="data YAML: a path or a name in data/configs")
    parser.add_argument("--task", choices=TASKS, help="only blocks or heads of this task (default: all)")
