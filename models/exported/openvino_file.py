"""A model of OpenVINO, an XML and a BIN file that belong together."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import Tensor

from models.exported.runtime import failing_in
from utils.errors import ModelError, UsageError
from utils.optional_packages import import_optional

PROGRAM = "OpenVINO"
METADATA = "yolograph"
"""Key of the metadata in the model's ``rt_info``."""


class OpenVinoFile:
    """See ``models.exported.runtime.Runtime``. Every thread has a request of its own.

    Args:
        path: of the XML.
        device: where to run, the CPU.
        at_once: threads that will call it at the same time.

    Raises:
        ModelError: it is no model that can be run.
        UsageError: OpenVINO is not installed, or another device is wanted.
    """

    def __init__(self, path: Path, device: torch.device, at_once: int = 1) -> None:
        if device.type != "cpu":
            raise UsageError(f"--device {device}: models of OpenVINO run on the CPU; take --device cpu for {path}")
        openvino = import_optional("openvino", f"{path}: a model of OpenVINO")
        if not path.with_suffix(".bin").is_file():
            raise ModelError(f"{path}: the file {path.stem}.bin is missing beside it; copy both of them")
        self.path, self.device = path, device
        # Other formats than float32 would be the machine's choice, and results another machine's.
        threads = torch.get_num_threads()
        # A stream is what computes for one caller; the threads are shared out among them.
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(at_once, threads),
        }
        with failing_in(PROGRAM, path, "opened"):
            model = openvino.Core().read_model(path)
            told = model.get_rt_info([METADATA]).value if model.has_rt_info([METADATA]) else {}
            self.metadata = {str(key): str(value) for key, value in told.items()}
            self._compiled = openvino.Core().compile_model(model, "CPU", settings)
            self._outputs = [output.get_any_name() for output in self._compiled.outputs]
        self._of_thread = threading.local()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return every output by name, on the CPU."""
        with failing_in(PROGRAM, self.path, "run"):
            if not hasattr(self._of_thread, "request"):
                self._of_thread.request = self._compiled.create_infer_request()
            found = self._of_thread.request.infer([images.cpu().numpy()], share_inputs=True)
            # The request's memory is used again by the next call.
            return {name: torch.from_numpy(found[i].copy()) for i, name in enumerate(self._outputs)}
