"""A data set of one task: from a position to an image with its labels, in pixels, before any augmentation."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import Dataset

from data.config import TaskData
from data.decoded_images import DecodedImages, DecodedSize, make_recent
from data.formats.cityscapes import CityscapesMaskFinder, holds_label_ids, label_ids_to_train_ids
from data.formats.mask_png import MaskFinder, ignore_values, read_mask
from data.formats.yolo_txt import label_path
from data.image_cache import StoreName, files_key, open_store
from data.image_list import list_images
from data.label_cache import cache_file, cache_folder, content_key, load_index, save_index, set_name
from data.picture_store import PictureStore
from data.report import DataReport
from data.samples import Sample
from data.scan import LabelIndex, ignored_values, scan_split
from utils.errors import DataError, UsageError

__all__ = ["DataReport", "TaskDataset"]

_CACHES = (None, "ram", "disk")


class TaskDataset(Dataset):
    """The usable images of one split with the labels of one task.

    Args:
        data: the task.
        split: train, val or test.
        cache_images: ``ram`` keeps decoded pictures and masks in memory that all processes of the machine share,
            ``disk`` in a file beside the labels; None keeps none. See ``reserve_memory``.

    Attributes:
        names: class names.
        task: detect, segment or pose.
        ids: path of each image.
        sizes: (n, 2) int32, native height and width, upright.
        classes: (m,) int64, of all objects of all images.
        boxes: (m, 4) float32, x1 y1 x2 y2 in 0..1 of their image.
        offsets: (n + 1,) int64, image i owns the objects offsets[i] .. offsets[i + 1] - 1.
        report: what the scan found, printed once.

    Raises:
        DataError: the split is missing or empty, nothing in it can be used, or a label or a mask is wrong.
    """

    def __init__(self, data: TaskData, split: str, cache_images: str | None = None):
        if cache_images not in _CACHES:
            raise UsageError(f"images cannot be cached in '{cache_images}'; choose ram or disk")
        if split not in data.splits:
            raise DataError(f"{data.source}: `{data.key}` has no split `{split}`; add its folder under that key")
        self.data, self.task, self.names = data, data.task, data.names
        listed = list_images(data.splits[split], data.root)
        labels, searched = _find_labels(data, split, listed)
        self._folder = cache_folder(searched)
        index = _load_or_scan(data, split, listed, labels, self._folder)
        self.report = index.report
        self.report.searched = str(searched)
        self.report.require_usable()
        if int(os.environ.get("RANK", "0")) == 0:
            print(self.report)
        self.ids = [str(listed[i]) for i in index.kept]
        self.sizes, self.offsets = index.sizes, index.offsets
        self.classes, self.boxes, self.keypoints = index.classes, index.boxes, index.keypoints
        self._masks = [str(labels[i]) for i in index.kept] if self.task == "segment" else []
        self._ignored = ignored_values(data)
        self._cache_images = cache_images
        self._set_name = set_name(data, split)
        self._images = DecodedImages(self.ids, self.sizes)
        self._mask_store: PictureStore | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.load(index)

    def load(self, index: int, long_side: int | None = None) -> Sample:
        """Return image ``index`` with its labels.

        Args:
            index: 0 .. len - 1.
            long_side: pixels of the image's longer side (interpolated linearly); None gives the native size.

        Returns:
            A sample whose boxes, keypoints and mask fit its image. The labels belong to the caller; the image may be
            a read-only view of a cache.

        Raises:
            DataError: the image or its mask can no longer be read.
        """
        image = self._images.get(index, long_side)
        height, width = image.shape[:2]
        own = slice(self.offsets[index], self.offsets[index + 1])
        sample = Sample(image=image, id=self.ids[index])
        if self.task == "segment":
            sample.mask = self._mask(index, (height, width))
            return sample
        sample.boxes = self.boxes[own] * np.array([width, height, width, height], np.float32)
        sample.classes = self.classes[own].copy()
        if self.task == "pose":
            sample.keypoints = self.keypoints[own] * np.array([width, height, 1], np.float32)
        return sample

    def reserve_memory(self, long_side: int | None, largest: int | None = None) -> None:
        """Say in which sizes images will be asked, and open the caches, so that workers forked later share them.

        Where one size is asked and no other cache holds them, the pictures decoded last are kept in a bounded piece of
        memory. Without this call nothing is kept.

        Args:
            long_side: the size in which images will be asked; None when sizes vary.
            largest: the largest of the sizes where they vary: large JPEGs are then decoded and kept at a part of their
                size. None also allows the native size. Images in other sizes are decoded without any cache.
        """
        images = DecodedImages(self.ids, self.sizes, DecodedSize(long_side, largest))
        shapes = images.shapes()
        if self._cache_images is not None:
            name = StoreName(self._set_name, files_key(self.ids), str(images.decoded))
            images.store = open_store(self._cache_images, self._folder, name, shapes)
            if self._masks:
                how = f"{self.data.format} {self._ignored}"
                name = StoreName(self._set_name, files_key(self._masks, how), "native", "masks")
                self._mask_store = open_store(self._cache_images, self._folder, name, self.sizes)
        if images.store is None and long_side is not None:
            images.recent = make_recent(shapes)
        self._images = images

    def _mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        mask = self._mask_store.get(index) if self._mask_store is not None else None
        if mask is None:
            mask = self._read_mask(index)
            if self._mask_store is not None:
                self._mask_store.put(index, mask)
        if mask.shape != size:
            return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        return mask if mask.flags.writeable else mask.copy()

    def _read_mask(self, index: int) -> np.ndarray:
        """Return a mask at its native size, (H, W) uint8, with 255 for every pixel that does not count."""
        path = self._masks[index]
        mask = read_mask(path)
        if self.data.format == "cityscapes" and holds_label_ids(Path(path)):
            return label_ids_to_train_ids(mask)
        return ignore_values(mask, self._ignored)


def _find_labels(data: TaskData, split: str, images: list[Path]) -> tuple[list[Path | None], Path]:
    """Return the label file or mask of each image, and where the first one was looked for."""
    if data.task != "segment":
        folder = data.options.get("labels", "labels")
        labels: list[Path | None] = [label_path(image, folder) for image in images]
        return labels, labels[0]
    masks = data.masks.get(split)
    if data.format == "cityscapes":
        finder = CityscapesMaskFinder(data.splits[split][0], masks)
    else:
        finder = MaskFinder(split, data.splits[split], masks)
    return [finder.find(image) for image in images], finder.candidates(images[0])[0]


def _load_or_scan(
    data: TaskData, split: str, images: list[Path], labels: list[Path | None], folder: Path
) -> LabelIndex:
    file, key = cache_file(folder, data, split), content_key(data, images, labels)
    index = load_index(file, key)
    if index is None:
        index = scan_split(data, f"{data.key} {split}", images, labels)
        save_index(file, key, index)
    return index
