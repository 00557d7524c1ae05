"""A data set of one task: from a position to an image with its labels, in pixels, before any augmentation."""

from __future__ import annotations

import os

import cv2
import numpy as np
from torch.utils.data import Dataset

from data.decoded_images import DecodedImages, DecodedSize, make_recent
from data.image_cache import StoreName, files_key, open_store
from data.label_cache import set_name
from data.mask_reading import MaskReader
from data.packed_texts import PackedTexts
from data.picture_store import PictureStore
from data.report import DataReport
from data.samples import Sample
from data.split_index import open_split
from data.task_data import TaskData
from data.training_part import NOTHING_LEFT_OUT, LeftOut, training_part
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
        for_training: leave out what is not trained on, see ``training_part``; testing needs all of it.
        left_out: images that the recipe leaves out of training.

    Attributes:
        names: class names.
        task: detect, segment or pose.
        ids: path of each image, a sequence of texts.
        sizes: (n, 2) int32, native height and width, upright.
        classes: (m,) int64, of all objects of all images.
        boxes: (m, 4) float32, x1 y1 x2 y2 in 0..1 of their image.
        keypoints: (m, K, 3) float32, x y in 0..1 and visibility.
        keypoint_spec: what the keypoints are, None without.
        areas: (m,) float32, annotated areas in square pixels of the files; None where the labels have none, and in
            training.
        crowd: (m,) bool, None likewise.
        offsets: (n + 1,) int64, image i owns the objects offsets[i] .. offsets[i + 1] - 1.
        report: what the scan found, printed once.

    Raises:
        DataError: the split is missing or empty, nothing in it can be used, or a label or a mask is wrong.
    """

    def __init__(
        self,
        data: TaskData,
        split: str,
        cache_images: str | None = None,
        for_training: bool = False,
        left_out: LeftOut = NOTHING_LEFT_OUT,
    ):
        if cache_images not in _CACHES:
            raise UsageError(f"images cannot be cached in '{cache_images}'; choose ram or disk")
        if split not in data.splits:
            raise DataError(f"{data.source}: `{data.key}` has no split `{split}`; add its folder under that key")
        self.data, self.task, self.names = data, data.task, data.names
        self.keypoint_spec = data.keypoint_spec
        opened = open_split(data, split)
        self._folder = opened.folder
        index = training_part(data, opened.index, left_out) if for_training else opened.index
        self.report = index.report
        self.report.searched = str(opened.searched)
        self.report.require_usable()
        if int(os.environ.get("RANK", "0")) == 0:
            print(self.report)
        kept = index.kept.tolist()
        self.ids = PackedTexts(opened.images[i] for i in kept)
        self.sizes, self.offsets = index.sizes, index.offsets
        self.classes, self.boxes, self.keypoints = index.classes, index.boxes, index.keypoints
        self.areas, self.crowd = index.areas, index.crowd
        self._masks = PackedTexts(opened.labels[i] for i in kept) if self.task == "segment" else PackedTexts()
        self._picture_key = files_key(opened.image_stamp, index.kept)
        self._readers = [MaskReader(source) for source in data.sources.get(split, [data])] if self._masks else []
        self._reader_of = np.repeat(np.arange(len(opened.counts)), opened.counts)[index.kept] if opened.counts else None
        meaning = " | ".join(reader.meaning for reader in self._readers)
        self._mask_key = files_key(opened.label_stamp, index.kept, meaning)
        self._cache_images = cache_images
        self._set_name = set_name(data, split)
        self._images = DecodedImages(self.ids, self.sizes)
        self._mask_store: PictureStore | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.load(index)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Return image ``index`` with its labels.

        Args:
            index: 0 .. len - 1.
            long_side: pixels of the image's longer side (interpolated linearly); None gives the native size.
            least: pixels that the longer side has at least, where the caller resizes the image: the image as it is
                decoded, a large JPEG at a part of its size.

        Returns:
            A sample whose boxes, keypoints and mask fit its image. The labels belong to the caller; the image may be
            a read-only view of a cache.

        Raises:
            DataError: the image or its mask can no longer be read.
        """
        image = self._images.get(index, long_side) if least is None else self._images.at_least(index, least)
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
        if self.areas is not None:
            sample.areas, sample.crowd = self.areas[own].copy(), self.crowd[own].copy()
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
            name = StoreName(self._set_name, self._picture_key, str(images.decoded))
            images.store = open_store(self._cache_images, self._folder, name, shapes)
            if self._masks:
                name = StoreName(self._set_name, self._mask_key, "native", "masks")
                self._mask_store = open_store(self._cache_images, self._folder, name, self.sizes)
        if images.store is None and long_side is not None:
            images.recent = make_recent(shapes)
        self._images = images

    def load_mask(self, index: int) -> np.ndarray:
        """Return the mask of image ``index`` at its native size, (H, W) uint8, 255 where pixels do not count.

        Raises:
            DataError: the mask can no longer be read.
        """
        return self._read_mask(index)

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
        reader = self._readers[0 if self._reader_of is None else self._reader_of[index]]
        return reader.read(self._masks[index])
