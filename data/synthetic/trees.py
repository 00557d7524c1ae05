"""Trees: a trunk and a crown of overlapping discs; all of it counts as grass, the class of what grows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.camera import Camera, point
from data.synthetic.canvas import Canvas, Colour
from data.synthetic.classes import GRASS
from data.synthetic.light import Light


@dataclass(frozen=True)
class Tree:
    """A tree on the verge.

    Attributes:
        x: metres to the right of the middle of the road.
        z: metres along the street.
        height: of the crown's middle in metres.
        leaf: RGB.
        puffs: (n, 3) right, up in metres from the crown's middle, and radius in metres.
    """

    x: float
    z: float
    height: float
    leaf: Colour
    puffs: np.ndarray

    def draw(self, canvas: Canvas, camera: Camera, light: Light) -> None:
        """Draw trunk and crown, the sunny side brighter."""
        foot, crown = point(self.x, 0, self.z), point(self.x, self.height, self.z)
        depth = float(camera.depth(foot))
        low, high = camera.project(foot), camera.project(crown)
        reach = camera.pixels(2.5, crown)
        if not -reach < high[0] < camera.width + reach:
            return
        trunk = max(3.0, camera.pixels(0.3, foot))
        canvas.stroke(low, high, trunk, light.on((104, 80, 58), 0.9, depth), GRASS)
        per_metre = camera.pixels(1.0, crown)
        for shift, brightness, share in ((0.0, 0.8, 1.0), (0.22, 1.05, 0.62)):
            leaf = light.on(self.leaf, brightness, depth)
            shifted = high + (self.puffs[:, :2] + (shift * light.sun, shift)) * (per_metre, -per_metre)
            for centre, radius in zip(shifted, self.puffs[:, 2] * per_metre * share, strict=True):
                canvas.disc(centre, radius, leaf, GRASS)


def sample_tree(rng: np.random.Generator, x: float, z: float) -> Tree:
    """Draw size and colour of a tree at a given place."""
    size = rng.uniform(0.8, 1.15)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(5) * 2 * np.pi / 5
    ring = np.stack([np.cos(angles) * 0.75, np.sin(angles) * 0.7, rng.uniform(0.65, 0.9, 5)], axis=1)
    leaf = np.array((88, 142, 62)) + rng.uniform((-24, -24, -16), (34, 18, 16))
    return Tree(x, z, float(rng.uniform(3.4, 4.4)), tuple(leaf.tolist()), np.vstack([(0, 0.1, 1.0), ring]) * size)
