"""A graph as an OpenVINO model: translated from ONNX, two files that belong together."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import ExportError
from utils.export.agreement import Runner, failing_as
from utils.export.exported_graph import ExportedGraph
from utils.export.failing_row import cannot_hold
from utils.export.metadata import FLOAT16, INPUT_NAME
from utils.export.onnx_model import onnx_of_part

if TYPE_CHECKING:
    import onnx
    import openvino

METADATA = "yolograph"
"""Key of the metadata in the model's ``rt_info``."""


class OpenVINOFiles:
    """The two files of a model while they are being made.

    Args:
        model: as OpenVINO has it.
        xml: where they are; the other one lies beside.
        halved: whether weights are stored as float16.
    """

    def __init__(self, model: openvino.Model, xml: Path, halved: bool = False) -> None:
        self.model, self.xml, self.halved = model, xml, halved

    def save(self) -> None:
        """Write the model as it is now.

        Raises:
            ExportError: OpenVINO cannot write it.
        """
        import openvino

        try:
            openvino.save_model(self.model, self.xml, compress_to_fp16=self.halved)
        except Exception as error:  # It tells a full disk as an error of a stream, without a number.
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            free = shutil.disk_usage(self.xml.parent).free / 1e6
            raise ExportError(
                f"{self.xml.parent.parent}: OpenVINO cannot write {self.xml.stem}.xml and .bin there, where {free:.1f} "
                f"MB are free: {reason}; make room, or choose another --output"
            ) from error

    def tell(self, key: str, value: str) -> None:
        """Set one of the metadata; the files have it when they are saved."""
        self.model.set_rt_info(value, [METADATA, key])


def build_openvino(form: ExportedGraph, shape: tuple[int, int, int], model: onnx.ModelProto) -> openvino.Model:
    """Translate a graph from ONNX, metadata included.

    Args:
        form: the graph.
        shape: batch size, height and width of the input.
        model: the graph as ONNX.

    Raises:
        ExportError: OpenVINO cannot translate the model; the row is named.
    """
    try:
        translated = _translated(model)
    except Exception as error:  # OpenVINO raises errors of several kinds.
        raise cannot_hold("OpenVINO", form, shape, lambda *part: _translated(onnx_of_part(*part)), error) from error
    for entry in model.metadata_props:
        translated.set_rt_info(entry.value, [METADATA, entry.key])
    return translated


def _translated(model: onnx.ModelProto) -> openvino.Model:
    import openvino

    return openvino.Core().read_model(model=model.SerializeToString())


@contextmanager
def openvino_folder(model: openvino.Model, name: str, folder: Path, halved: bool = False) -> Iterator[OpenVINOFiles]:
    """Write ``NAME.xml`` and ``NAME.bin`` into a folder that appears only when the block has ended well.

    Args:
        model: as OpenVINO has it, metadata included.
        name: of the files.
        folder: where they shall appear; what was there before is replaced.
        halved: whether weights are stored as float16.

    Yields:
        The files in their temporary folder, saved, for checks.

    Raises:
        ExportError: OpenVINO cannot write the model, or what is there is not an earlier model of that name.
    """
    _require_replaceable(folder, name)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        files = OpenVINOFiles(model, temporary / f"{name}.xml", halved)
        if halved:
            files.tell("precision", json.dumps(FLOAT16))
        files.save()
        yield files
        temporary.chmod(0o755)
        replace_folder(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(folder: Path, new: Path) -> None:
    """Let a new folder take the place of an old one, which is there until the new one is."""
    old = new.with_suffix(".old")
    with suppress(FileNotFoundError):
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        with suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
