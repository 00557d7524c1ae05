"""Arrays and a few texts in one file that is whole or absent, and is believed only under the key it was written with.

A file is a plain ``.npz`` with its texts as JSON, so reading it never runs code.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import atomic_write

_log = logging.getLogger("yolograph")


def load_arrays(file: Path, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return the texts and arrays kept in a file, or None if there is none, it is damaged or its key is another one."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            meta = json.loads(stored["meta"].tobytes())
            if meta["key"] != key:
                return None
            return meta, {name: stored[name] for name in stored.files if name != "meta"}
    except Exception:  # Each of zipfile, its decompressors and NumPy has errors of its own for damaged bytes.
        return None


def save_arrays(file: Path, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file so that it is whole or absent; where it cannot be written, warn and go on without.

    Args:
        file: to write; its folder is made.
        meta: values for JSON, one of them the ``key``.
        arrays: by name.
    """
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, buffer.getvalue())
    except OSError as error:
        _log.warning("%s: no label cache (%s); the labels are scanned anew each time", file.parent, error.strerror)
