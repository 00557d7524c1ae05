"""CamVid: boxes derived from the masks, void as 255, one data YAML for detection and segmentation.

The source has ``images/{train,val,test}/NAME.jpg``, ``masks/{train,val,test}/NAME.png`` (one channel, class index,
11 = void) and ``classes.txt``. The boxes are no instance truth: touching objects of one class are one box.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import yaml
from tqdm import tqdm

from data.formats.mask_png import check_mask, read_mask, write_mask
from data.formats.yolo_txt import write_labels
from data.image_list import list_images
from data.prepare.folder import link_or_copy, whole_folder
from data.prepare.summary import Prepared
from utils.errors import DataError

SPLITS = ("train", "val", "test")
SEGMENT_NAMES = [
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
]
DETECT_NAMES = ["SignSymbol", "Car", "Pedestrian", "Bicyclist"]
VOID = 11
SMALLEST_AREA = 50
"""Pixels; smaller components are left out."""


def prepare_camvid(source: Path, out: Path) -> Prepared:
    """CamVid road scenes with boxes derived from the masks.

    The result appears under ``out`` only when all of it is written.

    Args:
        source: folder with ``images``, ``masks`` and ``classes.txt``.
        out: folder to make; it may exist if it is empty.

    Raises:
        DataError: the source lacks a folder or a mask, or its classes or a mask are not CamVid's.
        UsageError: ``out`` holds files already.
    """
    _check_source(source)
    done = Prepared(out / "camvid.yaml", DETECT_NAMES)
    with whole_folder(out) as partial:
        for split in SPLITS:
            done.images[split], done.boxes[split] = _prepare_split(source, partial, split)
        (partial / "camvid.yaml").write_text(data_yaml("."), encoding="utf-8")
    return done


def data_yaml(root: str) -> str:
    """Return the text of the data YAML of a prepared set that lies in ``root``, seen from the YAML."""
    splits = {split: f"images/{split}" for split in SPLITS}
    tasks = {
        "detect": {**splits, "names": DETECT_NAMES},
        "segment": {**splits, "masks": "masks", "names": SEGMENT_NAMES, "ignore": 255},
    }
    about = (
        "# CamVid road scenes, made by `python -m data.prepare camvid --source DIR`.\n"
        "# The boxes are derived from the masks: no instance truth, touching objects of one class are one box.\n"
    )
    return about + yaml.safe_dump({"path": root, **tasks}, sort_keys=False, default_flow_style=None, width=120)


def boxes_from_mask(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derive boxes: the bounding rectangles of the 8-connected components of each class of ``DETECT_NAMES``.

    Args:
        mask: (H, W) uint8, indices of ``SEGMENT_NAMES``.

    Returns:
        classes (n,) int64, indices of ``DETECT_NAMES``, and boxes (n, 4) float64, x1 y1 x2 y2 in 0..1; components of
        fewer than 50 pixels are left out.
    """
    height, width = mask.shape
    classes, boxes = [], []
    for index, name in enumerate(DETECT_NAMES):
        of_class = (mask == SEGMENT_NAMES.index(name)).astype(np.uint8)
        # Row 0 is what is not of the class.
        stats = cv2.connectedComponentsWithStats(of_class, connectivity=8, ltype=cv2.CV_32S)[2][1:]
        stats = stats[stats[:, cv2.CC_STAT_AREA] >= SMALLEST_AREA]
        corners = stats[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
        sides = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
        boxes.append(np.hstack([corners, corners + sides]) / np.array([width, height, width, height], np.float64))
        classes.append(np.full(len(stats), index, np.int64))
    return np.concatenate(classes), np.concatenate(boxes)


def _check_source(source: Path) -> None:
    for folder in (source / kind / split for kind in ("images", "masks") for split in SPLITS):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give --source the CamVid folder that holds images and masks")
    listing = source / "classes.txt"
    if listing.is_file():
        names = listing.read_text(encoding="utf-8-sig").split()
        if names[:VOID] != SEGMENT_NAMES:
            raise DataError(f"{listing}: the classes are not CamVid's 11 ({', '.join(SEGMENT_NAMES)}); mend --source")


def _prepare_split(source: Path, out: Path, split: str) -> tuple[int, np.ndarray]:
    """Write one split; return the number of images and the number of boxes per class."""
    images = list_images([source / "images" / split])
    for kind in ("images", "labels", "masks"):
        (out / kind / split).mkdir(parents=True)
    counts = np.zeros(len(DETECT_NAMES), np.int64)
    for image in tqdm(images, desc=f"camvid {split}", unit="img"):
        mask_file = source / "masks" / split / f"{image.stem}.png"
        mask = read_mask(mask_file)
        check_mask(mask, len(SEGMENT_NAMES), [VOID], mask_file)
        classes, boxes = boxes_from_mask(mask)
        counts += np.bincount(classes, minlength=len(DETECT_NAMES))
        link_or_copy(image, out / "images" / split / image.name)
        write_labels(out / "labels" / split / f"{image.stem}.txt", classes, boxes)
        write_mask(out / "masks" / split / f"{image.stem}.png", np.where(mask == VOID, 255, mask).astype(np.uint8))
    return len(images), counts
