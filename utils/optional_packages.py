"""Packages that only some jobs need: asked for when they are needed, never installed unasked."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from utils.errors import UsageError


def import_optional(package: str, purpose: str) -> ModuleType:
    """Return a package that ``requirements-results.txt``, ``-search``, ``-loggers``, ``-track`` or ``-sam`` lists.

    Args:
        package: its import name, which must also be the name pip knows.
        purpose: what needs it, the beginning of the message.

    Raises:
        UsageError: it is not installed; the sentence holds the pip line.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        missing = error.name or package
        raise UsageError(
            f"{purpose} needs the package {missing}, which is not installed; run: pip install {missing}"
        ) from None
