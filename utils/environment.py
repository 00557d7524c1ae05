"""Is the installation sound? A broken one is named in one sentence where it is first needed, not in a traceback."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from utils.errors import RunError


@cache
def torchvision_ops() -> ModuleType:
    """Return ``torchvision.ops``, imported when it is first used so that a failure reaches ``run_command``.

    torchvision holds compiled operators that fit one release of torch; beside another one its import fails somewhere
    inside with ``operator torchvision::nms does not exist`` or an undefined symbol.

    Raises:
        RunError: torchvision is missing, or does not fit torch.
    """
    try:
        return import_module("torchvision.ops")
    except ModuleNotFoundError as error:
        raise RunError(
            f"the package {error.name} is not installed; run `pip install -r requirements.txt` in this environment"
        ) from None
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"torchvision {_version('torchvision')} does not fit torch {_version('torch')} ({reason}); "
            "install a matching pair: `pip uninstall -y torch torchvision`, then `pip install -r requirements.txt`"
        ) from None


def check_environment() -> None:
    """Make sure that a command which computes with torch can go on to its end.

    A broken pair would otherwise show at the first validation, after an epoch of training.

    Raises:
        RunError: see ``torchvision_ops``.
    """
    if "torch" in sys.modules:
        torchvision_ops()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
