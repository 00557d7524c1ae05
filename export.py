"""Export a trained model: ``python export.py --weights best.safetensors`` writes and checks ``best.onnx``."""

from __future__ import annotations

import argparse
import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.images import read_image
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.layers.position_tables import Positioned, fix_tables
from models.predictions import PostprocessOptions
from models.weights import load_model
from utils.command_lines.exporting import parse_options
from utils.devices import select_device
from utils.errors import UsageError, did_you_mean, run_command
from utils.export.agreement import check_images
from utils.export.calibration import CalibrationBatches, calibration_paths
from utils.export.check_pictures import ChosenHeads
from utils.export.clear_choice import with_clear_choices
from utils.export.exported_graph import NCHW, NHWC, ExportedGraph
from utils.export.file_formats import SUFFIXES
from utils.export.job import Job
from utils.export.metadata import ALL, BATCH, NONE
from utils.export.objects_graph import ObjectsGraph
from utils.export.onnx_model import require_opset
from utils.export.packages import require_for_export
from utils.export.proof import Proof
from utils.export.sampling import choose_sampling, samples_maps
from utils.export.tensorrt_engine import require_gpu
from utils.export.writers import WRITERS
from utils.image_size import round_up_to_stride
from utils.logging import start_logging

LOGGER = logging.getLogger("yolograph")
TITLES = {
    "onnx": "ONNX",
    "torchscript": "TorchScript",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "safetensors": "safetensors",
}
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


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


def require_sizes_may_vary(graph: Graph) -> None:
    """Refuse to leave height and width open where a file holds what belongs to one input.

    Raises:
        UsageError: the model has position tables, or queries that come from the places of one size.
    """
    fixed = None
    if samples_maps(graph):
        fixed = "the positions of this model's maps and the places of its queries are those of one size"
    elif any(isinstance(module, Positioned) for module in graph.modules()):
        fixed = "this model's position tables are resized when the file is written"
    if fixed:
        raise UsageError(
            f"{graph.spec.source}: --dynamic leaves height and width open, but {fixed}; export one file per "
            "--img-size, with --dynamic-batch if the number of images shall vary"
        )


def plan_job(graph: Graph, picture: np.ndarray, options: argparse.Namespace) -> Job:
    """Prepare what is written and what it is checked on.

    Raises:
        UsageError: an option does not fit the model.
    """
    if options.dynamic:
        require_sizes_may_vary(graph)
    module = ExportedGraph(graph, chosen_heads(graph, options.heads))
    shape = input_shape(options, graph.stride)
    prepare = deploy_graph if options.deploy else fuse_graph
    own = choose_sampling(fix_tables(copy.deepcopy(graph), shape[1:]), options.attention)
    form = written_form(prepare(own), module.heads, options)
    open_axes, shapes = NONE, [shape]
    if options.dynamic_batch:
        open_axes = BATCH
        shapes.append((shape[0] + 1, *shape[1:]))
    elif options.dynamic:
        open_axes = ALL
        shapes.append((shape[0] + 1, shape[1] + graph.stride, shape[2] + 2 * graph.stride))
    images = check_images(picture, shapes, graph.letterbox)
    if module.set_heads():
        images = with_clear_choices(module, images)
    device = select_device(options.device)
    proof = None if options.skip_check else Proof(graph, module.heads, shape, options, device)
    calibration = calibrate(form, shape, options) if options.int8 else None
    return Job(module, form, shape, open_axes, images, options, device, proof, calibration)


def calibrate(form: ExportedGraph, shape: tuple[int, int, int], options: argparse.Namespace) -> CalibrationBatches:
    """Return the pictures that tell a quantised file the ranges of its values; those that cannot be read are named.

    Raises:
        DataError: there are none.
    """
    graph = form.model
    heads = ChosenHeads({name: graph.heads[name] for name in form.heads}, graph.names)
    paths = calibration_paths(heads, options)
    found = CalibrationBatches(paths, shape, graph.letterbox, options.calibration_images, form.layout)
    for message in found.skipped:
        LOGGER.warning("skipped: %s", message)
    LOGGER.info("ranges for INT8 come from %d of %d pictures", len(found.paths), len(paths))
    return found


def written_form(graph: Graph, heads: Sequence[str], options: argparse.Namespace) -> ExportedGraph:
    """Return what a file computes: candidates, or with ``--nms`` objects, from pixels in the asked order."""
    layout = NHWC if options.embed_input else NCHW
    if not options.nms:
        return ExportedGraph(graph, heads, layout)
    kept = PostprocessOptions(conf=options.conf_thres, iou=options.iou_thres, max_det=options.max_det)
    return ObjectsGraph(graph, heads, kept, layout)


INT8_PACKAGES = {"onnx": (), "openvino": ("nncf",)}
PACKAGES = {
    "onnx": ONNX_PACKAGES,
    "torchscript": (),
    "openvino": (*ONNX_PACKAGES, "openvino"),
    "tensorrt": (*ONNX_PACKAGES, "tensorrt"),
    "safetensors": (),
}


def require_device(name: str, options: argparse.Namespace) -> None:
    """Make sure that files of a format can run where they shall be checked.

    Raises:
        UsageError: a TensorRT engine without a GPU, or an OpenVINO model on one.
    """
    device = select_device(options.device)
    if name == "tensorrt":
        require_gpu(device)
    if name == "openvino" and device.type != "cpu" and not options.skip_check:
        raise UsageError(
            f"--include openvino: its models are checked on the CPU, not on --device {options.device}; export them by "
            "a command of their own, with --device cpu"
        )


def export(options: argparse.Namespace) -> list[Path]:
    """Export, print how far every file is from the model, and return the files."""
    for name in options.include:
        require_for_export(PACKAGES[name], f"{TITLES[name]} export")
        require_for_export(INT8_PACKAGES[name] if options.int8 else (), f"{TITLES[name]} export with --int8")
        require_device(name, options)
    paths = {name: target(options, name) for name in options.include}
    if options.opset is not None:
        require_opset(options.opset)
    graph = load_model(options.weights)
    job = plan_job(graph, check_picture(options.source), options)
    written = []
    for name, path in paths.items():
        LOGGER.info("translating %s to %s with the heads %s", options.weights, TITLES[name], ", ".join(job.form.heads))
        written.append(WRITERS[name](job, path))
    return written


def target(options: argparse.Namespace, name: str) -> Path:
    """Return where a file of a format goes.

    Raises:
        UsageError: nothing can be written there, or it is where the weights are.
    """
    path, weights = Path(options.output) if options.output else default_path(options, name), Path(options.weights)
    if path.exists() and weights.exists() and path.samefile(weights):
        raise UsageError(f"--output {path}: those are the weights themselves; choose another name")
    # A folder that is not there is that of weights that are not, which is told better.
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: nothing can be written to {path.parent}; name a file elsewhere with --output")
    return path


def default_path(options: argparse.Namespace, name: str) -> Path:
    """Return where a file of a format goes: beside the weights, a quantised or deployed one under a name of its own."""
    weights = Path(options.weights)
    kind = "_deployed" if name == "safetensors" else "_int8" if options.int8 else ""
    return weights.with_name(weights.stem + kind + SUFFIXES[name])


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line's."""
    start_logging()
    export(parse_options(arguments))


if __name__ == "__main__":
    run_command(main)
