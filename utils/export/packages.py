"""Optional packages: asked for when a command needs them, never installed unasked."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from utils.errors import ExportError


def require_for_export(packages: Iterable[str], purpose: str) -> None:
    """Make sure that packages are installed.

    Args:
        packages: import names, which must also be the names pip knows.
        purpose: what needs them, the beginning of the message.

    Raises:
        ExportError: some are missing; the sentence holds the pip line.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"{purpose} needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"run: pip install {' '.join(missing)}"
        )
