"""A graph as an OpenVINO model: translated from ONNX, two files that belong together."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import ExportError
from utils.export.agreement import Runner, failing_as
from utils.export.metadata import INPUT_NAME

if TYPE_CHECKING:
    import onnx

METADATA = "yolograph"
"""Key of the metadata in the model's ``rt_info``."""


@contextmanager
def openvino_folder(model: onnx.ModelProto, name: str, folder: Path) -> Iterator[Path]:
    """Write ``NAME.xml`` and ``NAME.bin`` into a folder that appears only when the block has ended well.

    Args:
        model: as ONNX; its metadata come along.
        name: of the files.
        folder: where they shall appear; what was there before is replaced.

    Yields:
        The XML in its temporary folder, for checks.

    Raises:
        ExportError: OpenVINO cannot translate the model, or what is there is not an earlier model of that name.
    """
    _require_replaceable(folder, name)
    import openvino

    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        with failing_as("OpenVINO"):
            translated = openvino.Core().read_model(model=model.SerializeToString())
            for entry in model.metadata_props:
                translated.set_rt_info(entry.value, [METADATA, entry.key])
            openvino.save_model(translated, temporary / f"{name}.xml", compress_to_fp16=False)
        yield temporary / f"{name}.xml"
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_replaceable(folder: Path, name: str) -> None:
    """Make sure that nothing is lost when a folder is replaced.

    Raises:
        ExportError: it holds other files than those of a model of that name, or is no folder.
    """
    own = {f"{name}.xml", f"{name}.bin"}
    is_own = folder.is_dir() and not folder.is_symlink() and {path.name for path in folder.iterdir()} <= own
    if folder.exists() and not is_own:
        raise ExportError(
            f"{folder}: is in the way, it is not only the OpenVINO model '{name}' of an earlier export; move it, or "
            "choose another --output"
        )


def openvino_runner(path: Path) -> Runner:
    """Return what runs an OpenVINO model on the CPU in float32.

    Raises:
        ExportError: the files cannot be opened.
    """
    import openvino

    with failing_as("OpenVINO"):
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in compiled.outputs]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with failing_as("OpenVINO"):
            found = compiled({INPUT_NAME: pixels})
            return {name: found[i] for i, name in enumerate(names)}

    return run
