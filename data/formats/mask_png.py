"""Semantic masks: a PNG of one channel whose pixels are class indices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.folder_walk import walk_folder
from data.images import MOST_PIXELS_OF_A_SET
from data.label_bytes import open_regular
from utils.errors import DataError
from utils.files import atomic_write
from utils.opencv_messages import quiet_opencv

IGNORE = 255
"""The index that every loaded mask has where no class counts."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WIDTH_AT, _DEPTH_AT, _COLOUR_TYPE_AT, _HEAD = 16, 24, 25, 26
_GREY, _PALETTE, _BYTE = 0, 3, 8


def read_mask(path: str | Path) -> np.ndarray:
    """Read the indices of a mask as they are in the file; a palette picture gives its indices, not its colours.

    Returns:
        (H, W) uint8, or uint16 for a 16-bit file.

    Raises:
        DataError: the file is missing, empty, damaged or no PNG, claims more than 178 million pixels, or has colour or
            alpha channels.
    """
    data = _png_bytes(Path(path))
    depth, colour_type = data[_DEPTH_AT], data[_COLOUR_TYPE_AT]
    if colour_type == _PALETTE:
        return _read_palette(path)
    if colour_type != _GREY:
        raise DataError(f"{path}: the mask has colour or alpha channels; save class indices as a PNG of one channel")
    mask = _decode(data, path, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2:
        raise _damaged(path)
    # Decoders stretch 1, 2 and 4 bits to 0..255; the indices are wanted.
    return mask // (255 // (2**depth - 1)) if depth < 8 else mask


def read_colour_png(path: str | Path) -> np.ndarray:
    """Read the colours of a mask; of a palette picture they are those of its palette, an alpha channel is dropped.

    Returns:
        (H, W, 3) uint8, red green blue.

    Raises:
        DataError: the file is missing, empty, damaged, no PNG, or has 16 bits per channel.
    """
    data = _png_bytes(Path(path))
    if data[_DEPTH_AT] > _BYTE:
        raise DataError(f"{path}: the mask has 16 bits per channel; save its colours with 8 bits")
    return _decode(data, path, cv2.IMREAD_COLOR_RGB)


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write an (H, W) uint8 array of class indices as a PNG of one channel; the folder must exist."""
    _write(path, np.ascontiguousarray(mask, np.uint8))


def write_colour_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 array of red green blue; the folder must exist."""
    _write(path, np.ascontiguousarray(pixels[..., ::-1], np.uint8))


def check_mask(mask: np.ndarray, num_classes: int, ignore: Iterable[int], where: str | Path) -> None:
    """Make sure that every index is a class or ignored.

    Args:
        mask: (H, W) uint8 or uint16.
        num_classes: valid indices are 0 .. num_classes - 1.
        ignore: further indices that may occur.
        where: the file, for the message.

    Raises:
        DataError: an index is neither; the message names file, value and the number of classes.
    """
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=1))
    strange = present[(present >= num_classes) & ~np.isin(present, list(ignore))]
    if len(strange):
        ignored = ", ".join(str(value) for value in sorted(ignore)) or "none"
        raise DataError(
            f"{where}: the mask holds the value {strange[0]}, but the data YAML names {num_classes} classes "
            f"(0..{num_classes - 1}) and ignores {ignored}; mend the mask, name the class or add the value to `ignore`"
        )


def ignore_values(mask: np.ndarray, ignore: Iterable[int]) -> np.ndarray:
    """Return the mask as uint8 with every value of ``ignore`` as 255."""
    table = np.full(int(mask.max(initial=0)) + 1, IGNORE, np.uint8)
    classes = np.arange(min(len(table), 256), dtype=np.uint8)
    table[: len(classes)] = classes
    table[[value for value in ignore if value < len(table)]] = IGNORE
    if mask.dtype == np.uint8 and np.array_equal(table, classes):
        return mask
    return table[mask]


def png_files(folder: Path) -> frozenset[Path]:
    """Return the PNG files of a folder and its subfolders; links are followed, as they are for images.

    Raises:
        DataError: see ``walk_folder``.
    """
    found = walk_folder(folder) if folder.is_dir() else ()
    return frozenset(Path(current, name) for current, _, names in found for name in names if name.endswith(".png"))


class MaskFinder:
    """Finds the mask of an image of one split.

    With a mask folder F and an image ``images/train/x/a.jpg`` of the split ``train``, the first that exists of
    ``F/train/x/a.png`` (below ``images``), ``F/x/a.png`` and ``F/train/x/a.png`` (below the split's folder),
    ``F/train/a.png``, ``F/a.png``. Without F, the last folder ``images`` is replaced by ``masks``.

    Args:
        split: train, val or test.
        folders: the split's image folders.
        masks: the mask folder, or None.
    """

    def __init__(self, split: str, folders: Iterable[Path], masks: Path | None):
        self.split, self.masks = split, masks
        self.folders = [Path(folder) for folder in folders]
        self.existing = png_files(masks) if masks is not None else None

    def candidates(self, image: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, best first."""
        if self.masks is None:
            from data.formats.yolo_txt import sibling_path

            return [sibling_path(image, "masks").with_suffix(".png")]
        relative = []
        parts = image.parts[:-1]
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            relative.append(Path(*image.parts[last + 1 :]))
        for folder in self.folders:
            if image.is_relative_to(folder):
                below = image.relative_to(folder)
                relative += [below, Path(self.split) / below]
        relative += [Path(self.split) / image.name, Path(image.name)]
        return [self.masks / path.with_suffix(".png") for path in dict.fromkeys(relative)]

    def find(self, image: Path) -> Path | None:
        """Return the mask of ``image``, or None when there is none."""
        for path in self.candidates(image):
            if path in self.existing if self.existing is not None else path.is_file():
                return path
        return None


def _png_bytes(path: Path) -> bytes:
    """Return the bytes of a PNG whose head says that it can be decoded."""
    with open_regular(path) as file:
        head = file.read(_HEAD)
        if len(head) < _HEAD or head[:8] != _SIGNATURE:
            fault = "is not a PNG" if head else "has zero bytes"
            raise DataError(f"{path}: the mask {fault}; save class indices as a PNG of one channel")
        width, height = int.from_bytes(head[_WIDTH_AT : _WIDTH_AT + 4]), int.from_bytes(head[_WIDTH_AT + 4 : _DEPTH_AT])
        if width * height > MOST_PIXELS_OF_A_SET:
            raise DataError(
                f"{path}: the mask claims {width}x{height} pixels (width x height), of which at most "
                f"{MOST_PIXELS_OF_A_SET // 10**6} million are read; cut or scale it down"
            )
        try:
            return head + file.read()
        except OSError as error:
            raise DataError(f"{path}: the mask cannot be read ({error.strerror}); restore the file") from None


def _decode(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    try:
        with quiet_opencv():
            mask = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        mask = None
    if mask is None:
        raise _damaged(path)
    return mask


def _read_palette(path: str | Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise _damaged(path) from None


def _damaged(path: str | Path) -> DataError:
    return DataError(f"{path}: the mask is corrupt or cut off; restore the file")


def _write(path: str | Path, pixels: np.ndarray) -> None:
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise DataError(f"{path}: a mask of shape {pixels.shape} cannot be written as PNG; give it height and width")
    atomic_write(Path(path), data.tobytes())
