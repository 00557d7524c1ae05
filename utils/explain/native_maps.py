"""Maps with a value per patch of the network's input, enlarged to the pixels of the picture that lay within it."""

from __future__ import annotations

import numpy as np

from data.samples import Placement


def enlarge(maps: np.ndarray, placement: Placement, patch: int) -> np.ndarray:
    """Give every native pixel the value of the patch that its centre lies in.

    Patches that hold padding alone are left out; those at an edge may show in part.

    Args:
        maps: (..., gh, gw), one value per patch of the input, from its upper left corner.
        placement: where the picture lies within the input.
        patch: side of a patch, input pixels.

    Returns:
        (..., height, width) of the same type, for the picture at its native size.
    """
    rows, columns = patch_of_pixels(placement, patch, maps.shape[-2:])
    return maps[..., rows[:, None], columns]


def patch_of_pixels(placement: Placement, patch: int, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return which row of patches each native row's centre lies in, and the same of columns.

    Args:
        placement: where the picture lies within the input.
        patch: side of a patch, input pixels.
        grid: rows and columns of patches.

    Returns:
        (height,) and (width,) int64.
    """
    rows, columns = (
        np.clip(np.floor(places).astype(np.int64), 0, count - 1)
        for places, count in zip(_places(placement, patch), grid, strict=True)
    )
    return rows, columns


def enlarge_smoothly(maps: np.ndarray, placement: Placement, patch: int) -> np.ndarray:
    """Interpolate linearly between the centres of the patches; see ``enlarge`` for the arguments.

    Beyond the outermost centres that the picture covers, the maps go on as they are there.

    Returns:
        (..., height, width) float32.
    """
    smooth = np.asarray(maps, np.float32)
    for axis, places in zip((-2, -1), _places(placement, patch), strict=True):
        # Patches of padding alone would otherwise colour the picture's edge.
        inside = np.floor(places).astype(np.int64)
        low, high = np.clip([inside[0], inside[-1]], 0, maps.shape[axis] - 1)
        at = np.clip(places - 0.5, low, high)
        before = np.floor(at).astype(np.int64)
        after = np.minimum(before + 1, high)
        weight = (at - before).astype(np.float32)
        weight = weight[:, None] if axis == -2 else weight
        smooth = np.take(smooth, before, axis) * (1 - weight) + np.take(smooth, after, axis) * weight
    return smooth


def _places(placement: Placement, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the centres of native rows and columns lie in the input, in patches from its upper left corner."""
    rows = (np.arange(placement.height) + 0.5) * placement.scale_y + placement.top
    columns = (np.arange(placement.width) + 0.5) * placement.scale_x + placement.left
    return rows / patch, columns / patch
