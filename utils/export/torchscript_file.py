"""A graph as a TorchScript file: what one input makes the model do, recorded."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utils.export.agreement import Runner, failing_as
from utils.export.exported_graph import ExportedGraph
from utils.export.failing_row import cannot_hold
from utils.export.metadata import OpenAxes, describe

METADATA = "metadata.json"
"""Name of the extra file with the metadata, for ``torch.jit.load(path, _extra_files={...})``."""
CPU = torch.device("cpu")
_RECORDS_OF_THE_MACHINE = ".debug_pkl"


def build_torchscript(module: ExportedGraph, shape: tuple[int, int, int], open_axes: OpenAxes) -> bytes:
    """Record a graph on one input and return the file, metadata included.

    Args:
        module: what to record, on the device where the file shall run.
        shape: batch size, height and width of the input; sizes are multiples of the graph's stride.
        open_axes: which sides of the input may differ; whether they do work is for a check to find out.

    Raises:
        ExportError: the model cannot be recorded.
    """
    buffer = io.BytesIO()
    try:
        metadata = describe(module, module.output_names(), shape, open_axes)
        with warnings.catch_warnings(), torch.no_grad():
            # It warns of every size that becomes a number; the file is checked at all shapes it is meant for.
            warnings.simplefilter("ignore")
            recorded = _recorded(module, (module.example(shape),))
            torch.jit.save(recorded, buffer, _extra_files={METADATA: json.dumps(metadata)})
    except (RuntimeError, ValueError, TypeError) as error:
        raise cannot_hold("TorchScript", module, shape, _recorded, error) from error
    return _without_records_of_the_machine(buffer.getvalue())


def _recorded(module: nn.Module, inputs: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    return torch.jit.trace(module, inputs, strict=False, check_trace=False)


def _without_records_of_the_machine(file: bytes) -> bytes:
    """Return a file without the notes for debuggers, which name the paths of this machine."""
    return _copied(file, lambda name, content: None if name.endswith(_RECORDS_OF_THE_MACHINE) else content)


def with_told(file: bytes, key: str, value: str) -> bytes:
    """Return a file with one of its metadata set."""

    def changed(name: str, content: bytes) -> bytes:
        return (
            json.dumps(json.loads(content) | {key: value}).encode() if name.endswith(f"/extra/{METADATA}") else content
        )

    return _copied(file, changed)


def _copied(file: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """Return a file whose entries are what ``change`` makes of name and content, None for nothing."""
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as source, zipfile.ZipFile(kept, "w") as target:
        for entry in source.infolist():
            content = change(entry.filename, source.read(entry))
            if content is not None:
                target.writestr(entry, content)
    return kept.getvalue()


def torchscript_runner(path: Path, device: torch.device = CPU) -> Runner:
    """Return what runs a TorchScript file.

    Args:
        path: a file that this program has just written; TorchScript is code, so no other is opened here.
        device: where it was recorded.

    Raises:
        ExportError: the file cannot be opened.
    """
    with warnings.catch_warnings(), failing_as("TorchScript"):
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(str(path), map_location=device).eval()

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        # The 10 bits of TF32, which GPUs take for convolutions, would be off by more than the tolerance.
        exact = torch.backends.cudnn.flags(allow_tf32=False) if device.type == "cuda" else nullcontext()
        with failing_as("TorchScript"), torch.inference_mode(), exact:
            found = loaded(torch.from_numpy(pixels).to(device))
            return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    return run
