"""Pictures on the screen: in windows that are closed again, or one sentence where there is no screen."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.tiny_detector import make_picture
from utils.errors import RunError
from utils.plots.window import show_pictures


@pytest.fixture
def windows(monkeypatch):
    """A window system that takes note of the pictures it shows."""

    shown: list[tuple[str, np.ndarray]] = []
    backend = types.ModuleType("pretended_windows")
    backend.FigureCanvas = FigureCanvasAgg

    def show(block=None):
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            shown.append((figure.get_label(), np.asarray(figure.axes[0].images[0].get_array())))

    backend.show = show
    monkeypatch.setitem(sys.modules, "pretended_windows", backend)
    before = pyplot.get_backend()
    pyplot.switch_backend("module://pretended_windows")
    yield shown
    assert pyplot.get_fignums() == []
    pyplot.switch_backend(before)


def test_every_picture_has_a_window(windows):
    images = [make_picture((30, 50)), make_picture((64, 20), seed=1)]
    show_pictures(images, ["a.jpg", "b.png"])
    assert [title for title, _ in windows] == ["a.jpg", "b.png"]
    for (_, image), expected in zip(windows, images, strict=True):
        np.testing.assert_array_equal(image, expected)


def test_without_a_display_it_is_one_sentence(monkeypatch):

    pyplot.switch_backend("agg")
    with pytest.raises(RunError, match=r"there is no display to show pictures on; save\(\) writes them"):
        show_pictures([make_picture()], ["a.jpg"])
    assert pyplot.get_fignums() == []

    def no_window_system(*args, **kwargs):
        raise ImportError("Cannot load backend")

    monkeypatch.setattr("matplotlib.get_backend", lambda: "tkagg")
    monkeypatch.setattr(pyplot, "figure", no_window_system)
    with pytest.raises(RunError, match="there is no display"):
        show_pictures([make_picture()], ["a.jpg"])
