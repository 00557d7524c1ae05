"""Choosing a device and the number format in which to compute on it."""

from __future__ import annotations

import logging

import torch

from utils.errors import UsageError

LOGGER = logging.getLogger("yolograph")

DTYPES = ("auto", "bfloat16", "float16", "float32")
"""What ``--dtype`` offers where nothing is trained."""


def select_device(wanted: str) -> torch.device:
    """Return the device that ``--device`` names.

    Args:
        wanted: empty for the first GPU or else the CPU, ``cpu``, a GPU number such as ``0``, ``cuda:0`` or ``mps``.

    Raises:
        UsageError: there is no such device.
    """
    text = wanted.strip().lower()
    if text == "cpu":
        return torch.device("cpu")
    if text == "":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if text == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        raise UsageError("--device mps: this machine has no Apple GPU; leave --device out to take the CPU")
    number = text.removeprefix("cuda:")
    if not number.isdigit():
        raise UsageError(f"--device {wanted}: write cpu, mps or the number of one GPU, such as 0")
    if int(number) >= torch.cuda.device_count():
        have = torch.cuda.device_count()
        raise UsageError(
            f"--device {wanted}: this machine has {have or 'no'} CUDA GPU(s); leave --device out to choose"
        )
    return torch.device(f"cuda:{number}")


def autocast_dtype(device: torch.device, wanted: str) -> torch.dtype | None:
    """Return the reduced format for forward passes, or None for float32.

    Args:
        device: where the model runs.
        wanted: ``auto`` (bfloat16 where the hardware computes in it), ``bfloat16``, ``float16``, ``float32``, or
            ``half``: 16 bits where the hardware computes in them, float16 on a GPU and bfloat16 on a CPU.

    Raises:
        UsageError: float16 on a CPU.
    """
    if wanted == "half":
        return _half_dtype(device)
    if wanted == "float16":
        if device.type == "cpu":
            raise UsageError(
                "--dtype float16: a CPU does not compute in it; write --half, which takes what this machine has"
            )
        return torch.float16
    if wanted == "bfloat16":
        return torch.bfloat16
    if wanted == "float32" or not _computes_bfloat16(device):
        return None
    return torch.bfloat16


def _half_dtype(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit format that the device computes in; where there is none, say so and return None."""
    if device.type != "cpu":
        return torch.float16
    if _computes_bfloat16(device):
        return torch.bfloat16
    LOGGER.info("--half: this CPU computes in no 16-bit format, so everything stays in float32")
    return None


def _computes_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware itself computes in bfloat16, so that it is no slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
