"""What every detection token answered over a data set, with the labels beside it, in one ``.npz`` file.

Shape suffixes: N images, Q tokens, C classes, M labelled objects.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.errors import DataError
from utils.files import atomic_writer

FORMAT = 1
_ARCHIVE = b"PK\x03\x04"
_DIMENSIONS = {
    "names": "C",
    "image_ids": "N",
    "image_sizes": "N2",
    "classes": "NQ",
    "scores": "NQ",
    "boxes": "NQ4",
    "true_images": "M",
    "true_classes": "M",
    "true_boxes": "M4",
}
_TEXTS = ("names", "image_ids")
_WHOLE = ("image_sizes", "classes", "true_images", "true_classes")


@dataclass
class TokenTable:
    """Predictions of all tokens for all images: column q of ``classes``, ``scores`` and ``boxes`` is token q.

    Boxes are centre x and centre y as shares of their image, 0..1, then width and height in pixels of the image's own
    size. Those of tokens are not clipped to the image.

    Attributes:
        head: name of the model's head.
        names: C class names.
        image_ids: N paths or names.
        image_sizes: (N, 2) height and width, native pixels.
        classes: (N, Q) the class that each token is surest of.
        scores: (N, Q) its probability, 0..1.
        boxes: (N, Q, 4).
        true_images: (M,) index of the image of every labelled object.
        true_classes: (M,).
        true_boxes: (M, 4).
    """

    head: str
    names: np.ndarray
    image_ids: np.ndarray
    image_sizes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    true_images: np.ndarray
    true_classes: np.ndarray
    true_boxes: np.ndarray

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.classes.shape[1]

    def boxes_of(self, token: int, conf: float) -> np.ndarray:
        """Return (n, 4) boxes of one token whose score is at least ``conf``."""
        return self.boxes[self.scores[:, token] >= conf, token]

    def class_counts(self, conf: float) -> np.ndarray:
        """Return (Q, C) how often each token answered with each class at a score of at least ``conf``."""
        image, token = np.nonzero(self.scores >= conf)
        flat = token * len(self.names) + self.classes[image, token]
        return np.bincount(flat, minlength=self.tokens * len(self.names)).reshape(self.tokens, len(self.names))

    def true_counts(self) -> np.ndarray:
        """Return (C,) how many objects of each class are labelled."""
        return np.bincount(self.true_classes, minlength=len(self.names))

    def save(self, path: Path) -> Path:
        """Write everything as one compressed ``.npz``, whole or not at all; NumPy alone reads it."""
        arrays = {entry.name: np.asarray(getattr(self, entry.name)) for entry in fields(self)}
        with atomic_writer(path) as file:
            np.savez_compressed(file, format=np.int64(FORMAT), **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> TokenTable:
        """Read a file that ``save`` has written.

        Raises:
            DataError: the file is missing, damaged, or something else; the sentence says which.
        """
        try:
            with open(path, "rb") as file:
                arrays = _arrays_of(file)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; give the predictions.npz of an earlier run") from None
        except IsADirectoryError:
            raise DataError(f"{path}: is a folder; give the predictions.npz in it") from None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path}: cannot be read as an .npz file ({error}); give a whole predictions.npz") from None
        missing = [name for name in ("format", "head", *_DIMENSIONS) if name not in arrays]
        if missing or arrays["format"].shape != () or arrays["format"] != FORMAT:
            what = f"has no array '{missing[0]}'" if missing else f"has format {arrays['format']}, not {FORMAT}"
            raise DataError(f"{path}: {what}; give a predictions.npz that `python -m utils.explain tokens` has written")
        table = cls(head=str(arrays["head"]), **{name: arrays[name] for name in _DIMENSIONS})
        fault = table._fault()
        if fault:
            raise DataError(f"{path}: {fault}; make it again")
        return table

    def _fault(self) -> str:
        """Return what does not fit together, or nothing."""
        sizes: dict[str, int] = {"2": 2, "4": 4}
        for name, letters in _DIMENSIONS.items():
            array = getattr(self, name)
            kinds = "U" if name in _TEXTS else "iu" if name in _WHOLE else "f"
            if array.dtype.kind not in kinds or array.ndim != len(letters):
                return f"'{name}' is {array.dtype} of shape {array.shape}"
            for letter, size in zip(letters, array.shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    return f"'{name}' has {size} entries where {sizes[letter]} are expected"
        empty = [name for name in ("names", "image_ids", "scores") if not getattr(self, name).size]
        if empty:
            return f"'{empty[0]}' is empty"
        limits = (("classes", "C"), ("true_classes", "C"), ("true_images", "N"))
        for name, letter in limits:
            array = getattr(self, name)
            if array.size and not 0 <= array.min() <= array.max() < sizes[letter]:
                return f"'{name}' names an index outside of 0 to {sizes[letter] - 1}"
        return ""


def _arrays_of(file: BinaryIO) -> dict[str, np.ndarray]:
    """Return the arrays of an open ``.npz`` file by name; nothing in it is executed.

    Raises:
        ValueError: it is something else.
    """
    start = file.read(len(_ARCHIVE))
    file.seek(0)
    if start != _ARCHIVE:
        raise ValueError("it is no archive")
    with np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
