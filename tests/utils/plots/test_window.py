"""Pictures on the screen: in windows that are closed again, or one sentence where there is no screen."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backend_bases import CloseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.tiny_detector import make_picture
from utils.errors import RunError
from utils.plots.window import PictureWindow, show_pictures


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


class Canvas(FigureCanvasAgg):
    """The canvas of a pretended window, which takes note of what it shows when it gets time to draw."""

    shown: list[np.ndarray] = []

    def flush_events(self) -> None:
        self.draw()
        Canvas.shown.append(np.asarray(self.buffer_rgba())[..., :3].copy())


def test_a_live_window_shows_picture_after_picture_until_it_is_closed(windows, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.setattr(sys.modules["pretended_windows"], "FigureCanvas", Canvas)
    monkeypatch.setattr(Figure, "show", lambda self, warn=True: None)
    pyplot.switch_backend("module://pretended_windows")
    Canvas.shown.clear()
    window = PictureWindow("street")
    pictures = [make_picture((60, 80)), make_picture((60, 80), seed=1), make_picture((40, 100), seed=2)]
    assert all(window.show(picture) for picture in pictures)
    assert pyplot.get_figlabels() == ["street"], "one window for all"
    for picture, seen in zip(pictures, Canvas.shown, strict=True):
        assert seen.shape == picture.shape and np.abs(seen.astype(int) - picture).mean() < 2
    window.show(np.zeros((10, 4000, 3), np.uint8))
    assert Canvas.shown[-1].shape == (3, 1280, 3)
    window.hold()
    canvas = pyplot.figure("street").canvas
    canvas.callbacks.process("close_event", CloseEvent("close_event", canvas))
    assert not window.is_open and not window.show(pictures[0])
    window.close()


def test_a_live_window_needs_a_display(monkeypatch):
    pyplot.switch_backend("agg")
    with pytest.raises(RunError, match="--view-img: there is no display"):
        PictureWindow("street")
