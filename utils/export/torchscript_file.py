"""A graph as a TorchScript file: what one input makes the model do, recorded."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

from utils.errors import ExportError
from utils.export.agreement import Runner, failing_as
from utils.export.exported_graph import ExportedGraph
from utils.export.metadata import OpenAxes, describe

METADATA = "metadata.json"
"""Name of the extra file with the metadata, for ``torch.jit.load(path, _extra_files={...})``."""
_RECORDS_OF_THE_MACHINE = ".debug_pkl"


def build_torchscript(module: ExportedGraph, shape: tuple[int, int, int], open_axes: OpenAxes) -> bytes:
    """Record a graph on one input and return the file, metadata included.

    Args:
        module: what to record, on the CPU.
        shape: batch size, height and width of the input; sizes are multiples of the graph's stride.
        open_axes: which sides of the input may differ; whether they do work is for a check to find out.

    Raises:
        ExportError: the model cannot be recorded.
    """
    metadata = describe(module, module.output_names(), shape, open_axes)
    example = torch.zeros(shape[0], module.model.spec.channels, *shape[1:], dtype=torch.uint8)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # It warns of every size that becomes a number; the file is checked at all shapes it is meant for.
            warnings.simplefilter("ignore")
            recorded = torch.jit.trace(module, example, strict=False, check_trace=False)
            torch.jit.save(recorded, buffer, _extra_files={METADATA: json.dumps(metadata)})
    except (RuntimeError, ValueError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(
            f"{module.model.spec.source}: the model cannot be recorded as TorchScript: {reason}"
        ) from error
    return _without_records_of_the_machine(buffer.getvalue())


def _without_records_of_the_machine(file: bytes) -> bytes:
    """Return a file without the notes for debuggers, which name the paths of this machine."""
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as source, zipfile.ZipFile(kept, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(_RECORDS_OF_THE_MACHINE):
                target.writestr(entry, source.read(entry))
    return kept.getvalue()


def torchscript_runner(path: Path) -> Runner:
    """Return what runs a TorchScript file on the CPU.

    Args:
        path: a file that this program has just written; TorchScript is code, so no other is opened here.

    Raises:
        ExportError: the file cannot be opened.
    """
    with warnings.catch_warnings(), failing_as("TorchScript"):
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(str(path), map_location="cpu").eval()

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with failing_as("TorchScript"), torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in loaded(torch.from_numpy(pixels)).items()}

    return run
