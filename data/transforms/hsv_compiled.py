"""The change of hue, saturation and value as one compiled pass over the pixels. Importing it needs numba and compiles.

The arithmetic is that of OpenCV's three passes, rounding by rounding: quotients in 12 binary digits on the way to HSV,
float32 with one fused multiplication on the way back. The compiler makes vector instructions of the loop only if every
whole number stays in 32 bits (numba widens each sum and product to 64), if source and target are different memory, and
if there are no branches; that is why it is written as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import boolean, config, float32, int32, njit, types, uint8, void
from numba.extending import intrinsic

if config.DISABLE_JIT:
    # Functions then stay Python, in which a picture would take minutes.
    raise ImportError("NUMBA_DISABLE_JIT is set")

_HUES, _HALF_DIGIT = np.int32(180), np.int32(1 << 11)
_SATURATION_UNIT, _HUE_UNIT = np.float32(255 << 12), np.float32((180 << 12) / 6)
_READ_ONLY = types.Array(uint8, 1, "C", readonly=True)
_SECTORS_PER_HUE, _PER_LEVEL = np.float32(6) / np.float32(180), np.float32(1 / 255)


@intrinsic
def _fused(typing_context: Any, factor: Any, other: Any, term: Any) -> Any:
    """Return ``factor * other + term`` in float32, rounded once."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


@intrinsic
def _nearest(typing_context: Any, number: Any) -> Any:
    """Return the whole number next to a float32, halves to the even one."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [arguments[0].type]), arguments)

    return types.float32(types.float32), build


@njit(inline="always")
def _channel(value, saturation, share):
    """Return a channel's level: ``share``, cut to 0..1, is how much of the saturation is taken from it."""
    share = max(float32(0), min(float32(1), share))
    return uint8(int32(value * _fused(-saturation, share, float32(1)) * float32(255)))


@njit(inline="always")
def _cut(level):
    return max(float32(0), min(float32(255), level))


@njit(void(_READ_ONLY, uint8[::1], float32[::1], boolean), nogil=True, error_model="numpy")
def change(source, target, factors, around):
    """Write the changed pixels of ``source`` to ``target``, which must be other memory.

    Args:
        source: (3 N,) uint8, RGB by RGB.
        target: (3 N,) uint8.
        factors: (6,) float32, the gains of hue, saturation and value, and the terms of the three.
        around: whether hues may leave 0..255, so that they have to be brought back into the circle.
    """
    hue_gain, saturation_gain, value_gain = factors[0], factors[1], factors[2]
    hue_term, saturation_term, value_term = factors[3], factors[4], factors[5]
    circle = float32(_HUES) if around else float32(1 << 20)
    for i in range(len(source) // 3):
        red, green, blue = int32(source[3 * i]), int32(source[3 * i + 1]), int32(source[3 * i + 2])
        value = max(max(red, green), blue)
        spread = int32(value - min(min(red, green), blue))
        # The quotients are whole numbers plus at most a half, which float32 holds: cutting off rounds them.
        quotient = int32(_SATURATION_UNIT / float32(max(value, int32(1))) + float32(0.5))
        saturation = int32(int32(int32(spread * quotient) + _HALF_DIGIT) >> int32(12))
        if value == red:
            turn = int32(green - blue)
        elif value == green:
            turn = int32(int32(blue - red) + int32(2 * spread))
        else:
            turn = int32(int32(red - green) + int32(4 * spread))
        quotient = int32(_HUE_UNIT / float32(max(spread, int32(1))) + float32(0.5))
        hue = int32(int32(int32(turn * quotient) + _HALF_DIGIT) >> int32(12))
        hue = int32(hue + _HUES) if hue < int32(0) else hue

        new_hue = _nearest(float32(hue) * hue_gain + hue_term)
        new_hue -= circle * np.floor(new_hue / circle)
        sector = new_hue * _SECTORS_PER_HUE
        sector = sector - float32(6) if sector >= float32(6) else sector
        s = _cut(_nearest(float32(saturation) * saturation_gain + saturation_term)) * _PER_LEVEL
        v = _cut(_nearest(float32(value) * value_gain + value_term)) * _PER_LEVEL
        # A channel is full in the two sectors around its own hue and empty in the two opposite ones.
        target[3 * i] = _channel(v, s, min(sector - float32(1), float32(5) - sector))
        target[3 * i + 1] = _channel(v, s, max(float32(1) - sector, sector - float32(3)))
        target[3 * i + 2] = _channel(v, s, max(float32(3) - sector, sector - float32(5)))
