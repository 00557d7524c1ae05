"""Choosing a device and the number format in which to compute on it."""

from __future__ import annotations

import logging
import statistics
import time

import torch
import torch.nn.functional as F

from utils.errors import UsageError

LOGGER = logging.getLogger("yolograph")

DTYPES = ("auto", "bfloat16", "float16", "float32")
"""What ``--dtype`` offers."""
VOLTA = (7, 0)
"""Compute capability from which CUDA GPUs are faster in float16."""
MEASURED_PAIRS = 7
MEASURING_SECONDS = 0.5


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
                "--dtype float16: a CPU does not compute in it; take --dtype bfloat16 or float32, or --device 0"
            )
        return torch.float16
    if wanted == "bfloat16":
        return torch.bfloat16
    if wanted == "float32" or not _computes_bfloat16(device):
        return None
    return torch.bfloat16


def training_format(device: torch.device, wanted: str) -> str:
    """Return the name of the format in which a run computes its forward passes, and say in one line why.

    With ``auto`` it is bfloat16 where the hardware computes in it and a short measurement finds it faster; float16 on a
    GPU that is too old for bfloat16; otherwise float32. A run keeps the answer, so that it goes on in the same format.

    Args:
        device: where the model runs.
        wanted: ``auto`` or one of the other ``DTYPES``, which is the answer itself.

    Raises:
        UsageError: float16 on a CPU.
    """
    if wanted != "auto":
        autocast_dtype(device, wanted)
        return wanted
    if _computes_bfloat16(device):
        gain = measured_gain(device, torch.bfloat16)
        if gain > 1:
            LOGGER.info("bfloat16: %.1f times as fast as float32 here", gain)
            return "bfloat16"
        LOGGER.info("float32: bfloat16 takes %.1f times as long here", 1 / gain)
    elif device.type == "cuda" and torch.cuda.get_device_capability(device) >= VOLTA:
        LOGGER.info("float16: this GPU does not compute in bfloat16")
        return "float16"
    else:
        LOGGER.info("float32: this %s computes in no shorter format", "CPU" if device.type == "cpu" else "GPU")
    return "float32"


def measured_gain(device: torch.device, dtype: torch.dtype) -> float:
    """Return how many times as fast as float32 a few convolutions run forwards and backwards; takes half a second.

    Args:
        device: where to measure.
        dtype: reduced format, used as training uses it: float32 weights, channels_last, autocast.
    """
    # Large enough for a GPU to be busy, and small enough for a core or two.
    images, channels, side = (16, 128, 80) if device.type == "cuda" else (2, 64, 40)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device).to(memory_format=torch.channels_last)

    x = draw(images, channels, side, side)
    weights = [(draw(channels, channels, k, k) * 0.05).requires_grad_() for k in (3, 1, 3)]

    def seconds(reduced: bool) -> float:
        started = time.perf_counter()
        with torch.enable_grad():
            y = x
            with torch.autocast(device.type, dtype, enabled=reduced):
                for weight in weights:
                    y = F.silu(F.conv2d(y, weight, padding="same"))
            torch.autograd.grad(y.float().sum(), weights)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    # The first pass of each chooses its kernels.
    seconds(False), seconds(True)
    ratios: list[float] = []
    started = time.perf_counter()
    while len(ratios) < MEASURED_PAIRS and (not ratios or time.perf_counter() - started < MEASURING_SECONDS):
        ratios.append(seconds(False) / seconds(True))
    return statistics.median(ratios)


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
