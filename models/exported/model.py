"""An exported file as a model: it answers for pictures where a graph would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.transforms.letterbox import LetterboxRule
from models.exported import onnx_file
from models.exported.answers import predictions_of, require_outputs
from models.exported.description import OBJECTS, read_description
from models.exported.onnx_file import OnnxFile
from models.exported.openvino_file import OpenVinoFile
from models.exported.paths import ONNX, OPENVINO, TORCHSCRIPT, exported_file, is_exported
from models.exported.runtime import Runtime
from models.exported.torchscript_file import TorchScriptFile
from models.heads.base import Head
from models.spec import ModelSpec
from utils.devices import select_device
from utils.precision import full_precision

RUNTIMES: dict[str, type[Runtime]] = {ONNX: OnnxFile, TORCHSCRIPT: TorchScriptFile, OPENVINO: OpenVinoFile}
"""What runs a file, by its ending."""


class ExportedModel:
    """What ``models.inference.Inference`` needs of a graph, by a file that ``export.py`` has written.

    It keeps no state between calls, so several threads may share it.

    Args:
        path: of the file, or of the folder of an OpenVINO model.
        device: where to run.
        at_once: threads that will call it at the same time, among which the cores are shared out.

    Attributes:
        path: of the file.
        description: what it tells about itself.
        device: where it runs.
        takes_sizes: False: a file knows of no padding, so pictures of different sizes do not share a pass.

    Raises:
        ModelError: the file is missing, damaged, or none of ours.
        UsageError: the program that runs it is not installed, or not for that device.
    """

    takes_sizes = False

    def __init__(self, path: str | Path, device: torch.device, at_once: int = 1) -> None:
        self.path, self.device = exported_file(path), device
        self._run = RUNTIMES[self.path.suffix.lower()](self.path, device, at_once)
        self.description = read_description(self._run.metadata, self.path)
        require_outputs(self.description)

    @property
    def spec(self) -> ModelSpec:
        """The model's rows."""
        return self.description.spec

    @property
    def heads(self) -> dict[str, Head]:
        """Every head that the file has, without weights, by name."""
        return self.description.heads

    @property
    def head_rows(self) -> dict[str, int]:
        """Row index of every head."""
        return self.description.head_rows

    @property
    def names(self) -> dict[str, list[str]]:
        """Class names of every head."""
        return self.description.names

    @property
    def stride(self) -> int:
        """Height and width of inputs are multiples of it, pixels."""
        return self.description.stride

    @property
    def letterbox(self) -> LetterboxRule:
        """How pictures are placed within the input; a file of one size has the rule for exactly that size."""
        return self.description.letterbox

    @property
    def gives_objects(self) -> bool:
        """Whether the file chooses objects itself."""
        return self.description.answers == OBJECTS

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedModel:
        """Return the model itself: copies for several threads share it."""
        return self

    def predict(self, images: Tensor, heads: Iterable[str]) -> dict[str, Any]:
        """Return the predictions of the asked heads.

        Args:
            images: (B, 3, H, W) uint8 RGB of the one size that the file takes, or of multiples of ``stride``. Where it
                takes batches of one size, more images run in several passes, and the last one is filled up.
            heads: names of heads.

        Raises:
            ModelError: the file does not run, or its outputs do not fit its heads.
        """
        count, most = len(images), self.description.batch_size or max(len(images), 1)
        if self.description.layout == "NHWC":
            images = images.permute(0, 2, 3, 1)
        passes = [self._run(_filled(part, most).contiguous()) for part in images.split(most)]
        # Joining copies, also a single one: of logits that takes as long as a part of the network.
        whole = (
            passes[0] if len(passes) == 1 else {name: torch.cat([each[name] for each in passes]) for name in passes[0]}
        )
        outputs = {name: full_precision(values[:count]) for name, values in whole.items()}
        return {name: predictions_of(outputs, name, self.description) for name in heads}


def _filled(images: Tensor, count: int) -> Tensor:
    """Return ``count`` images, black ones behind those that are there."""
    if len(images) == count:
        return images
    return torch.cat((images, images.new_zeros((count - len(images), *images.shape[1:]))))


def device_for(weights: Iterable[str | Path], wanted: str) -> torch.device:
    """Return the device that ``--device`` names; where it names none, one that all the weights can run on.

    Args:
        weights: paths of checkpoints and of exported files.
        wanted: see ``utils.devices.select_device``.

    Raises:
        UsageError: there is no such device.
    """
    device = select_device(wanted)
    if wanted.strip() or device.type == "cpu":
        return device
    return device if all(_can_run(Path(path), device) for path in weights) else torch.device("cpu")


def _can_run(path: Path, device: torch.device) -> bool:
    """Whether weights run on a GPU; a recorded TorchScript model stays where it was recorded."""
    if not is_exported(path):
        return True
    return path.suffix.lower() == ONNX and onnx_file.runs_on(device)
