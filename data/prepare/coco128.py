"""coco128: the first 128 pictures of COCO train2017 with the boxes of its 80 classes, checked and linked.

The source has ``images/train2017/NAME.jpg`` and ``labels/train2017/NAME.txt``, as the set is distributed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import yaml

from data.config import CONFIG_FOLDER
from data.formats.yolo_txt import read_labels
from data.image_list import list_images
from data.images import image_size
from data.prepare.folder import link_or_copy, whole_folder
from data.prepare.summary import Prepared
from utils.errors import DataError
from utils.yaml_text import read_yaml

SPLIT = "train2017"
IMAGES, BOXES = 128, 929
PACKAGED = CONFIG_FOLDER / "coco128.yaml"


def prepare_coco128(source: Path, out: Path) -> Prepared:
    """The first 128 training pictures of COCO, checked and linked.

    The result appears under ``out`` only when all of it is written.

    Args:
        source: folder with ``images/train2017`` and ``labels/train2017``.
        out: folder to make; it may exist if it is empty.

    Raises:
        DataError: the source lacks a folder, a picture or a box, or one of them cannot be read.
        UsageError: ``out`` holds files already.
    """
    for folder in (source / kind / SPLIT for kind in ("images", "labels")):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give --source the coco128 folder that holds images and labels")
    names = packaged()["detect"]["names"]
    images = list_images([source / "images" / SPLIT])
    labels = {image: source / "labels" / SPLIT / f"{image.stem}.txt" for image in images}
    boxes = np.zeros(len(names), np.int64)
    for image, label in labels.items():
        image_size(image)
        if label.is_file():
            boxes += np.bincount(read_labels(label, len(names)).classes, minlength=len(names))
    if (len(images), boxes.sum()) != (IMAGES, BOXES):
        raise DataError(
            f"{source}: holds {len(images)} pictures and {boxes.sum()} boxes, but coco128 has {IMAGES} and {BOXES}; "
            "give --source the folder as it is distributed"
        )
    with whole_folder(out) as partial:
        for kind in ("images", "labels"):
            (partial / kind / SPLIT).mkdir(parents=True)
        for image, label in labels.items():
            link_or_copy(image, partial / "images" / SPLIT / image.name)
            if label.is_file():
                shutil.copyfile(label, partial / "labels" / SPLIT / label.name)
        (partial / PACKAGED.name).write_text(data_yaml("."), encoding="utf-8")
    return Prepared(out / PACKAGED.name, ["boxes"], {"train": len(images)}, {"train": boxes.sum(keepdims=True)})


def packaged() -> dict:
    """Return the values of the packaged data YAML, which knows the splits and the 80 names."""
    return read_yaml(PACKAGED, DataError)


def data_yaml(root: str) -> str:
    """Return the text of the data YAML of the set that lies in ``root``, seen from the YAML."""
    return yaml.safe_dump({**packaged(), "path": root}, sort_keys=False, default_flow_style=None, width=120)
