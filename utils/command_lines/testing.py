"""The command line of ``test.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from models.views import choose_passes
from utils.command_lines.inference import (
    add_folder_options,
    add_machine_options,
    add_model_options,
    require_at_least,
    require_shares,
)
from utils.errors import UsageError
from utils.image_size import require_possible_sizes
from utils.validation import SAME_POSE

IMG_SIZE = 640
"""Size of a test unless another one is asked for, pixels."""

EPILOG = """examples:
  python test.py --weights runs/train/exp/weights/best.safetensors --data embedded.yaml --img-size 256
  python test.py --weights best.safetensors --data my_data.yaml --task test --save-json --verbose
  python test.py --weights best.safetensors --data boxes.yaml --segdata my_masks/ --base-size 1024
  python test.py --weights best.safetensors --data my_data.yaml --tta --iou-thres 0.65
  python test.py --weights best.safetensors --data my_data.yaml --sizes 256 384 512 640

exit codes: 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    require_shares(options, "conf_thres", "iou_thres", "oks_thres")
    check_sizes(options)
    options.img_size = options.img_size or IMG_SIZE
    require_possible_sizes("--img-size", [options.img_size])
    require_possible_sizes("--base-size", [options.base_size])
    require_at_least(options, batch_size=1, max_det=1, workers=0, pad=0)
    options.passes = choose_passes(options.augment, options.tta)
    if options.save_conf and not options.save_txt:
        raise UsageError("--save-conf adds a column to the files of --save-txt; give both")
    return options


def check_sizes(options: argparse.Namespace) -> None:
    """Hold ``--sizes`` against what it cannot go together with.

    Raises:
        UsageError: a size is impossible or comes twice, or an option is about one size alone.
    """
    if options.sizes is None:
        return
    require_possible_sizes("--sizes", options.sizes)
    twice = [size for size in options.sizes if options.sizes.count(size) > 1]
    if twice:
        raise UsageError(f"--sizes has {twice[0]} more than once; give every size once")
    for name in ("img_size", "base_size"):
        if getattr(options, name) is not None:
            raise UsageError(f"--sizes measures every head at each of its sizes; leave --{name.replace('_', '-')} out")
    for name in ("save_json", "save_txt"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} writes the results of one size; leave it or --sizes out")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="test.py",
        description="Measure every head of a model on its data: AP, P and R for boxes, AP and AR of keypoints for "
        "poses, IoU for masks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model and data")
    add_model_options(model)
    _add_data(model)
    _add_pictures(parser.add_argument_group("pictures"))
    _add_objects(parser.add_argument_group("objects"))
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
    add("--task", default="val", choices=("train", "val", "test"), help="split (default %(default)s)")
    add("--heads", nargs="+", help="only these heads (default: all that have data)")


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
    add("--batch-size", type=int, default=16, help="images per batch (default %(default)s)")
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
        "YOLOS)",
    )
    add("--iou-thres", "--iou", type=float, default=0.6, help="overlap that suppresses (default %(default)s)")
    add(
        "--oks-thres",
        type=float,
        default=SAME_POSE,
        help="similarity of keypoints (OKS) above which the weaker of two poses is left out; 1 looks at boxes alone "
        "(default %(default)s)",
    )
    add("--max-det", type=int, default=300, help="most objects per image (default %(default)s)")


def _add_files(group: argparse._ArgumentGroup) -> None:
    """Add the options about what is written, and where."""
    add = group.add_argument
    add("--save-json", action="store_true", help="write boxes, and keypoints of poses, as COCO results")
    add("--save-txt", action="store_true", help="write the objects as label text, one file per image")
    add("--save-conf", action="store_true", help="add the confidence to --save-txt")
    add("--verbose", action="store_true", help="show every class, also where there are many")
    add("--noplots", action="store_true", help="draw no pictures")
    add_folder_options(group, "runs/test", "test")
