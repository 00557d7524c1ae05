"""The command line of ``python -m utils.benchmark``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.exported.paths import is_exported
from utils.devices import DTYPES
from utils.errors import UsageError
from utils.export.file_formats import READ_BACK
from utils.image_size import require_possible_sizes

EPILOG = """the table of formats, in place of one model's protocol, comes with several --weights, with an exported file,
with --formats or with --data. All models then see inputs of the same height and width, that of --imgsz; a file of one
size has its own, which the table tells. Checkpoints have their BatchNorms folded; --dtype and --deploy are for them
alone. AP and mIoU are those of test.py at that input; ms are the medians of whole passes for one image: with decoding,
suppression and native pixels.

examples:
  python -m utils.benchmark --cfg yoloms_xs.yaml --imgsz 640 --device cpu
  python -m utils.benchmark --weights runs/train/exp/weights/best.safetensors --deploy --device 0 --batch-size 16
  python -m utils.benchmark --weights yolov6_t.safetensors --deploy --dtype float16 --json speed.json
  python -m utils.benchmark --weights yolov5n.pt --formats onnx openvino torchscript --data coco128.yaml
  python -m utils.benchmark --weights best.safetensors best.onnx best_int8.onnx best_openvino --data my_data.yaml

A YAML has random weights: its network takes as long as a trained one, its postprocessing does not.
exit codes: 0 measured, 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault, 5 the export
            failed"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``compares`` says whether the table of formats is wanted.

    Raises:
        UsageError: a value is out of its range, or options do not go together.
    """
    options = build_parser().parse_args(arguments)
    for name, least in (
        ("batch_size", 1),
        ("warmup", 0),
        ("iterations", 1),
        ("repeat", 1),
        ("threads", 0),
        ("max_det", 1),
        ("workers", 0),
    ):
        if getattr(options, name) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be {least} or more, but is {getattr(options, name)}")
    for name in ("conf_thres", "iou_thres"):
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 0 to 1, but is {getattr(options, name)}")
    if len(options.imgsz) > 2:
        raise UsageError("--imgsz takes one size, or a height and a width")
    require_possible_sizes("--imgsz", options.imgsz)
    if options.json is not None and Path(options.json).is_dir():
        raise UsageError(f"--json {options.json}: is a folder; name a file")
    if options.json is not None and not Path(options.json).resolve().parent.is_dir():
        raise UsageError(f"--json {options.json}: its folder does not exist; make it first")
    _check_comparison(options)
    return options


def _check_comparison(options: argparse.Namespace) -> None:
    """Find out whether several models are to be compared, and hold the options against that.

    Raises:
        UsageError: options do not go together.
    """
    weights = options.weights or []
    exported = [path for path in weights if is_exported(path)]
    options.compares = bool(len(weights) > 1 or exported or options.formats or options.data)
    twice = next((path for path in weights if weights.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"--weights names {twice} twice; give it once")
    if options.segdata is not None and options.data is None:
        raise UsageError("--segdata stands in place of the masks that --data names; give both")
    if options.compares and options.cfg:
        raise UsageError("--cfg has random weights, which are neither exported nor measured; give --weights")
    if options.compares and options.fuse:
        raise UsageError("--fuse: models of the table of formats have their BatchNorms folded anyway; leave it out")
    if exported and len(exported) == len(weights):
        for option, given in (("--deploy", options.deploy), (f"--dtype {options.dtype}", options.dtype != "float32")):
            if given:
                raise UsageError(f"{option} is for checkpoints, and {exported[0]} is in its last form; leave it out")
    if options.formats and len(weights) != 1 + len(exported):
        raise UsageError("--formats exports one checkpoint; give one, beside any number of exported files")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.benchmark",
        description="Time a model: the network alone, and together with its postprocessing. Or compare the files of a "
        "model: size, AP, mIoU and time of every format.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--weights", nargs="+", help="checkpoint, ours or an official one; several, or exported files")
    model.add_argument("--cfg", help="model YAML, with random weights: a path, or a name below models/configs")
    add("--imgsz", "--img-size", nargs="+", type=int, default=[640], help="one size, or height width, in pixels")
    add("--batch-size", type=int, default=1, help="images per pass (default %(default)s)")
    add("--device", default="", help="cpu, mps, or the number of a GPU (default: the first GPU, else the CPU)")
    add("--dtype", choices=DTYPES, default="float32", help="number format of the network (default %(default)s)")
    add("--fuse", action="store_true", help="fold BatchNorms into convolutions, as detect.py does")
    add("--deploy", action="store_true", help="re-parameterise blocks of several branches, and fold BatchNorms")
    add("--warmup", type=int, default=10, help="passes before the first timed one (default %(default)s)")
    add("--iterations", type=int, default=100, help="timed passes of a repeat (default %(default)s)")
    add("--repeat", type=int, default=3, help="how often all is measured (default %(default)s)")
    add("--threads", type=int, default=0, help="threads on the CPU, 0 for as many as PyTorch takes")
    add("--conf-thres", type=float, default=0.25, help="least confidence of a result (default %(default)s)")
    add("--iou-thres", type=float, default=0.45, help="overlap that suppresses a box (default %(default)s)")
    add("--max-det", type=int, default=300, help="most results per image (default %(default)s)")
    add("--json", metavar="FILE", help="write protocol and numbers to this file, too")
    table = parser.add_argument_group("the table of formats").add_argument
    table(
        "--formats",
        nargs="+",
        choices=READ_BACK,
        metavar="FORMAT",
        help=f"export the checkpoint into a temporary folder and measure these too: {', '.join(READ_BACK)}",
    )
    table("--data", help="data YAML: AP and mIoU on its val split")
    table("--segdata", help="segmentation data in place of the YAML's: a root folder or another data YAML")
    table("--workers", type=int, default=2, help="worker processes that read pictures (default %(default)s)")
    return parser
