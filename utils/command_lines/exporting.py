"""The command line of ``export.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.predictions import PostprocessOptions
from utils.command_lines.export_quality import (
    CHECK_IMAGES,
    FLOAT_TOLERANCE,
    PASSES,
    REDUCED_TOLERANCE,
    add_quality_options,
    check_quality_options,
)
from utils.errors import UsageError
from utils.export.file_formats import OF_ONNX, SUFFIXES
from utils.export.sampling import FORMS
from utils.image_size import require_possible_sizes

TOLERANCE, HALF_TOLERANCE = 1e-4, 0.02
KEPT = PostprocessOptions()
"""What is kept where nothing else is asked for, as in detecting."""
MOST_OBJECTS = 30_000
"""Suppression in Python looks at so many candidates."""

EPILOG = """the file:
  input   images          uint8 (batch, 3, height, width), or (batch, height, width, 3) with --embed-input, RGB,
                          letterboxed as the metadata say: in the middle or in the corner, with which grey, or filling
                          it; scaling and another order of channels happen inside
  outputs HEAD_boxes      float32 (batch, N, 4), x1 y1 x2 y2 in pixels of the input, before suppression
          HEAD_scores     float32 (batch, N, classes), probabilities, not multiplied by objectness
          HEAD_objectness float32 (batch, N); confidence = objectness x score; absent for heads without it
          HEAD_keypoints  float32 (batch, N, K, 3), x y in pixels of the input and score, of heads for poses
          HEAD_logits     float32 (batch, classes, height, width); the class of a pixel is the largest logit's
          HEAD_tokens     int64 (batch, N), the encoder's token that each query of MS-DETR++ began with, for the check
  with --nms, for every image what detect.py finds with the same thresholds, M = --max-det places, the best first:
          HEAD_boxes      float32 (batch, M, 4), HEAD_scores float32 (batch, M), HEAD_classes int64 (batch, M) and
          HEAD_count      int64 (batch,), how many they are; behind them all is 0
          HEAD_keypoints  float32 (batch, M, K, 3)
          HEAD_classmap   uint8 (batch, height, width) in place of logits
  HEAD is a head's name in the model YAML. The metadata hold the class names, the stride, how to prepare the input, the
  heads with their tasks and outputs, the model YAML and more; all but 'graph' and 'yolograph' are JSON. Where they say
  "suppression": false, as for YOLOS, every candidate stands for itself and none suppresses another; where they have
  "best_pairs", as for MS-DETR, so many pairs of candidate and class are the answer, the best scores of a picture.

formats:
  onnx         NAME.onnx, for ONNX Runtime and whatever reads ONNX
  torchscript  NAME.torchscript, for programs with libtorch; the metadata are its extra file metadata.json
  openvino     NAME_openvino/NAME.xml and .bin; the metadata are its rt_info 'yolograph'; compile it with
               INFERENCE_PRECISION_HINT f32, or processors with bfloat16 compute in that
  tensorrt     NAME.engine and NAME.engine.json with the metadata, built on an NVIDIA GPU (--device 0) for this GPU
  safetensors  NAME_deployed.safetensors, a checkpoint of the model in its form for running, norms folded and branches
               merged: every command that runs models takes it, none that trains

float16: --half halves the files. ONNX, TorchScript and TensorRT files compute in float16 up to the heads, and decode in
float32; OpenVINO computes in what it is compiled for; a checkpoint is float32 again when it is loaded.

models of tokens, such as YOLOS: the position tables are resized to the input when the file is written, so a file has
one height and width (--img-size 512 672); --dynamic-batch leaves the number of images open. So it is for MS-DETR, where
the places of the queries are those of one size. Its files look at maps by GridSample, or by Gather (--attention gather)
for programs that have no GridSample on their device.

the check:
  The program that runs the format does so on a picture and on random pixels beside the model. The largest difference of
  every output is printed, and where one is above --tolerance of that output's largest value, no file is left behind,
  unless it is no more than the model's own rounding explains (float32 beside float64; ten tolerances at most).
  Objects of --nms are held against the model's candidates: each is one of them, none covers another, and whatever is
  missing is covered by a stronger one, all within the tolerance. --skip-check leaves all of it out.
  Then file and model find objects and label pixels on the same pictures: those of --data, else generated streets. AP
  and mIoU of both are printed, and the time of a batch of both. With --data a file is refused whose AP or mIoU is
  lower by more than --ap-tolerance. A file of --int8 is held to that alone, unless --tolerance is given. See
  docs/export.md.

examples:
  python export.py --weights runs/train/exp/weights/best.safetensors
  python export.py --weights best.safetensors --img-size 384 640 --heads detect --output street.onnx
  python export.py --weights best.safetensors --nms --embed-input --conf-thres 0.4 --max-det 100
  python export.py --weights best.safetensors --half --include onnx safetensors
  python export.py --weights best.safetensors --dynamic --source my_picture.jpg
  python export.py --weights best.safetensors --include onnx openvino --int8 --data my_data.yaml
  python export.py --weights yolos-ti.pth --img-size 512 672 --dynamic-batch --include onnx torchscript
  python export.py --weights ms-detr-r50-300.safetensors --img-size 800 1056 --attention gather

needs: pip install onnx onnxruntime onnxscript; for openvino also pip install openvino, and with --int8 nncf; for
tensorrt also pip install tensorrt; for torchscript and safetensors nothing more
exit codes: 1 the run failed, 2 wrong usage, 3 the picture is at fault, 4 the model is at fault, 5 the export failed"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    check_options(options)
    if options.ap_tolerance is None:
        options.ap_tolerance = REDUCED_TOLERANCE if options.int8 or options.half else FLOAT_TOLERANCE
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="export.py",
        description="Write a model as a file that runs without this program, all heads decoded, and check it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", required=True, help="checkpoint, such as runs/train/exp/weights/best.safetensors")
    add("--include", nargs="+", default=["onnx"], choices=tuple(SUFFIXES), help="formats (default: onnx)")
    add(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        nargs="+",
        default=[640],
        metavar="PIXELS",
        help="height and width of the input, or one number for both (default 640); rounded up to the model's stride",
    )
    add("--batch-size", type=int, default=1, help="images per batch (default %(default)s)")
    add(
        "--dynamic",
        action="store_true",
        help="leave batch size, height and width open; the file is then checked at a second shape too",
    )
    add("--dynamic-batch", action="store_true", help="leave the batch size alone open, checked at a second one too")
    add("--opset", type=int, help="version of the ONNX operator set (default: the exporter's own)")
    add("--heads", nargs="+", metavar="HEAD", help="only these heads (default: all)")
    add(
        "--deploy", action="store_true", help="re-parameterise blocks that can be, such as those of YOLOv6: less to run"
    )
    add(
        "--attention",
        choices=FORMS,
        help="how files of deformable transformers, such as MS-DETR, look at maps (default: grid)",
    )
    add("--half", action="store_true", help="weights in float16, half the size; see below what computes in it")
    add(
        "--device",
        default="cpu",
        help="where TorchScript files shall run and files are checked: cpu, or the number of a GPU (default: cpu)",
    )
    add(
        "--embed-input",
        action="store_true",
        help="take pictures as programs hold them, uint8 (batch, height, width, 3) RGB; normalising is inside anyway",
    )
    _add_object_options(parser.add_argument_group("objects in place of candidates"))
    _add_check_options(parser.add_argument_group("the check"))
    add_quality_options(parser)
    add("--output", help="file to write, with the ending of its one format (default: beside the checkpoint)")
    return parser


def _add_object_options(group: argparse._ArgumentGroup) -> None:
    """Add the options about suppression within the file."""
    add = group.add_argument
    add(
        "--nms",
        action="store_true",
        help="put thresholds and suppression into the file, as detect.py has them; class maps for segmentation",
    )
    add("--conf-thres", "--conf", type=float, help=f"with --nms, least confidence (default {KEPT.conf})")
    add("--iou-thres", "--iou", type=float, help=f"with --nms, overlap that suppresses (default {KEPT.iou})")
    add("--max-det", type=int, help=f"with --nms, places for objects of an image (default {KEPT.max_det})")


def _add_check_options(group: argparse._ArgumentGroup) -> None:
    """Add the options about how a file is held against the model."""
    add = group.add_argument
    add("--source", help="picture for the check (default: a generated street scene)")
    add(
        "--tolerance",
        type=float,
        help="largest difference that passes, relative to an output's largest value "
        f"(default {TOLERANCE:g}; {HALF_TOLERANCE:g} with --half; none with --int8)",
    )
    add("--skip-check", action="store_true", help="write the file unchecked; its metadata say so")


def check_options(options: argparse.Namespace) -> None:
    """Refuse values that no model could be exported with.

    Raises:
        UsageError: a value is out of its range, options do not go together, or the output cannot be written there.
    """
    options.include = list(dict.fromkeys(options.include))
    if len(options.img_size) > 2:
        raise UsageError(f"--img-size takes one number or height and width, but got {len(options.img_size)} numbers")
    require_possible_sizes("--img-size", options.img_size)
    if options.batch_size < 1:
        raise UsageError(f"--batch-size must be 1 or more, but is {options.batch_size}")
    _check_what_is_left_out(options)
    _check_tolerance(options)
    _check_object_options(options)
    check_quality_options(options)
    if options.dynamic and options.dynamic_batch:
        raise UsageError("--dynamic leaves the batch size open too; leave --dynamic-batch out")
    if options.dynamic and "torchscript" in options.include:
        raise UsageError("--dynamic: a TorchScript file is a record of one height and width; take --dynamic-batch")
    if options.opset is not None and not any(name in OF_ONNX for name in options.include):
        raise UsageError(f"--opset is about ONNX, but --include has {' '.join(options.include)} alone; leave it out")
    _check_whole_model_options(options)
    if options.output is not None:
        check_output(Path(options.output), options.include)


def _check_whole_model_options(options: argparse.Namespace) -> None:
    """Refuse what a checkpoint cannot hold: it is the whole model and takes whatever models take."""
    if "safetensors" not in options.include:
        return
    if options.heads is not None:
        raise UsageError("--heads: a safetensors file has the whole model; leave one of them out")
    asked = {
        "--nms": options.nms,
        "--embed-input": options.embed_input,
        "--dynamic": options.dynamic,
        "--dynamic-batch": options.dynamic_batch,
        "--attention": options.attention is not None,
    }
    unfit = [flag for flag, is_asked in asked.items() if is_asked]
    if unfit and options.include == ["safetensors"]:
        raise UsageError(f"{unfit[0]} is not for a safetensors file, which is loaded as any model; leave it out")


def _check_what_is_left_out(options: argparse.Namespace) -> None:
    """Refuse options about a check that is left out.

    Raises:
        UsageError: there is one.
    """
    if not options.skip_check:
        return
    # With --int8 the ranges of maps come from these data too.
    measures_alone = not options.int8 or options.calibration is not None
    asked = {
        "--tolerance": options.tolerance is not None,
        "--source": options.source is not None,
        "--data": options.data is not None and measures_alone,
        "--ap-tolerance": options.ap_tolerance is not None,
        "--check-images": options.check_images != CHECK_IMAGES,
        "--passes": options.passes != PASSES,
    }
    for flag in (flag for flag, is_asked in asked.items() if is_asked):
        raise UsageError(f"{flag} is about the check that --skip-check leaves out; give one of them")


def _check_tolerance(options: argparse.Namespace) -> None:
    """Refuse a tolerance that is none, and fill in the usual one."""
    if options.tolerance is None and not options.int8:
        options.tolerance = HALF_TOLERANCE if options.half else TOLERANCE
    if options.tolerance is not None and not options.tolerance >= 0:
        raise UsageError(f"--tolerance must be 0 or more, but is {options.tolerance}")


def _check_object_options(options: argparse.Namespace) -> None:
    """Refuse thresholds that are none or not asked for, and fill in the usual ones."""
    for name, usual in (("conf_thres", KEPT.conf), ("iou_thres", KEPT.iou), ("max_det", KEPT.max_det)):
        flag, value = f"--{name.replace('_', '-')}", getattr(options, name)
        if value is not None and not options.nms:
            raise UsageError(f"{flag} is about the objects that --nms puts into the file; give both, or leave it out")
        setattr(options, name, usual if value is None else value)
    for flag, value in (("--conf-thres", options.conf_thres), ("--iou-thres", options.iou_thres)):
        if not 0 <= value <= 1:
            raise UsageError(f"{flag} must be 0 to 1, but is {value}")
    if not 1 <= options.max_det <= MOST_OBJECTS:
        raise UsageError(f"--max-det must be 1 to {MOST_OBJECTS:,}, but is {options.max_det}")


def check_output(path: Path, formats: Sequence[str]) -> None:
    """Refuse a file that cannot be written.

    Raises:
        UsageError: there are several formats, the name has another ending, or the place is none for a file.
    """
    if len(formats) > 1:
        raise UsageError(f"--output names one file, but --include has {len(formats)} formats; leave it out")
    suffix = SUFFIXES[formats[0]]
    if path.suffix.lower() != suffix:
        raise UsageError(f"--output {path}: the name must end in {suffix}")
    if path.is_dir():
        raise UsageError(f"--output {path}: that is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}; make it first")
