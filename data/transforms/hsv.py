"""Hue, saturation and value of RGB pixels, multiplied and added to in eight bits."""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable

import cv2
import numpy as np

from data.transforms.scratch import scratch
from utils.errors import StoppedRun

HUES = 180
"""OpenCV holds the hue of 8-bit pixels in degrees / 2."""
_LEVELS = np.arange(256, dtype=np.float32)
_log = logging.getLogger("yolograph")


def change_hsv(
    image: np.ndarray,
    gains: tuple[float, float, float],
    terms: tuple[float, float, float],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Multiply hue, saturation and value of an image and add to them, in the 8-bit units of OpenCV.

    Each becomes ``gain * level + term`` in float32, rounded to the nearest whole number; the hue goes around the
    circle, saturation and value stop at 0 and 255. Where numba is installed (requirements-fast.txt), one compiled pass
    takes the place of three of OpenCV. Its pixels are those of OpenCV's vector instructions; OpenCV does without them
    at the end of rows, where a level may differ by one.

    Args:
        image: (H, W, 3) uint8 RGB.
        gains: factors of hue, saturation and value, 0 or more.
        terms: what is added to them.
        out: where the result goes, which may be the image itself; None takes fresh memory.
    """
    # A hue of 0 to 255 needs no wrap: the way back to RGB goes around the circle by itself.
    fits = terms[0] >= -0.5 and gains[0] * (HUES - 1) + terms[0] <= _LEVELS[-1]
    compiled = compiled_change()
    if compiled is None:
        return _change_in_opencv(image, gains, terms, fits, out)
    out = np.empty(image.shape, np.uint8) if out is None else out
    source, target = image, out if out.flags.c_contiguous else scratch("changed hsv", image.shape)
    if not image.flags.c_contiguous or np.may_share_memory(image, target):
        source = scratch("hsv", image.shape)
        np.copyto(source, image)
    compiled(source.reshape(-1), target.reshape(-1), np.array([*gains, *terms], np.float32), not fits)
    if target is not out:
        np.copyto(out, target)
    return out


@functools.cache
def compiled_change() -> Callable[..., None] | None:
    """Return the compiled pass, compiled on the first call, or None where numba is not installed.

    Transforms that will need it ask for it as they are made, before workers are forked, which then need not compile.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from data.transforms.hsv_compiled import change
    except StoppedRun:  # A signal that came just then is no fault of numba's.
        raise
    except Exception as error:  # A half-installed compiler fails in ways of its own: OSError, SystemError, TypingError.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        _log.warning("colours are changed by OpenCV, because the installed numba does not work: %s", reason)
        return None
    return change


def colours_are_compiled() -> bool | None:
    """Return whether the compiled pass changes colours in this process; None where nobody has asked for it."""
    return compiled_change() is not None if compiled_change.cache_info().currsize else None


def _change_in_opencv(
    image: np.ndarray,
    gains: tuple[float, float, float],
    terms: tuple[float, float, float],
    fits: bool,
    out: np.ndarray | None,
) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV, dst=scratch("hsv", image.shape))
    if not fits:
        hues = np.rint(_LEVELS * np.float32(gains[0]) + np.float32(terms[0])) % HUES
        cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), hues.astype(np.uint8)), hsv, 0)
        gains, terms = (1.0, *gains[1:]), (0.0, *terms[1:])
    # A matrix is four times as fast as a table here.
    cv2.transform(hsv, np.column_stack([np.diag(gains), terms]), dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=out)
