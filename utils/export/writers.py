"""The file of every format: built, checked where it lies, told what the check has found, and only then in its place."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from models.checkpoint import checkpoint_bytes
from utils.export.agreement import onnx_runner
from utils.export.file_formats import SUFFIXES
from utils.export.job import Job
from utils.export.metadata import INT8
from utils.export.onnx_model import tell, written_opset
from utils.export.openvino_model import build_openvino, openvino_folder, openvino_runner
from utils.export.quantisation_onnx import quantised_onnx
from utils.export.quantisation_openvino import quantised_openvino
from utils.export.tensorrt_engine import build_engine, engine_runner
from utils.export.torchscript_file import build_torchscript, torchscript_runner, with_told
from utils.export.weights_file import deployed_checkpoint, told_checkpoint, weights_runner
from utils.files import atomic_write, atomic_writer

LOGGER = logging.getLogger("yolograph")


def write_onnx(job: Job, path: Path) -> Path:
    """Write a model as ONNX; the file appears only when ONNX Runtime computes from it what the model computes.

    Raises:
        ExportError: the model cannot be translated, or the file computes something else.
    """
    model = job.onnx_model()
    if job.calibration is not None:
        model = quantised_onnx(model, job.calibration, job.noisy)
        tell(model, "precision", json.dumps(INT8))
    with atomic_writer(path) as file:
        _put(file, model.SerializeToString())
        tell(model, "checked", job.check(lambda: onnx_runner(Path(file.name), job.device)))
        for key, value in job.prove(Path(file.name), SUFFIXES["onnx"]).items():
            tell(model, key, value)
        _put(file, model.SerializeToString())
    LOGGER.info("\nwrote %s (%.1f MB, opset %d)", path, path.stat().st_size / 1e6, written_opset(model))
    return path


def write_torchscript(job: Job, path: Path) -> Path:
    """Write a model as TorchScript, as ``write_onnx`` does.

    Raises:
        ExportError: the model cannot be recorded, or the file computes something else.
    """
    content = build_torchscript(job.computing_form(job.device), job.shape, job.open_axes)
    with atomic_writer(path) as file:
        _put(file, content)
        verdict = job.check(lambda: torchscript_runner(Path(file.name), job.device))
        content = with_told(content, "checked", verdict)
        for key, value in job.prove(Path(file.name), SUFFIXES["torchscript"]).items():
            content = with_told(content, key, value)
        _put(file, content)
    LOGGER.info("\nwrote %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return path


def write_openvino(job: Job, path: Path) -> Path:
    """Write a model for OpenVINO into a folder beside ``path``, as ``write_onnx`` does; return the XML file.

    Raises:
        ExportError: the model cannot be translated, or the files compute something else.
    """
    folder = path.with_name(f"{path.stem}_openvino")
    model = build_openvino(job.form, job.shape, job.in_float32)
    with openvino_folder(model, path.stem, folder, job.options.half) as files:
        if job.calibration is not None:
            files.model = quantised_openvino(files.model, job.calibration, job.noisy)
            files.tell("precision", json.dumps(INT8))
            files.save()
        files.tell("checked", job.check(lambda: openvino_runner(files.xml)))
        for key, value in job.prove(files.xml, SUFFIXES["openvino"]).items():
            files.tell(key, value)
        files.save()
    written = folder / path.name
    size = sum(file.stat().st_size for file in (written, written.with_suffix(".bin")))
    LOGGER.info("\nwrote %s and its BIN (%.1f MB)", written, size / 1e6)
    return written


def write_safetensors(job: Job, path: Path) -> Path:
    """Write a model in its form for deployment as a checkpoint of ours, as ``write_onnx`` does.

    Raises:
        ExportError: the model that is loaded from the file computes something else.
    """
    checkpoint = deployed_checkpoint(job.module.model, job.options.half)
    as_loaded = replace(job, form=job.module)
    with atomic_writer(path) as file:
        _put(file, checkpoint_bytes(checkpoint))
        told = {"checked": as_loaded.check(lambda: weights_runner(Path(file.name), job.module.heads))}
        told |= as_loaded.prove(Path(file.name), SUFFIXES["safetensors"])
        _put(file, told_checkpoint(checkpoint, told))
    LOGGER.info("\nwrote %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return path


def write_tensorrt(job: Job, path: Path) -> Path:
    """Write a model as a TensorRT engine, as ``write_onnx`` does, and its metadata into a JSON file beside it.

    Raises:
        ExportError: the model cannot be translated, or the engine computes something else.
    """
    model = job.onnx_model()
    with atomic_writer(path) as file:
        _put(file, build_engine(job.form, job.shape, model))
        tell(model, "checked", job.check(lambda: engine_runner(Path(file.name), job.device)))
        # Before the engine has its name, so that none ever lies there without them.
        told = {entry.key: entry.value for entry in model.metadata_props}
        atomic_write(path.with_name(f"{path.name}.json"), json.dumps(told, indent=2).encode())
    LOGGER.info("\nwrote %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return path


def _put(file: BinaryIO, content: bytes) -> None:
    """Let a file be these bytes, for others that open it too."""
    file.seek(0)
    file.truncate()
    file.write(content)
    file.flush()


WRITERS: dict[str, Callable[[Job, Path], Path]] = {
    "onnx": write_onnx,
    "torchscript": write_torchscript,
    "openvino": write_openvino,
    "tensorrt": write_tensorrt,
    "safetensors": write_safetensors,
}
"""By format, what writes a job to a path and returns the file that it has written."""
