"""A data set of one task: from a position to an image with its labels, in pixels, before any augmentation."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import Dataset

from data.config import TaskData
from data.formats.cityscapes import CityscapesMaskFinder, holds_label_ids, label_ids_to_train_ids
from data.formats.mask_png import MaskFinder, ignore_values, read_mask
from data.formats.yolo_txt import label_path
from data.image_cache import DiskCache, MemoryCache
from data.image_list import list_images
from data.images import read_image, reduction_for, resize_image
from data.label_cache import cache_file, cache_folder, content_key, load_index, save_index
from data.report import DataReport
from data.samples import Sample
from data.scan import LabelIndex, ignored_values, scan_split
from utils.boxes import plan_letterbox
from utils.errors import DataError, UsageError

__all__ = ["DataReport", "TaskDataset"]

_CACHES = (None, "ram", "disk")


class TaskDataset(Dataset):
    """The usable images of one split with the labels of one task.

    Args:
        data: the task.
        split: train, val or test.
        cache_images: None; ``ram`` keeps decoded pictures in memory, at the size they are asked in, or at their native
            size once they are asked in several sizes; ``disk`` keeps them in files at their native size.

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
        self._disk = DiskCache(self._folder / "images") if cache_images == "disk" else None
        self._memory: MemoryCache | None = None
        self._memory_size: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.load(index)

    def load(self, index: int, long_side: int | None = None) -> Sample:
        """Return image ``index`` with its labels.

        Args:
            index: 0 .. len - 1.
            long_side: pixels of the image's longer side (averaging areas when it shrinks, linear when it grows); None
                gives the native size.

        Returns:
            A sample whose boxes, keypoints and mask fit its image; its arrays belong to the caller.

        Raises:
            DataError: the image or its mask can no longer be read.
        """
        image = self._image(index, long_side)
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

    def reserve_memory(self, long_side: int | None) -> None:
        """Make the cache in memory now, for images of this size, so that workers forked later share it.

        Without this call every process makes its own when it first loads an image.

        Args:
            long_side: the size in which images will be asked; None when sizes vary.
        """
        if self._cache_images == "ram":
            shapes = [(*self._loaded_size(i, long_side), 3) for i in range(len(self))]
            self._memory, self._memory_size = MemoryCache(np.array(shapes)), long_side

    def _loaded_size(self, index: int, long_side: int | None) -> tuple[int, int]:
        size = (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
        return size if long_side is None else plan_letterbox(size, (long_side, long_side)).resized

    def _image(self, index: int, long_side: int | None) -> np.ndarray:
        if self._cache_images == "ram":
            return self._image_by_memory(index, long_side)
        if self._disk is None:
            return self._decode(index, long_side)
        image = self._disk.get(Path(self.ids[index]))
        if image is None:
            image = self._decode(index, None)
            self._disk.put(Path(self.ids[index]), image)
        return resize_image(image, self._loaded_size(index, long_side))

    def _image_by_memory(self, index: int, long_side: int | None) -> np.ndarray:
        if self._memory is None:
            self.reserve_memory(long_side)
        elif self._memory_size is not None and self._memory_size != long_side:
            # Asked in several sizes: only the native one serves them all.
            self.reserve_memory(None)
        image = self._memory.get(index)
        if image is None:
            image = self._decode(index, self._memory_size)
            self._memory.put(index, image)
        return resize_image(image, self._loaded_size(index, long_side))

    def _decode(self, index: int, long_side: int | None) -> np.ndarray:
        size = (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
        image = read_image(self.ids[index], reduction_for(size, long_side))
        return resize_image(image, self._loaded_size(index, long_side))

    def _mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        path = self._masks[index]
        mask = read_mask(path)
        if self.data.format == "cityscapes" and holds_label_ids(Path(path)):
            mask = label_ids_to_train_ids(mask)
        else:
            mask = ignore_values(mask, self._ignored)
        if mask.shape != size:
            mask = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        return mask


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
