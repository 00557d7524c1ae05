"""Export a trained model: ``python export.py --weights best.safetensors`` writes and checks ``best.onnx``."""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.images import read_image
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.weights import load_model
from utils.errors import UsageError, did_you_mean, run_command
from utils.export.agreement import Difference, check_images, compare_onnx, judge
from utils.export.exported_graph import ExportedGraph
from utils.export.onnx_model import build_onnx
from utils.export.packages import require_for_export
from utils.files import atomic_writer
from utils.image_size import require_possible_sizes, round_up_to_stride
from utils.logging import start_logging

LOGGER = logging.getLogger("yolograph")
FORMATS = ("onnx",)
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

EPILOG = """the file:
  input   images          uint8 (batch, 3, height, width), RGB, letterboxed as the metadata say: in the middle or in the
                          corner, with which grey; scaling and another order of channels happen inside
  outputs HEAD_boxes      float32 (batch, N, 4), x1 y1 x2 y2 in pixels of the input, before suppression
          HEAD_scores     float32 (batch, N, classes), probabilities, not multiplied by objectness
          HEAD_objectness float32 (batch, N); confidence = objectness x score; absent for heads without it
          HEAD_keypoints  float32 (batch, N, K, 3), x y in pixels of the input and score, of heads for poses
          HEAD_logits     float32 (batch, classes, height, width); the class of a pixel is the largest logit's
  HEAD is a head's name in the model YAML. The metadata hold the class names, the stride, how to prepare the input, the
  heads with their tasks and outputs, the model YAML and more; all but 'graph' and 'yolograph' are JSON.

the check:
  ONNX Runtime runs the file on a picture and on random pixels beside the model. The largest difference of every output
  is printed, and where one is above --tolerance of that output's largest value, no file is left behind.

examples:
  python export.py --weights runs/train/exp/weights/best.safetensors
  python export.py --weights best.safetensors --img-size 384 640 --heads detect --output street.onnx
  python export.py --weights best.safetensors --dynamic --source my_picture.jpg

needs: pip install onnx onnxruntime onnxscript
exit codes: 1 the run failed, 2 wrong usage, 3 the picture is at fault, 4 the model is at fault, 5 the export failed"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range.
    """
    parser = argparse.ArgumentParser(
        prog="export.py",
        description="Write a model as a file that runs without this program, all heads decoded, and check it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", required=True, help="checkpoint, such as runs/train/exp/weights/best.safetensors")
    parser.add_argument("--include", nargs="+", default=["onnx"], choices=FORMATS, help="formats (default: onnx)")
    parser.add_argument(
        "--img-size",
        "--imgsz",
        "--img",
        type=int,
        nargs="+",
        default=[640],
        metavar="PIXELS",
        help="height and width of the input, or one number for both (default 640); rounded up to the model's stride",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (default %(default)s)")
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="leave batch size, height and width open; the file is then checked at a second shape too",
    )
    parser.add_argument("--opset", type=int, help="version of the ONNX operator set (default: the exporter's own)")
    parser.add_argument("--heads", nargs="+", metavar="HEAD", help="only these heads (default: all)")
    parser.add_argument(
        "--deploy", action="store_true", help="re-parameterise blocks that can be, such as those of YOLOv6: less to run"
    )
    parser.add_argument("--source", help="picture for the check (default: a generated street scene)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference that passes, relative to an output's largest value (default %(default)g)",
    )
    parser.add_argument("--output", help="file to write, ending in .onnx (default: beside the checkpoint)")
    options = parser.parse_args(arguments)
    check_options(options)
    return options


def check_options(options: argparse.Namespace) -> None:
    """Refuse values that no model could be exported with.

    Raises:
        UsageError: a value is out of its range, or the output cannot be written there.
    """
    if len(options.img_size) > 2:
        raise UsageError(f"--img-size takes one number or height and width, but got {len(options.img_size)} numbers")
    require_possible_sizes("--img-size", options.img_size)
    if options.batch_size < 1:
        raise UsageError(f"--batch-size must be 1 or more, but is {options.batch_size}")
    if not options.tolerance >= 0:
        raise UsageError(f"--tolerance must be 0 or more, but is {options.tolerance}")
    if options.output is not None:
        path = Path(options.output)
        if path.suffix.lower() != ".onnx":
            raise UsageError(f"--output {path}: the name must end in .onnx")
        if path.is_dir():
            raise UsageError(f"--output {path}: that is a folder; give the name of a file in it")
        if not path.parent.is_dir():
            raise UsageError(f"--output {path}: there is no folder {path.parent}; make it first")


def chosen_heads(graph: Graph, wanted: list[str] | None) -> list[str]:
    """Return the names of the heads to export, in the model's order.

    Raises:
        UsageError: the model has no such head.
    """
    unknown = [name for name in wanted or () if name not in graph.heads]
    if unknown:
        raise UsageError(
            f"--heads {unknown[0]}: the model has no such head, only {', '.join(graph.heads)}."
            f"{did_you_mean(unknown[0], graph.heads)}"
        )
    return [name for name in graph.heads if wanted is None or name in wanted]


def input_shape(options: argparse.Namespace, stride: int) -> tuple[int, int, int]:
    """Return batch size, height and width; sizes rounded up to the stride, which is said."""
    asked = options.img_size[0], options.img_size[-1]
    height, width = (round_up_to_stride(side, stride) for side in asked)
    if (height, width) != asked:
        LOGGER.info("the input is %d x %d pixels, rounded up to multiples of the stride %d", height, width, stride)
    return options.batch_size, height, width


def check_picture(source: str | None) -> np.ndarray:
    """Return the picture the file is checked on, (H, W, 3) uint8 RGB.

    Raises:
        DataError: the picture cannot be read.
    """
    if source is not None:
        return read_image(source)
    from data.synthetic import render_scene

    return render_scene(np.random.default_rng(0), (640, 480)).image


def show_differences(differences: Mapping[str, Difference], tolerance: float) -> None:
    """Print the largest difference of every output."""
    width = max(len(name) for name in ("output", *differences))
    LOGGER.info("\n%-*s  %-18s  %-12s  %-12s  seen on", width, "output", "shape", "difference", "relative")
    for name, worst in differences.items():
        shape = "x".join(str(side) for side in worst.shape)
        mark = "" if worst.relative <= tolerance else "  <- above the tolerance"
        LOGGER.info(
            "%-*s  %-18s  %-12.2e  %-12.2e  %s%s", width, name, shape, worst.absolute, worst.relative, worst.image, mark
        )


def export_onnx(graph: Graph, picture: np.ndarray, path: Path, options: argparse.Namespace) -> None:
    """Write a model as ONNX; the file appears only when ONNX Runtime computes from it what the model computes.

    The file has the BatchNorms folded, and with ``--deploy`` fewer branches. It is held against the model as it is, so
    that the check is about that too.

    Raises:
        ExportError: the model cannot be translated, or the file computes something else.
    """
    module = ExportedGraph(graph, chosen_heads(graph, options.heads))
    prepare = deploy_graph if options.deploy else fuse_graph
    fused = ExportedGraph(prepare(copy.deepcopy(graph)), module.heads)
    shape = input_shape(options, graph.stride)
    LOGGER.info("translating %s with the heads %s", options.weights, ", ".join(module.heads))
    model = build_onnx(fused, shape, options.dynamic, options.opset)
    shapes = [shape]
    if options.dynamic:
        shapes.append((shape[0] + 1, shape[1] + graph.stride, shape[2] + 2 * graph.stride))
    with atomic_writer(path) as file:
        file.write(model.SerializeToString())
        file.flush()
        differences = compare_onnx(Path(file.name), module, check_images(picture, shapes, graph.letterbox))
        show_differences(differences, options.tolerance)
        judge(differences, options.tolerance)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    LOGGER.info("\nwrote %s (%.1f MB, opset %d)", path, path.stat().st_size / 1e6, opset)


def export(options: argparse.Namespace) -> Path:
    """Export, print how far the file is from the model, and return the file."""
    require_for_export(ONNX_PACKAGES, "ONNX export")
    graph = load_model(options.weights)
    picture = check_picture(options.source)
    path = Path(options.output) if options.output else Path(options.weights).with_suffix(".onnx")
    export_onnx(graph, picture, path, options)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line's."""
    start_logging()
    export(parse_options(arguments))


if __name__ == "__main__":
    run_command(main)
