"""Which paths are exported files, told by their endings."""

from __future__ import annotations

from pathlib import Path

from utils.errors import ModelError

ONNX, TORCHSCRIPT, OPENVINO = ".onnx", ".torchscript", ".xml"
ENDINGS = (ONNX, TORCHSCRIPT, OPENVINO)
"""Endings of files that can be run here."""
ENDINGS_ELSEWHERE = (".engine", ".tflite", ".mlmodel", ".pb")
"""Endings of exported files that nothing here runs."""


def is_exported(path: str | Path) -> bool:
    """Return whether a path is that of an exported file, or of a folder that ``--include openvino`` has written."""
    path = Path(path)
    return path.suffix.lower() in ENDINGS or bool(_models_in_folder(path))


def require_no_export(path: str | Path) -> None:
    """Refuse an exported file where a checkpoint is wanted.

    Raises:
        ModelError: it is one, whoever has written it.
    """
    if is_exported(path) or Path(path).suffix.lower() in ENDINGS_ELSEWHERE:
        raise ModelError(f"{path}: is an exported file; give the checkpoint that it was made from")


def exported_file(path: str | Path) -> Path:
    """Return the file itself: of a folder the XML in it.

    Raises:
        ModelError: there is no such file, it is empty, or a folder holds several.
    """
    path = Path(path)
    found = _models_in_folder(path)
    if len(found) > 1:
        raise ModelError(f"{path}: holds {len(found)} models of OpenVINO; give the XML of one, such as {found[0]}")
    file = found[0] if found else path
    if not file.is_file():
        raise ModelError(f"{path}: there is no such file; write one with export.py or give the path of one")
    if file.stat().st_size == 0:
        raise ModelError(f"{path}: is empty; export or copy it again")
    return file


def _models_in_folder(path: Path) -> list[Path]:
    """Return the XML files in a folder by name; where some have a BIN beside them, only those."""
    found = sorted(path.glob(f"*{OPENVINO}")) if path.is_dir() else []
    return [file for file in found if file.with_suffix(".bin").is_file()] or found
