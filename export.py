"""Export a trained model: ``python export.py --weights best.safetensors`` writes and checks ``best.onnx``."""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images import read_image
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.layers.position_tables import Positioned, fix_tables
from models.weights import load_model
from utils.command_lines.exporting import SUFFIXES, parse_options
from utils.errors import UsageError, did_you_mean, run_command
from utils.export.agreement import Difference, Runner, check_images, compare, judge, onnx_runner
from utils.export.clear_choice import with_clear_choices
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import ALL, BATCH, NONE, OpenAxes
from utils.export.onnx_model import build_onnx
from utils.export.openvino_model import openvino_folder, openvino_runner
from utils.export.packages import require_for_export
from utils.export.rounding import limits, own_rounding
from utils.export.sampling import choose_sampling, samples_maps
from utils.export.torchscript_file import build_torchscript, torchscript_runner
from utils.files import atomic_writer
from utils.image_size import round_up_to_stride
from utils.logging import start_logging

LOGGER = logging.getLogger("yolograph")
TITLES = {"onnx": "ONNX", "torchscript": "TorchScript", "openvino": "OpenVINO"}
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


def show_differences(
    differences: Mapping[str, Difference], tolerance: float, limits: Mapping[str, float] | None = None
) -> None:
    """Print the largest difference of every output.

    Args:
        differences: per output.
        tolerance: largest relative difference that passes anyway.
        limits: by output, what passes because the model itself rounds so much.
    """
    limits = limits or {}
    width = max(len(name) for name in ("output", *differences))
    LOGGER.info("\n%-*s  %-18s  %-12s  %-12s  seen on", width, "output", "shape", "difference", "relative")
    for name, worst in differences.items():
        shape = "x".join(str(side) for side in worst.shape)
        mark = ""
        if worst.relative > tolerance:
            passes = worst.relative <= limits.get(name, tolerance)
            mark = "  <- no more than rounding explains" if passes else "  <- above the tolerance"
        LOGGER.info(
            "%-*s  %-18s  %-12.2e  %-12.2e  %s%s", width, name, shape, worst.absolute, worst.relative, worst.image, mark
        )


@dataclass(frozen=True)
class Job:
    """One model to be written, in any format.

    Attributes:
        module: the model as it is, which every file is held against.
        form: the model as it is written: BatchNorms folded, with ``--deploy`` fewer branches, position tables resized,
            without what serves training alone.
        shape: batch size, height and width of the input.
        open_axes: which of them stay open.
        images: what both are checked on, by description.
        options: command-line values.
    """

    module: ExportedGraph
    form: ExportedGraph
    shape: tuple[int, int, int]
    open_axes: OpenAxes
    images: dict[str, np.ndarray]
    options: argparse.Namespace

    def judge(self, run: Runner) -> None:
        """Hold what runs a file against the model.

        Where it is further off than the tolerance, the model's own rounding is measured and may explain it.

        Raises:
            ExportError: it computes something else.
        """
        tolerance, differences = self.options.tolerance, compare(run, self.module, self.images)
        is_near = all(worst.relative <= tolerance for worst in differences.values())
        rounding = {} if is_near else own_rounding(self.module, self.images)
        passing = limits(differences, tolerance, rounding)
        show_differences(differences, tolerance, passing)
        judge(differences, tolerance, passing)


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
    form = ExportedGraph(prepare(own), module.heads)
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
    return Job(module, form, shape, open_axes, images, options)


def write_onnx(job: Job, path: Path) -> Path:
    """Write a model as ONNX; the file appears only when ONNX Runtime computes from it what the model computes.

    Raises:
        ExportError: the model cannot be translated, or the file computes something else.
    """
    model = build_onnx(job.form, job.shape, job.open_axes, job.options.opset)
    with atomic_writer(path) as file:
        file.write(model.SerializeToString())
        file.flush()
        job.judge(onnx_runner(Path(file.name)))
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    LOGGER.info("\nwrote %s (%.1f MB, opset %d)", path, path.stat().st_size / 1e6, opset)
    return path


def write_torchscript(job: Job, path: Path) -> Path:
    """Write a model as TorchScript, as ``write_onnx`` does.

    Raises:
        ExportError: the model cannot be recorded, or the file computes something else.
    """
    content = build_torchscript(job.form, job.shape, job.open_axes)
    with atomic_writer(path) as file:
        file.write(content)
        file.flush()
        job.judge(torchscript_runner(Path(file.name)))
    LOGGER.info("\nwrote %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return path


def write_openvino(job: Job, path: Path) -> Path:
    """Write a model for OpenVINO into a folder beside ``path``, as ``write_onnx`` does; return the XML file.

    Raises:
        ExportError: the model cannot be translated, or the files compute something else.
    """
    folder = path.with_name(f"{path.stem}_openvino")
    model = build_onnx(job.form, job.shape, job.open_axes, job.options.opset)
    with openvino_folder(model, path.stem, folder) as xml:
        job.judge(openvino_runner(xml))
    written = folder / path.name
    LOGGER.info("\nwrote %s (%.1f MB)", written, written.with_suffix(".bin").stat().st_size / 1e6)
    return written


WRITERS = {"onnx": write_onnx, "torchscript": write_torchscript, "openvino": write_openvino}
PACKAGES = {"onnx": ONNX_PACKAGES, "torchscript": (), "openvino": (*ONNX_PACKAGES, "openvino")}


def export(options: argparse.Namespace) -> list[Path]:
    """Export, print how far every file is from the model, and return the files."""
    for name in options.include:
        require_for_export(PACKAGES[name], f"{TITLES[name]} export")
    graph = load_model(options.weights)
    job = plan_job(graph, check_picture(options.source), options)
    written = []
    for name in options.include:
        path = Path(options.output) if options.output else Path(options.weights).with_suffix(SUFFIXES[name])
        LOGGER.info("translating %s to %s with the heads %s", options.weights, TITLES[name], ", ".join(job.form.heads))
        written.append(WRITERS[name](job, path))
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line's."""
    start_logging()
    export(parse_options(arguments))


if __name__ == "__main__":
    run_command(main)
