"""Choosing a device and the number format in which to compute on it."""

from __future__ import annotations

import torch

from utils.errors import UsageError


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
        wanted: ``auto`` (bfloat16 where the hardware computes in it), ``bfloat16`` or ``float32``.
    """
    if wanted == "bfloat16":
        return torch.bfloat16
    if wanted == "float32":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else None
    return None
