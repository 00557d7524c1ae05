"""An ONNX file in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.exported.runtime import failing_in
from utils.errors import UsageError
from utils.optional_packages import import_optional

PROGRAM = "ONNX Runtime"
_ERRORS_ALONE = 3
"""Its severity of messages that are printed."""


class OnnxFile:
    """See ``models.exported.runtime.Runtime``.

    Args:
        path: of the file.
        device: where to run: the CPU, or a GPU that the installed ONNX Runtime can use.
        at_once: threads that will call it at the same time.

    Raises:
        ModelError: it is no ONNX file that can be run.
        UsageError: ONNX Runtime is not installed, or not for that device.
    """

    def __init__(self, path: Path, device: torch.device, at_once: int = 1) -> None:
        runtime = import_optional("onnxruntime", f"{path}: an ONNX file")
        self.path, self.device = path, device
        options = runtime.SessionOptions()
        # Who calls computes too, beside threads of the session, which are one fewer than this number.
        options.intra_op_num_threads = max(torch.get_num_threads() - (at_once - 1), 1)
        options.log_severity_level = _ERRORS_ALONE
        with failing_in(PROGRAM, path, "opened"):
            self._session = runtime.InferenceSession(str(path), options, providers=_providers(runtime, device, path))
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
            self._outputs = [output.name for output in self._session.get_outputs()]
            self._input = self._session.get_inputs()[0].name
        if device.type == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise _no_gpu(device, path)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return every output by name, on the CPU."""
        with failing_in(PROGRAM, self.path, "run"):
            found: list[np.ndarray] = self._session.run(self._outputs, {self._input: images.cpu().numpy()})
        return {name: torch.from_numpy(values) for name, values in zip(self._outputs, found, strict=True)}


def runs_on(device: torch.device) -> bool:
    """Return whether the installed ONNX Runtime can use a device; False where there is none installed."""
    try:
        runtime = import_optional("onnxruntime", "an ONNX file")
    except UsageError:
        return False
    return device.type == "cpu" or (
        device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers()
    )


def _providers(runtime: Any, device: torch.device, path: Path) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda" or "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise _no_gpu(device, path)
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _no_gpu(device: torch.device, path: Path) -> UsageError:
    return UsageError(
        f"--device {device}: the ONNX Runtime that is installed here cannot run {path} there; take --device cpu, or "
        "install onnxruntime-gpu in place of onnxruntime"
    )
