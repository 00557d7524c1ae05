"""What runs an exported file: one small class per format, all alike from the outside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from utils.errors import ModelError, YolographError, is_out_of_memory

PLACE = re.compile(r"(Exception from|Check '.*' failed at) \S+:\d+:$")
"""A line by which OpenVINO says where in its own code it has failed; the reason comes behind it."""
REASON_SHOWN = 300


class Runtime(Protocol):
    """An opened file. Several threads may call it at the same time.

    Attributes:
        metadata: as they stand in the file.
        device: where it computes.
    """

    metadata: Mapping[str, str]
    device: torch.device

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return every output by name.

        Args:
            images: uint8 in the shape that the file takes, contiguous.

        Raises:
            ModelError: the file does not run.
        """
        ...


@contextmanager
def failing_in(program: str, path: Path, action: str) -> Iterator[None]:
    """Turn whatever a program that runs files raises into one sentence; that memory is short stays as it is.

    Args:
        program: its name.
        path: of the file.
        action: what failed, such as ``opened``.

    Raises:
        ModelError: it raised something.
    """
    try:
        yield
    except YolographError:
        raise
    except Exception as error:  # These packages raise errors of their own that share no base class.
        if is_out_of_memory(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for line in lines if not PLACE.match(line)] or lines
        reason = telling[0][:REASON_SHOWN] if telling else type(error).__name__
        raise ModelError(f"{path}: cannot be {action} by {program}: {reason}; export the model again") from error
