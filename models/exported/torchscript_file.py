"""A TorchScript file. It is a program, so it is looked through before any of it runs."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from models.exported.runtime import failing_in
from utils.errors import ModelError

PROGRAM = "PyTorch"
METADATA = "extra/metadata.json"
PROGRAM_TEXT = re.compile(r"(^|/)code/.*\.py$", re.IGNORECASE)
NUMBERS = re.compile(r"/(data|constants)/\d+$")
"""Which entries of the archive are program text, in any case of letters as PyTorch finds them; which are tensors."""
MOST_BYTES = 100_000_000
"""Bytes of program text and of metadata that are looked through; recorded models have less than a hundredth of it."""
REACHING_OUT = re.compile(rb"\b(from_file|load_tensor|save|__setstate__|__getstate__)\b")
"""Names that a recorded model does not have: of what touches other files, or runs while a file is opened."""
OPERATIONS = re.compile(rb"\bops\s*\.\s*(\w+)")
KNOWN_OPERATIONS = frozenset((b"aten", b"prim", b"torchvision"))


class TorchScriptFile:
    """See ``models.exported.runtime.Runtime``.

    Args:
        path: of the file.
        device: where to run.
        at_once: threads that will call it at the same time; each has the threads of PyTorch that it has set for itself.

    Raises:
        ModelError: it is no TorchScript file, or holds more than a recorded model.
    """

    def __init__(self, path: Path, device: torch.device, at_once: int = 1) -> None:
        self.path, self.device = path, device
        self.metadata = look_through(path)
        with warnings.catch_warnings(), failing_in(PROGRAM, path, "opened"):
            warnings.simplefilter("ignore")
            self._module = torch.jit.load(str(path), map_location=device).eval()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return every output by name, on the file's device."""
        with failing_in(PROGRAM, self.path, "run"):
            return dict(self._module(images.to(self.device)))


def look_through(path: Path) -> dict[str, str]:
    """Return the metadata of a file whose program does nothing but compute.

    Raises:
        ModelError: it is no TorchScript file, it is damaged, or its program could do more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist() if not NUMBERS.search(entry.filename)) > MOST_BYTES:
                raise ModelError(f"{path}: holds far more than a recorded model does; export the model again")
            for entry in archive.infolist():
                if PROGRAM_TEXT.search(entry.filename):
                    _require_computing(archive.read(entry), path)
            told = [entry for entry in archive.namelist() if entry.partition("/")[2] == METADATA]
            metadata = json.loads(archive.read(told[0])) if told else {}
        # What PyTorch will read counts: an archive can be made of which two readers see different entries.
        reader = torch._C.PyTorchFileReader(str(path))
        for name in reader.get_all_records():
            if PROGRAM_TEXT.search(name):
                _require_computing(reader.get_record(name), path)
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, RuntimeError, NotImplementedError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise ModelError(
            f"{path}: is no TorchScript file, or a damaged one ({reason}); export the model again"
        ) from None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{path}: its metadata are damaged; export the model again")
    return metadata


def _require_computing(text: bytes, path: Path) -> None:
    """Refuse program text with a name that computing does not need.

    Raises:
        ModelError: there is one.
    """
    found = REACHING_OUT.search(text)
    strange = next((name for name in OPERATIONS.findall(text) if name not in KNOWN_OPERATIONS), None)
    if found or strange:
        name = (found[1] if found else strange).decode(errors="replace")[:50]
        raise ModelError(
            f"{path}: its program has '{name}', which export.py never writes; it could do more than compute, so it is "
            "not run"
        )
