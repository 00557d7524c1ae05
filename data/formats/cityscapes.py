"""Cityscapes folders: which mask belongs to which image, and the table from label ids to training classes.

Images ``leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png`` have masks ``gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png``. A mask
with another name (BDD100K pictures mixed in as a further city: ``NAME.png`` for ``NAME.jpg``) holds training classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.formats.mask_png import IGNORE

IMAGE_FOLDER, MASK_FOLDER = "leftImg8bit", "gtFine"
IMAGE_END, _LABEL_IDS_END, _TRAIN_IDS_END = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds"

_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)

NAMES: list[str] = [name for _, name, _ in _CLASSES]
COLOURS: list[tuple[int, int, int]] = [colour for _, _, colour in _CLASSES]
LABEL_IDS: np.ndarray = np.array([label_id for label_id, _, _ in _CLASSES], np.uint8)
"""(19,) label id of each training class."""

_TO_TRAIN = np.full(256, IGNORE, np.uint8)
_TO_TRAIN[LABEL_IDS] = np.arange(len(LABEL_IDS), dtype=np.uint8)

_TO_LABEL = np.zeros(256, np.uint8)
_TO_LABEL[: len(LABEL_IDS)] = LABEL_IDS


def label_ids_to_train_ids(mask: np.ndarray) -> np.ndarray:
    """Return the (H, W) uint8 mask of label ids as training classes 0..18; everything else is 255 (ignored)."""
    return _TO_TRAIN[mask]


def train_ids_to_label_ids(mask: np.ndarray) -> np.ndarray:
    """Return the (H, W) uint8 training classes as the label ids that the benchmark server wants; others become 0."""
    return _TO_LABEL[mask]


def holds_label_ids(mask: Path) -> bool:
    """Tell by its name whether a mask file holds label ids, which have to go through the table."""
    return mask.stem.endswith(_LABEL_IDS_END)


def mask_candidates(image: Path, images: Path, masks: Path) -> list[Path]:
    """Return where the mask of an image may lie, best first.

    Args:
        image: below ``images``.
        images: ``leftImg8bit/SPLIT``.
        masks: ``gtFine/SPLIT``.
    """
    folder = masks / image.relative_to(images).parent
    if image.stem.endswith(IMAGE_END):
        stem = image.stem.removesuffix(IMAGE_END)
        return [folder / f"{stem}{_LABEL_IDS_END}.png", folder / f"{stem}{_TRAIN_IDS_END}.png"]
    return [folder / f"{image.stem}.png"]
