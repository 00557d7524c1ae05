"""Which paths are exported files, told by their endings."""

from __future__ import annotations

from pathlib import Path

from utils.errors import ModelError

ONNX, TORCHSCRIPT, OPENVINO = ".onnx", ".torchscript", ".xml"
ENDINGS = (ONNX, TORCHSCRIPT, OPENVINO)
"""Endings of files that can be run here."""


def is_exported(path: str | Path) -> bool:
    """Return whether a path is that of an exported file, or of a folder that ``--include openvino`` has written."""
    path = Path(path)
    return path.suffix.lower() in ENDINGS or _model_in_folder(path) is not None


def exported_file(path: str | Path) -> Path:
    """Return the file itself: of a folder the XML in it.

    Raises:
        ModelError: there is no such file, or it is empty.
    """
    path = Path(path)
    file = _model_in_folder(path) or path
    if not file.is_file():
        raise ModelError(f"{path}: there is no such file; write one with export.py or give the path of one")
    if file.stat().st_size == 0:
        raise ModelError(f"{path}: is empty; export or copy it again")
    return file


def _model_in_folder(path: Path) -> Path | None:
    """Return the only model of OpenVINO in a folder; None where there is none, or several."""
    found = [file for file in path.glob(f"*{OPENVINO}") if file.with_suffix(".bin").is_file()] if path.is_dir() else []
    return found[0] if len(found) == 1 else None
