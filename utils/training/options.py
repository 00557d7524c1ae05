"""The command line of ``train.py``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from utils.devices import DTYPES
from utils.errors import UsageError
from utils.image_size import require_possible_sizes
from utils.loggers import LOGGER_NAMES

MOST_SEED = 2**63 - 1
"""PyTorch takes 64 bits, and every process adds its rank."""
MACHINE_OPTIONS = ("device", "workers", "cache", "compile", "recompute", "save_minutes", "loggers")
"""Options that a resumed run or search takes from its command line and not from its first start."""

EPILOG = """examples:
  python train.py --cfg yolov5n_multitask.yaml --data embedded.yaml --img-size 256 --epochs 20
  python train.py --cfg yolov5s.yaml --data my_data.yaml --epochs 300 --batch-size 16
  python train.py --weights runs/train/exp/weights/best.safetensors --data other.yaml --hyp hyp.finetune
  python train.py --resume                      go on with the newest run that was interrupted

exit codes: 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model or recipe is at fault,
6 values stayed not finite, 130 stopped by a signal and saved"""

_NOT_GIVEN = object()


class TrainOptions(argparse.Namespace):
    """The options of a command line.

    Attributes:
        given: names of those that stand there; no option itself, so it is in a slot and not among ``vars()``.
    """

    __slots__ = ("given",)

    def __init__(self) -> None:
        super().__init__()
        self.given: frozenset[str] = frozenset()


def parse_train_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of ``train.py``.

    Raises:
        UsageError: a value is out of its range.
    """
    options = _parser().parse_args(arguments, TrainOptions())
    # Whatever argparse finds in the namespace it takes for a default that is set already.
    blank = argparse.Namespace(**dict.fromkeys(vars(options), _NOT_GIVEN))
    given = vars(_parser().parse_args(arguments, blank))
    options.given = frozenset(name for name, value in given.items() if value is not _NOT_GIVEN)
    for name, least in (
        ("epochs", 1),
        ("workers", 0),
        ("patience", 0),
        ("seed", 0),
        ("val_interval", 1),
        ("close_mosaic", 0),
        ("precise_bn", 0),
        ("save_minutes", 0),
    ):
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise UsageError(f"--{name.replace('_', '-')} must be {least} or more, but is {value}")
    if options.batch_size < 1 and options.batch_size != -1:
        raise UsageError(
            f"--batch-size must be 1 or more, or -1 for what fits into the memory, but is {options.batch_size}"
        )
    if options.seed > MOST_SEED:
        raise UsageError(f"--seed must be {MOST_SEED} or less, but is {options.seed}")
    if options.time is not None and not 0 < options.time < math.inf:
        raise UsageError(f"--time must be a number of hours above 0, but is {options.time}")
    if not 0 < options.memory_share <= 1:
        raise UsageError(f"--memory-share must be above 0 and at most 1, but is {options.memory_share}")
    if options.rect and options.image_weights:
        raise UsageError("--rect keeps every picture in one batch, which --image-weights draws anew; leave one out")
    if options.noval and options.image_weights:
        raise UsageError("--image-weights follows the AP of validations, of which --noval leaves one; leave one out")
    if options.rect and options.cache == "device":
        raise UsageError("--rect needs pictures of different shapes, which --cache device does not keep; leave one out")
    if options.label_smoothing is not None and not 0 <= options.label_smoothing < 1:
        raise UsageError(f"--label-smoothing must be in 0..1, but is {options.label_smoothing}")
    if len(options.img_size) > 2:
        raise UsageError("--img-size takes one size for both, or one for training and one for testing")
    require_possible_sizes("--img-size", options.img_size, 32)
    require_possible_sizes("--base-size", [options.base_size], 32)
    if not options.cfg and not options.weights and options.resume is None:
        raise UsageError("name a model: --cfg MODEL.yaml, --weights FILE.safetensors, or both; or --resume a run")
    if not options.data and options.resume is None:
        raise UsageError("name the data: --data DATA.yaml (embedded.yaml is a generated set that needs no download)")
    return options


def default_options() -> argparse.Namespace:
    """Return every option at its default."""
    return _parser().parse_args([])


def given_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that stand on the command line, those at their default among them.

    Of options that were not parsed but put together, those that have another value than their default.
    """
    if isinstance(options, TrainOptions):
        return {name: value for name, value in vars(options).items() if name in options.given}
    defaults = vars(default_options())
    return {name: value for name, value in vars(options).items() if value != defaults[name]}


def trials(text: str) -> int:
    """Return the number behind ``--evolve``, which is never the 0 that stands for no number at all."""
    number = int(text)
    if number < 1:
        raise UsageError(f"--evolve must be 1 trial or more, but is {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train every head of a model YAML, each on its own data, in one loop.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (_add_model, _add_length, _add_images, _add_machine, _add_search, _add_folder):
        add(parser)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options about which model and data."""
    model = parser.add_argument_group("model and data")
    model.add_argument("--cfg", default="", help="model YAML: a path or a name below models/configs")
    model.add_argument(
        "--weights",
        default="",
        help="checkpoint to start from, ours or an official .pt; without --cfg its model is taken too",
    )
    model.add_argument(
        "--pretrained-grid",
        nargs=2,
        type=int,
        metavar=("ROWS", "COLUMNS"),
        help="patches of the position table of a vision transformer given as --weights, where it is no square",
    )
    model.add_argument("--data", default="", help="data YAML: a path or a name in data/configs")
    model.add_argument(
        "--hyp",
        default="",
        help="recipe: a path or a name in data/hyps (default: the one that the model's YAML names, else hyp.scratch)",
    )
    model.add_argument(
        "--freeze",
        nargs="*",
        default=[],
        help="rows whose weights do not learn (BatchNorm still follows the data): "
        "how many of the first rows, or row numbers, ranges such as 0-9, names, backbone",
    )
    model.add_argument("--single-cls", action="store_true", help="train boxes of all classes as the one class 'item'")
    model.add_argument("--noautoanchor", action="store_true", help="keep the model's anchors even where they fit badly")


def _add_length(parser: argparse.ArgumentParser) -> None:
    """Add the options about how long and at which size."""
    run = parser.add_argument_group("length and size")
    run.add_argument("--epochs", type=int, default=100, help="passes over the data (default %(default)s)")
    run.add_argument(
        "--batch-size",
        "--batch",
        type=int,
        default=16,
        help="images per batch of each task, over all processes; -1 takes what fits into the memory "
        "(default %(default)s)",
    )
    run.add_argument(
        "--img-size",
        "--imgsz",
        "--img",
        nargs="+",
        type=int,
        default=[640],
        help="input size in pixels: one, or one for training and one for testing (default 640)",
    )
    run.add_argument(
        "--base-size", type=int, help="long side of segmentation images before the crop (default: --img-size)"
    )
    run.add_argument(
        "--patience", type=int, default=100, help="stop after so many epochs without a better result; 0 never"
    )
    run.add_argument(
        "--val-interval",
        type=int,
        default=1,
        help="validate every so many epochs (default %(default)s), and after each of the last ones without mosaic",
    )
    run.add_argument("--label-smoothing", type=float, help="class label smoothing in place of the recipe's")
    run.add_argument("--linear-lr", action="store_true", help="learning rate falls in a line instead of a cosine")
    run.add_argument("--optimizer", choices=("SGD", "Adam", "AdamW"), help="optimizer in place of the recipe's")
    run.add_argument("--adam", dest="optimizer", action="store_const", const="Adam", help="short for --optimizer Adam")
    run.add_argument("--time", type=float, metavar="HOURS", help="end after so many hours, the schedule with it")


def _add_images(parser: argparse.ArgumentParser) -> None:
    """Add the options about what pictures go through."""
    images = parser.add_argument_group("images")
    images.add_argument("--rect", action="store_true", help="batches of pictures of similar shape, without mosaic")
    images.add_argument(
        "--multi-scale", action="store_true", help="another size for every step, half to one and a half --img-size"
    )
    images.add_argument(
        "--close-mosaic", type=int, metavar="N", help="no mosaic in the last N epochs (default: the recipe's)"
    )
    images.add_argument(
        "--image-weights", action="store_true", help="pictures with classes of low AP come more often than others"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options about what the machine does."""
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", default="", help="cpu, or the number of a GPU (default: the first GPU, else the CPU)"
    )
    machine.add_argument(
        "--workers", type=int, default=8, help="worker processes per task, at most one per core (default %(default)s)"
    )
    machine.add_argument(
        "--cache",
        "--cache-images",
        nargs="?",
        const="ram",
        choices=("none", "ram", "disk", "device"),
        help="keep decoded images in main memory, on disk, or on the GPU, which then augments them too; 'none' lets a "
        "resumed run go on without",
    )
    machine.add_argument(
        "--dtype",
        default="auto",
        choices=DTYPES,
        help="format of forward passes (default: the fastest that this machine computes in)",
    )
    machine.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=False, help="compile the model with torch.compile"
    )
    machine.add_argument(
        "--recompute",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="less memory for more time: rows run again in the backward pass",
    )
    machine.add_argument(
        "--memory-share",
        type=float,
        default=0.8,
        help="of the free memory that --batch-size -1 fills (default %(default)s)",
    )
    machine.add_argument(
        "--sync-bn", action="store_true", help="BatchNorm over the batches of all processes of torchrun"
    )
    machine.add_argument(
        "--precise-bn",
        type=int,
        default=0,
        metavar="N",
        help="estimate BatchNorm's statistics anew from N batches before each validation (default 0: never)",
    )
    machine.add_argument(
        "--seed", type=int, default=0, help="of weights, shuffling and augmentation (default %(default)s)"
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    """Add the options about the search for a recipe."""
    search = parser.add_argument_group("search for a better recipe (needs Optuna)")
    search.add_argument(
        "--evolve",
        nargs="?",
        type=trials,
        const=0,
        metavar="N",
        help="search for a better recipe with N trainings (default 300), results in runs/evolve; with --resume the "
        "newest search, or the one named, goes on; --time limits the whole search",
    )
    search.add_argument(
        "--evolve-keys",
        nargs="+",
        default=[],
        metavar="KEY",
        help="recipe keys to search, such as lr0 mosaic gains.detect (default: those that matter for the model)",
    )


def _add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the options about what is kept where."""
    where = parser.add_argument_group("run folder")
    where.add_argument("--project", default="runs/train", help="folder of all runs (default %(default)s)")
    where.add_argument("--name", default="exp", help="name of this run; exp, exp2, exp3 ... (default %(default)s)")
    where.add_argument("--exist-ok", action="store_true", help="write into the folder of that name even if it exists")
    where.add_argument(
        "--loggers",
        nargs="+",
        choices=(*LOGGER_NAMES, "none"),
        metavar="NAME",
        help="where results go besides results.csv: tensorboard, mlflow, wandb, or none "
        "(default: tensorboard if it is installed)",
    )
    where.add_argument("--noplots", action="store_true", help="draw no pictures")
    where.add_argument(
        "--visualize-assign",
        action="store_true",
        help="also draw for the first batches which places of the picture answer for which object",
    )
    where.add_argument(
        "--save-minutes",
        type=float,
        default=10.0,
        help="also save within an epoch after so many minutes; 0 after every step (default %(default)s)",
    )
    where.add_argument(
        "--save-period", type=int, default=-1, metavar="N", help="keep the weights of every Nth epoch (default: none)"
    )
    where.add_argument("--nosave", action="store_true", help="keep only the last checkpoint, not the best")
    where.add_argument("--noval", "--notest", action="store_true", help="validate after the last epoch only")
    where.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with an interrupted run: its folder or its last.safetensors (default: the newest under --project); "
        "of the other options only --device, --workers, --cache, --compile, --recompute, --save-minutes and --loggers "
        "have a say",
    )
