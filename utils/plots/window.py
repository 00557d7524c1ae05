"""Pictures on the screen, in a window or in a notebook. Nothing else of the program opens one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from utils.errors import RunError

NO_DISPLAY = "--view-img: there is no display to show pictures on; leave it out and look at the files of the run"
NO_DISPLAY_FOR_RESULTS = "there is no display to show pictures on; save() writes them to files, render() returns them"

_INCHES = 10.0
_LONGEST = 1280
"""Of a picture in a live window, pixels; larger ones are made smaller, which the window would do more slowly."""


class PictureWindow:
    """A window whose picture changes, for whoever watches a run. It belongs to the main thread, as windows do.

    Args:
        title: of the window.

    Raises:
        RunError: there is no display.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._figure: Any = None
        self._image: Any = None
        self._size: tuple[int, int] | None = None
        self.is_open = True
        _require_windows(NO_DISPLAY)

    def show(self, picture: np.ndarray) -> bool:
        """Show a picture in place of the one before, and return at once.

        Args:
            picture: (H, W, 3) uint8 RGB.

        Returns:
            Whether the window is still open: the user closes it as any other, or with the key q.
        """
        if not self.is_open:
            return False
        picture = _shrunk(picture, _LONGEST)
        if self._size != picture.shape[:2]:
            self._open(picture)
        else:
            self._image.set_data(picture)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()
        return self.is_open

    def hold(self) -> None:
        """Leave the last picture on the screen until the user closes it."""
        from matplotlib import pyplot

        if self.is_open and self._figure is not None:
            pyplot.show(block=True)

    def close(self) -> None:
        """Close the window if the user has not."""
        from matplotlib import pyplot

        self.is_open = False
        if self._figure is not None:
            pyplot.close(self._figure)
            self._figure = None

    def _open(self, picture: np.ndarray) -> None:
        """Make the window, or give it the shape of a picture of another size."""
        from matplotlib import pyplot

        height, width = self._size = picture.shape[:2]
        try:
            if self._figure is None:
                self._figure = pyplot.figure(self._title)
                self._figure.canvas.mpl_connect("close_event", self._closed)
                self._figure.show()
            self._figure.clear()
            self._figure.set_size_inches(width / self._figure.dpi, height / self._figure.dpi)
            axes = self._figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            self._image = axes.imshow(picture, interpolation="nearest")
        except ImportError:
            raise RunError(NO_DISPLAY) from None

    def _closed(self, _: object) -> None:
        self.is_open = False


def show_pictures(images: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """Show pictures, each as a figure of its own, and wait until they are closed.

    Args:
        images: (H, W, 3) uint8 RGB each.
        titles: of the pictures.

    Raises:
        RunError: there is no display.
    """
    from matplotlib import pyplot

    figures = []
    try:
        _require_windows(NO_DISPLAY_FOR_RESULTS)
        for image, title in zip(images, titles, strict=True):
            height, width = image.shape[:2]
            scale = _INCHES / max(height, width)
            figures.append(pyplot.figure(title, (width * scale, height * scale)))
            axes = figures[-1].add_axes((0, 0, 1, 1))
            axes.imshow(image)
            axes.set_axis_off()
        pyplot.show()
    except ImportError:
        # A backend was chosen, and its window system does not answer.
        raise RunError(NO_DISPLAY_FOR_RESULTS) from None
    finally:
        for figure in figures:
            pyplot.close(figure)


def _require_windows(message: str) -> None:
    """Make sure that pictures can be shown.

    Raises:
        RunError: there is no display; the message says what else there is.
    """
    import matplotlib
    from matplotlib.backends import BackendFilter, backend_registry

    without_window = {name.lower() for name in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)}
    try:
        if matplotlib.get_backend().lower() in without_window:
            raise RunError(message)
    except ImportError:
        raise RunError(message) from None


def _shrunk(picture: np.ndarray, longest: int) -> np.ndarray:
    """Return a picture whose longer side has at most so many pixels."""
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = [max(round(side * scale), 1) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
