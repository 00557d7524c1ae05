"""Pictures on the screen, in a window or in a notebook. Nothing else of the program opens one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.errors import RunError

_INCHES = 10.0


def show_pictures(images: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """Show pictures, each as a figure of its own, and wait until they are closed.

    Args:
        images: (H, W, 3) uint8 RGB each.
        titles: of the pictures.

    Raises:
        RunError: there is no display.
    """
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.backends import BackendFilter, backend_registry

    without_window = {name.lower() for name in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)}
    figures = []
    try:
        if matplotlib.get_backend().lower() in without_window:
            raise _no_display()
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
        raise _no_display() from None
    finally:
        for figure in figures:
            pyplot.close(figure)


def _no_display() -> RunError:
    return RunError("there is no display to show pictures on; save() writes them to files, render() returns them")
