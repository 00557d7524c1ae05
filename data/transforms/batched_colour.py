"""Colour changes of a whole batch on the device, with OpenCV's rounding of 8-bit images.

The functions answer for those of ``data.transforms.colour``; every image has its own numbers. Whole numbers up to 2^24
are exact in float32, so products and shifts of OpenCV's fixed-point arithmetic are done in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from data.transforms.batched_geometry import parts
from data.transforms.colour import JITTERS

_HUES = 180.0
_FIXED = 4096.0
_LUMA = (0.2989, 0.587, 0.114)
_CONTRAST, _SATURATION, _HUE = (JITTERS.index(kind) for kind in ("contrast", "saturation", "hue"))


def rgb_to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue (0..179), saturation and value (0..255) of (..., 3) uint8 RGB as whole float32 numbers."""
    red, green, blue = images.float().unbind(-1)
    value = images.amax(-1).float()
    spread = value - images.amin(-1)
    by_value = torch.round(255 * _FIXED / value.clamp(min=1))
    saturation = torch.floor((spread * by_value + _FIXED / 2) / _FIXED)
    from_green = torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    sixths = torch.where(value == red, green - blue, from_green)
    by_spread = torch.round(_HUES / 6 * _FIXED / spread.clamp(min=1))
    hue = torch.floor((sixths * by_spread + _FIXED / 2) / _FIXED)
    return torch.where(hue < 0, hue + _HUES, hue), saturation, value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return (..., 3) uint8 RGB; hue 0..180, saturation and value 0..255. OpenCV's fast path cuts off, as this does."""
    sixth, saturation, value = hue * (6 / _HUES), saturation * (1 / 255), value * (1 / 255)
    channels = []
    for offset in (5.0, 3.0, 1.0):
        along = (sixth + offset).remainder_(6)
        fall = torch.minimum(along, 4 - along).clamp_(0, 1).mul_(saturation)
        channels.append((1 - fall).mul_(value).mul_(255).to(torch.uint8))
    return torch.stack(channels, -1)


def scale_hsv_batch(images: Tensor, gains: Tensor) -> Tensor:
    """Multiply hue (around the circle), saturation and value (saturating) of every image by its own factors.

    Args:
        images: (N, H, W, 3) uint8 RGB; overwritten.
        gains: (N, 3) float32, hue, saturation, value.

    Returns:
        ``images``.
    """
    for rows in parts(len(images), images.shape[1:3]):
        hue, saturation, value = rgb_to_hsv(images[rows])
        by_hue, by_saturation, by_value = gains[rows, :, None, None].unbind(1)
        hue = (hue * by_hue).remainder_(_HUES).floor_()
        saturation = (saturation * by_saturation).clamp_(max=255).floor_()
        value = (value * by_value).clamp_(max=255).floor_()
        images[rows] = hsv_to_rgb(hue, saturation, value)
    return images


def jitter_batch(images: Tensor, kinds: Tensor, factors: Tensor, with_hue: bool) -> Tensor:
    """Apply changes of brightness, contrast, saturation and hue, in every image's own order.

    Args:
        images: (N, H, W, 3) uint8 RGB; overwritten.
        kinds: (N, K) positions in ``JITTERS``.
        factors: (N, K) float32, as ``draw_jitter`` draws them.
        with_hue: whether there are changes of hue at all; they cost more than the others together.

    Returns:
        ``images``.
    """
    for rows in parts(len(images), images.shape[1:3]):
        part = images[rows]
        for step in range(kinds.shape[1]):
            kind, factor = (value[rows, step, None, None, None] for value in (kinds, factors))
            changed = _blend(part, kind, factor)
            if with_hue:
                changed = torch.where(kind == _HUE, _turn_hue(part, factor), changed)
            part = changed
        images[rows] = part
    return images


def _blend(images: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """Blend images with black, with their mean grey or with their own grey; ``kind`` and ``factor`` (N, 1, 1, 1)."""
    pixels = images.float()
    red, green, blue = pixels.unbind(-1)
    grey = (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2])[..., None]
    # Sums of whole numbers are exact, whatever their order.
    sums = images.sum((1, 2), dtype=torch.int64).double() / (images.shape[1] * images.shape[2])
    mean = (sums[:, 0] * _LUMA[0] + sums[:, 1] * _LUMA[1] + sums[:, 2] * _LUMA[2]).float()[:, None, None, None]
    onto = torch.where(kind == _SATURATION, grey, torch.where(kind == _CONTRAST, mean, 0.0))
    blended = torch.addcmul(onto * (1 - factor), pixels, factor).clamp_(0, 255)
    # The tables of the CPU cut off what lies behind the point; OpenCV's matrix product rounds.
    return (blended + 0.5 * (kind == _SATURATION)).to(torch.uint8)


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of images by a fraction of the circle, (N, 1, 1, 1)."""
    hue, saturation, value = rgb_to_hsv(images)
    steps = torch.round(turn[..., 0] * _HUES)
    return hsv_to_rgb((hue + steps).remainder_(_HUES), saturation, value)
