"""Time of day and weather: the colours of the sky, how they tint everything else, and what the sensor adds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.canvas import Colour

HAZE_LENGTH = 130.0
"""Metres after which two thirds of a thing's colour have become haze."""


@dataclass(frozen=True)
class Light:
    """How a scene is lit.

    Attributes:
        sky_top: RGB overhead.
        sky_low: RGB at the horizon; distant things fade to it.
        tint: gain of red, green and blue.
        sun: -1 shines from the left .. 1 from the right.
        lit_windows: share of windows with a lamp behind them, 0..1.
        clouds: number of clouds.
        blur: standard deviation in pixels.
        noise: standard deviation in grey levels.
    """

    sky_top: Colour
    sky_low: Colour
    tint: Colour
    sun: float
    lit_windows: float
    clouds: int
    blur: float
    noise: float

    def on(self, colour: Colour, brightness: float = 1.0, depth: float = 0.0) -> Colour:
        """Return how a surface looks.

        Args:
            colour: RGB of the surface in white light.
            brightness: 1 = level ground.
            depth: metres from the camera.
        """
        clear = math.exp(-depth / HAZE_LENGTH)
        # Plain numbers: three of them are too few for NumPy to pay.
        red, green, blue = (
            min(255.0, channel * gain * brightness) * clear + haze * (1 - clear)
            for channel, gain, haze in zip(colour, self.tint, self.sky_low, strict=True)
        )
        return red, green, blue


_MOODS = (
    # sky top, sky low, tint, share of lit windows, most clouds
    ((86, 148, 222), (196, 222, 242), (1.0, 1.0, 1.0), 0.0, 5),
    ((64, 128, 214), (170, 208, 240), (1.08, 1.06, 1.02), 0.0, 3),
    ((158, 170, 184), (206, 212, 218), (0.88, 0.91, 0.95), 0.08, 0),
    ((112, 140, 190), (250, 208, 156), (1.1, 0.97, 0.82), 0.12, 4),
    ((58, 74, 128), (226, 158, 132), (0.76, 0.7, 0.8), 0.4, 3),
)


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a mood (noon, clear, overcast, golden hour, dusk) and vary it a little."""
    top, low, tint, lit, clouds = _MOODS[rng.choice(len(_MOODS), p=(0.3, 0.22, 0.18, 0.18, 0.12))]
    gain = rng.uniform(0.88, 1.1)
    return Light(
        sky_top=tuple((np.asarray(top) + rng.uniform(-12, 12, 3)).tolist()),
        sky_low=tuple(np.clip(np.asarray(low) + rng.uniform(-10, 10, 3), 0, 255).tolist()),
        tint=tuple((np.asarray(tint) * gain).tolist()),
        sun=float(rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 1.0)),
        lit_windows=lit,
        clouds=int(rng.integers(0, clouds + 1)),
        blur=float(rng.choice((0.0, 0.0, 0.5, 0.8))),
        noise=float(rng.uniform(0.8, 3.2)),
    )


def expose(picture: np.ndarray, light: Light, rng: np.random.Generator) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 as a camera records it: a little blur, a little noise."""
    if light.blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), light.blur)
    noise = np.rint(rng.standard_normal(picture.shape, np.float32) * light.noise).astype(np.int16)
    return cv2.add(picture, noise, dtype=cv2.CV_8U)
