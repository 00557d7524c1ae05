"""The version of this program, as ``pyproject.toml`` or the installed package states it."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

_PROJECT_FILE = Path(__file__).resolve().parents[1] / "pyproject.toml"


def program_version() -> str:
    """Return the version number, such as ``0.1.0``; a checkout's own file speaks before an installed package."""
    if _PROJECT_FILE.is_file():
        return tomllib.loads(_PROJECT_FILE.read_text(encoding="utf-8"))["project"]["version"]
    return metadata.version("yolograph")
