"""One model to be written, and how a file of it is held against it."""

from __future__ import annotations

import argparse
import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.export.agreement import Runner, compare, judge, require_possible
from utils.export.calibration import CalibrationBatches
from utils.export.difference import Difference
from utils.export.exported_graph import NHWC, ExportedGraph
from utils.export.metadata import UNCHECKED, OpenAxes, checked
from utils.export.objects_graph import ObjectsGraph
from utils.export.onnx_model import build_onnx
from utils.export.proof import Proof
from utils.export.quantisation_noise import noisy_layers
from utils.export.rounding import limits, own_rounding, rounding_of_objects

if TYPE_CHECKING:
    import onnx

LOGGER = logging.getLogger("yolograph")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Job:
    """One model to be written, in any format.

    Attributes:
        module: the model as it is, which every file is held against; it answers with candidates.
        form: the model as it is written, float32: BatchNorms folded, with ``--deploy`` fewer branches, position tables
            resized, without what serves training alone; it may answer with objects.
        shape: batch size, height and width of the input.
        open_axes: which of them stay open.
        images: what both are checked on, by description.
        options: command-line values.
        device: where files shall run.
        proof: measures files beside the model; None with ``--skip-check``.
        calibration: inputs that tell a quantised file the ranges of its values; None without ``--int8``.
    """

    module: ExportedGraph
    form: ExportedGraph
    shape: tuple[int, int, int]
    open_axes: OpenAxes
    images: dict[str, np.ndarray]
    options: argparse.Namespace
    device: torch.device = CPU
    proof: Proof | None = None
    calibration: CalibrationBatches | None = None

    def computing_form(self, device: torch.device = CPU) -> ExportedGraph:
        """Return the form that computes in what ``--half`` says, on a device; decoding is float32 in any case."""
        if not self.options.half and device == CPU:
            return self.form
        form = copy.deepcopy(self.form).to(device)
        return form.half() if self.options.half else form

    @cached_property
    def in_float32(self) -> onnx.ModelProto:
        """The form as ONNX, metadata included, for all formats that begin with it; translating takes the longest."""
        return build_onnx(self.form, self.shape, self.open_axes, self.options.opset)

    @cached_property
    def noisy(self) -> set[str]:
        """Layers of it that stay in float32 where others are quantised."""
        return noisy_layers(self.in_float32, self.calibration)

    def onnx_model(self) -> onnx.ModelProto:
        """Return the form as ONNX that computes in what ``--half`` says, to be changed at will.

        Raises:
            ExportError: the model cannot be translated.
        """
        import onnx

        if self.options.half:
            return build_onnx(self.computing_form(), self.shape, self.open_axes, self.options.opset)
        model = onnx.ModelProto()
        model.CopyFrom(self.in_float32)
        return model

    def check(self, open_file: Callable[[], Runner]) -> str:
        """Hold a file against the model unless that is left out, and return what the file shall say of it.

        Args:
            open_file: returns what runs the file.

        Raises:
            ExportError: it computes something else.
        """
        if self.options.skip_check:
            LOGGER.warning("the file is not checked (--skip-check), and its metadata say so")
            return UNCHECKED
        return self.judge(open_file())

    def prove(self, path: Path, ending: str) -> dict[str, str]:
        """Measure a file beside the model unless that is left out, and return what the file shall say of it.

        Args:
            path: of the file as it lies there.
            ending: of the name that it will have.

        Raises:
            ExportError: it is worth less than the model.
        """
        return {} if self.proof is None else {"measured": self.proof.hold(path, ending)}

    def judge(self, run: Runner) -> str:
        """Hold what runs a file against the model, and return what the file shall say of it.

        Where it is further off than the tolerance, the model's own rounding is measured and may explain it. A quantised
        file has none unless it is asked for: how far single values are off does not say what it is worth.

        Raises:
            ExportError: it computes something else.
        """
        tolerance, objects = self.options.tolerance, self.form if isinstance(self.form, ObjectsGraph) else None
        taking = _taking_pixels_last(run) if self.form.layout == NHWC else run
        counts: dict[str, int] = {}
        differences = compare(_counting_objects(taking, counts), self.module, self.images, objects)
        for name in (name for name, count in counts.items() if not count):
            LOGGER.warning("%s is 0 on every picture of the check; --source PICTURE can show objects", name)
        if tolerance is None:
            show_differences(differences, math.inf)
            require_possible(differences)
            return checked(None, differences)
        is_near = all(worst.relative <= tolerance for worst in differences.values())
        rounding = {} if is_near else rounding_of_objects(own_rounding(self.module, self.images))
        passing = limits(differences, tolerance, rounding)
        show_differences(differences, tolerance, passing)
        require_possible(differences)
        judge(differences, tolerance, passing)
        return checked(tolerance, differences)


def _taking_pixels_last(run: Runner) -> Runner:
    """Return what runs a file whose input has the colours behind rows and columns."""
    return lambda pixels: run(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))


def _counting_objects(run: Runner, counts: dict[str, int]) -> Runner:
    """Return what runs a file and adds up the objects that it finds, by the names of the outputs that count them."""

    def counting(pixels: np.ndarray) -> dict[str, np.ndarray]:
        found = run(pixels)
        for name, values in found.items():
            if name.endswith("_count"):
                counts[name] = counts.get(name, 0) + int(values.sum())
        return found

    return counting


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
