"""Figures without global state: matplotlib through its objects, drawn by Agg, imported only when needed."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches whose parts arrange themselves without overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_label(name: str) -> str:
    """Return a label for a legend; matplotlib leaves those that begin with an underscore out."""
    return f" {name}" if name.startswith("_") else name


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure as a PNG file, whole or not at all, and return its path."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # A name with dollars is no formula. The numbers of a logarithmic axis are, but they are not there yet.
        text.set_parse_math("$" not in text.get_text())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script the font lacks is drawn as boxes; that is no reason to trouble the user.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="png", dpi=dpi)
    atomic_write(path, buffer.getvalue())
    return Path(path)
