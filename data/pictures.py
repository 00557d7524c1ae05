"""Pictures as a caller in Python hands them in: paths, PIL images, arrays, tensors, or a list of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from data.images import read_image
from utils.errors import DataError, UsageError
from utils.video import VIDEO_SUFFIXES

_MOST_CHANNELS = 4
_WIDE_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_MODES_OF_ANY_RANGE = ("I", "F")
_KINDS = "give a path, a PIL image, a NumPy array, a torch tensor, or a list of them"


@dataclass(frozen=True)
class Picture:
    """One picture to look at.

    Attributes:
        image: (H, W, 3) uint8 RGB, contiguous.
        name: of its file, or ``image0.jpg``, ``image1.jpg`` ... by its place in the list where it has no file.
        path: of its file, None for arrays and tensors.
    """

    image: np.ndarray
    name: str
    path: Path | None = None


def take_pictures(images: Any) -> list[Picture]:
    """Turn what a caller hands in into pictures.

    - A path is read by ``data.images.read_image``.
    - A PIL image is turned as its EXIF orientation says.
    - A NumPy array is (H, W, 3) RGB, (H, W, 4) whose alpha is dropped, (H, W) or (H, W, 1) grey; with a first dimension
      below 5 it is taken as (C, H, W). OpenCV's BGR arrays need ``image[..., ::-1]``.
    - A torch tensor is (C, H, W) or (H, W). It is a picture like all others: letterboxed, and its results are in its
      own pixels.
    - Arrays and tensors are uint8 0..255, or floats 0..1, which are rounded to the nearest of 256 steps.
    - A four-dimensional array or tensor is a list of its parts.

    Args:
        images: one picture or a list or tuple of any mix of them.

    Raises:
        UsageError: a picture is of a kind, shape or range that cannot be taken, or a URL.
        DataError: a file is missing or cannot be decoded.
    """
    if isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, list | tuple):
        images = [images]
    return [_take(image, number) for number, image in enumerate(images)]


def _take(image: Any, number: int) -> Picture:
    for kind, take in _TAKERS.items():
        if isinstance(image, kind):
            return take(image, number)
    raise UsageError(f"images[{number}] is a {type(image).__name__}; {_KINDS}")


def _take_path(path: str | os.PathLike[str], number: int) -> Picture:
    text = os.fspath(path)
    if not isinstance(text, str):
        raise UsageError(f"images[{number}] is a path of bytes; give it as text")
    if "://" in text:
        raise UsageError(f"{text}: nothing is downloaded; save the picture to a file and give its path")
    if "\0" in text:
        raise UsageError(
            f"images[{number}] is a path with a NUL character, which no file has; give the path of a picture"
        )
    path = Path(text)
    # Unlike Path.is_dir it answers for a name that is too long for the system, too.
    if os.path.isdir(path):
        raise UsageError(f"{path}: is a folder; list its pictures, such as sorted(Path('{path}').glob('*.jpg'))")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise UsageError(f"{path}: is a video; give its frames as arrays, or run detect.py --source {path}")
    return Picture(read_image(path), path.name, path)


def _take_pil(image: Image.Image, number: int) -> Picture:
    filename = getattr(image, "filename", "")
    path = Path(os.fsdecode(filename)) if filename else None
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _WIDE_GREY_MODES:
            # Pillow would clip 16 bits at 255; a file read by path keeps their upper 8.
            pixels = _three_channels((np.asarray(upright) >> 8).astype(np.uint8)[..., None])
        elif upright.mode in _MODES_OF_ANY_RANGE:
            raise UsageError(
                f"images[{number}] is a PIL image of mode '{upright.mode}', whose white may be any number; "
                "give it as an array of uint8 in 0..255"
            )
        else:
            pixels = np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path or f'images[{number}]'}: Pillow cannot decode the image ({error}); restore the file or leave it out"
        ) from None
    return Picture(_not_empty(pixels, number), path.name if path else _name(number), path)


def _take_array(array: np.ndarray, number: int) -> Picture:
    channels_first = array.ndim == 3 and 0 < array.shape[0] <= _MOST_CHANNELS
    return _from_pixels(array.transpose(1, 2, 0) if channels_first else array, array.shape, number)


def _take_tensor(tensor: torch.Tensor, number: int) -> Picture:
    if tensor.ndim == 3 and tensor.shape[0] > _MOST_CHANNELS and tensor.shape[2] <= _MOST_CHANNELS:
        raise UsageError(
            f"images[{number}] is a tensor {tuple(tensor.shape)}, but tensors are (channels, height, width); "
            "use tensor.permute(2, 0, 1)"
        )
    # NumPy has no bfloat16; half precision is exact in float32.
    tensor = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    array = tensor.cpu().numpy()
    return _from_pixels(array.transpose(1, 2, 0) if array.ndim == 3 else array, tuple(tensor.shape), number)


def _from_pixels(array: np.ndarray, shape: tuple[int, ...], number: int) -> Picture:
    """Return a picture of (H, W) or (H, W, C) pixels.

    Args:
        array: the pixels.
        shape: as the caller gave it, for messages.
        number: place in the list.
    """
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise UsageError(
            f"images[{number}] has the shape {shape}; a picture is (height, width, 3) in RGB, or grey, or with alpha"
        )
    pixels = _three_channels(_to_bytes(_not_empty(array, number), number))
    return Picture(np.ascontiguousarray(pixels), _name(number))


def _to_bytes(array: np.ndarray, number: int) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"images[{number}] holds {array.dtype} values; convert them to uint8 in 0..255")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"images[{number}] holds floats from {low:g} to {high:g}, but they must be in 0..1; "
            "divide by their greatest possible value, or convert to uint8 in 0..255"
        )
    return (array * 255).round().astype(np.uint8)


def _three_channels(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]


def _not_empty(array: np.ndarray, number: int) -> np.ndarray:
    if 0 in array.shape[:2]:
        raise UsageError(f"images[{number}] has no pixels: it is {array.shape[0]} high and {array.shape[1]} wide")
    return array


def _name(number: int) -> str:
    return f"image{number}.jpg"


_TAKERS: dict[Any, Callable[[Any, int], Picture]] = {
    str: _take_path,
    os.PathLike: _take_path,
    Image.Image: _take_pil,
    np.ndarray: _take_array,
    torch.Tensor: _take_tensor,
}
