"""CamVid's masks: a colour per class, ``NAME_L.png`` for ``NAME.png``, black for what was not labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.annotations import MaskClasses
from data.formats.colour_masks import read_colours, write_colours
from data.formats.mask_files import mirrored

CLASSES = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Wall": (64, 192, 0),
}
"""The colour of each class; ``Void`` is black and ignored."""

_COLOURS = tuple(CLASSES.values())


class CamvidMasks:
    """CamVid's own masks; see ``MaskFormat``. The usual eleven classes are joined from these by ``classes``."""

    name = "camvid"
    names = tuple(CLASSES)

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, see ``mirrored``."""
        return mirrored(image, images, masks, "_L.png", ".png")

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8 indices of CamVid's classes; see ``read_colours``."""
        return read_colours(path, _COLOURS)

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write the colours of CamVid's classes; see ``write_colours``."""
        write_colours(path, mask, _COLOURS)
