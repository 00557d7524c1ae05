"""Maps as colours: from dark to bright, alone or over a picture."""

from __future__ import annotations

import numpy as np
import pytest

from utils.plots.heat_maps import heat_colours, heat_over


def test_colours_go_from_the_least_to_the_greatest_value() -> None:
    values = np.linspace(-3, 5, 256).reshape(16, 16)
    colours = heat_colours(values)
    assert colours.shape == (16, 16, 3) and colours.dtype == np.uint8
    brightness = colours.reshape(-1, 3) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > -1).all() and brightness[-1] - brightness[0] > 150
    # Yellow, not its mirror image among the channels.
    red, green, blue = colours[-1, -1].tolist()
    assert red > 200 and green > 200 and blue < 80


def test_equal_values_are_dark_all_over() -> None:
    colours = heat_colours(np.full((3, 4), 0.7))
    assert (colours == colours[0, 0]).all() and colours.mean() < 60


def test_an_overlay_hides_the_more_the_greater_the_value() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)
    before = image.copy()
    values = np.zeros((20, 40))
    values[:, 20:] = 1
    over = heat_over(image, values)
    assert np.array_equal(image, before)
    contrast = [over[:, half].std((0, 1)).mean() for half in (slice(20), slice(20, 40))]
    assert contrast[0] > 2.5 * contrast[1]
    assert over[:, 20:].mean() > over[:, :20].mean() + 30
    with pytest.raises(ValueError, match="differ in size"):
        heat_over(image, values.T)
