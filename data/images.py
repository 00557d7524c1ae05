"""Reads image files: whatever the file holds becomes RGB uint8, upright, or one clear error."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.errors import DataError
from utils.opencv_messages import quiet_opencv

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
IMAGE_SUFFIXES = JPEG_SUFFIXES | {".bmp", ".png", ".tif", ".tiff", ".webp"}

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_KINDS = ("JPEG", "MPO")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_EXIF = b"eXIf"
_PNG_PIXELS, _PNG_END, _PNG_PROFILE = b"IDAT", b"IEND", b"iCCP"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_ALPHA = ("RGBA", "RGBa", "LA", "PA")
_TIFF_WIDE = ("F", "I")
MOST_PIXELS_OF_A_SET = 178_956_970
"""Of an image of a data set: Pillow's own limit, 536 MB as RGB."""
_PILLOW_FAULTS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_TAIL = 64
_OPENCV_LIMIT = "CV_IO_MAX_IMAGE"
MOST_PIXELS = 1 << 30
"""Of an image that is read: OpenCV's own limit."""
_ORIENTATION_TAG = 274
_SIDEWAYS = (5, 6, 7, 8)
_REDUCED_RGB = {
    # libjpeg scales inside its inverse transform, which saves most of the decoding time.
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}


def read_image(path: str | Path, reduction: int = 1) -> np.ndarray:
    """Read an image file upright (EXIF orientation applied) as RGB.

    Grey becomes three equal channels, a palette and CMYK their colours, an alpha channel is dropped, 16 bits become
    their upper 8. Of several pages or frames the first is read.

    Args:
        path: of the file.
        reduction: 1, 2, 4 or 8: a JPEG is decoded at 1/reduction of its size; other formats ignore it.

    Returns:
        (H, W, 3) uint8, contiguous.

    Raises:
        DataError: the file is missing, empty or cannot be decoded, or claims more than 2^30 pixels.
    """
    return _decode(_read_bytes(path), path, reduction)


def reduction_for(size: tuple[int, int], long_side: int | None) -> int:
    """Return the largest of 8, 4, 2, 1 at which a (height, width) picture still has a side of ``long_side`` pixels."""
    if long_side is None:
        return 1
    return next((r for r in (8, 4, 2) if max(size) >= r * long_side), 1)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as ``read_image`` would give it, and make sure that the file is whole.

    JPEG and PNG are checked without decoding their pixels (end marker, checksums); rarer formats are decoded once.

    Raises:
        DataError: the file is missing, empty, cut off or damaged, or claims more than 178 million pixels.
    """
    path = Path(path)
    _refuse_pipe(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format in _JPEG_KINDS and _JPEG_END in _tail(path):
                sideways = image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS
                return (width, height) if sideways else (height, width)
            if image.format == "PNG" and _PNG_EXIF not in path.read_bytes():
                image.verify()
                return height, width
    except FileNotFoundError:
        raise _missing(path) from None
    except UnidentifiedImageError:
        raise _empty(path) if path.stat().st_size == 0 else _undecodable(path) from None
    except Image.DecompressionBombError:
        raise _too_large(path, MOST_PIXELS_OF_A_SET) from None
    except _PILLOW_FAULTS as error:
        # Only the system's own errors, such as a missing permission, have a number.
        raise (_unreadable(path, error) if getattr(error, "errno", None) else _undecodable(path)) from None
    # Rarer formats, a PNG that may be turned, and a JPEG that is cut off or has a camera's own bytes after its end.
    decoded = read_image(path)
    return decoded.shape[0], decoded.shape[1]


def resize_image(image: np.ndarray, size: tuple[int, int], shrink: str = "linear") -> np.ndarray:
    """Return an (H, W, 3) uint8 image at (height, width).

    Weights expect what they were trained and measured with: where those of YOLOv5 and YOLOX are shown averages of areas
    instead, the confidence of what they find in large pictures moves by several hundredths.

    Args:
        image: the image itself is returned where it has the size.
        size: (height, width) wanted.
        shrink: ``area`` makes an image that is larger in any direction smaller by the mean of the pixels that become
            one; ``linear`` interpolates linearly, as enlarged images are in both cases. ``antialias`` is Pillow's
            bilinear, to a grey level, which weighs all pixels that a new one covers.
    """
    if image.shape[:2] == size:
        return image
    if shrink == "antialias":
        return _antialiased(image, size)
    smaller = size[0] < image.shape[0] or size[1] < image.shape[1]
    interpolation = cv2.INTER_AREA if shrink == "area" and smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=interpolation)


def _antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize by PyTorch, which is several times as fast as Pillow: its kernel is vectorised and works on bytes."""
    if not (image.flags.c_contiguous and image.flags.writeable):
        # PyTorch has no read-only tensors, and makes planes of channels from what is not contiguous.
        image = image.copy()
    # Commands that open pictures but run no network need not wait for this import.
    import torch
    import torch.nn.functional as F

    # The batch comes before the channels move, so that its stride tells that pixels lie together.
    pixels = torch.from_numpy(image).unsqueeze(0).permute(0, 3, 1, 2)
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy()[0])


def _decode(data: bytes, path: str | Path, reduction: int) -> np.ndarray:
    if data[:4] in _TIFF_STARTS:
        image = _decode_odd_tiff(data, path)
        if image is not None:
            return image
    if data.startswith(_PNG_START):
        if not _has_whole_pixels(data):
            raise _undecodable(path)
        data = _without_profile(data)
    is_jpeg = data[:2] == _JPEG_START
    flags = _REDUCED_RGB.get(reduction, cv2.IMREAD_COLOR_RGB) if is_jpeg else cv2.IMREAD_COLOR_RGB
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if _OPENCV_LIMIT in str(error):
            raise _too_large(path, MOST_PIXELS) from None
        image = None
    if image is None:
        raise _undecodable(path)
    return image


def _has_whole_pixels(png: bytes) -> bool:
    """Return whether all pixels of a PNG are there and have their checksums.

    Its decoder would refuse it too, but with a line on standard error that names no file. It costs a small share of
    decoding. Other chunks do not matter: a picture with a damaged comment can be read.
    """
    view = memoryview(png)
    for kind, start, end in _png_chunks(view):
        if kind == _PNG_END:
            return True
        if kind == _PNG_PIXELS and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            return False
    return False


def _without_profile(png: bytes) -> bytes:
    """Return a PNG without its colour profile.

    Its decoder makes no use of it, but warns on standard error, without the file's name, of the many that are odd.
    """
    for kind, start, end in _png_chunks(memoryview(png)):
        if kind == _PNG_PROFILE:
            return png[:start] + png[end:]
        if kind == _PNG_PIXELS:
            break
    return png


def _png_chunks(png: memoryview) -> Iterator[tuple[memoryview, int, int]]:
    """Yield kind, start and end of the chunks of a PNG, in bytes."""
    start = len(_PNG_START)
    while start + 12 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4])
        yield png[start + 4 : start + 8], start, end
        start = end


def _decode_odd_tiff(data: bytes, path: str | Path) -> np.ndarray | None:
    """Decode a TIFF with an alpha channel, where OpenCV darkens what is transparent; return None for others.

    Raises:
        DataError: its samples have no known range of brightness.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            if image.mode in _TIFF_WIDE:
                raise DataError(f"{path}: a TIFF whose samples have 32 bits or a sign; save it with 8 or 16 bits")
            if image.mode not in _TIFF_ALPHA:
                return None
            image.load()
    except _PILLOW_FAULTS:
        # OpenCV has other limits on size, and says of a damaged file that it is.
        return None
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _refuse_pipe(path: str | Path) -> None:
    """Refuse what is no file, before it is opened: to open a pipe is to wait for whoever writes into it."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # Opening it says more.
    except ValueError:
        raise DataError(f"{str(path)!r}: no file can have this name; mend it where it is listed") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path}: is a pipe, a socket or a device, not an image; remove it")


def _read_bytes(path: str | Path) -> bytes:
    _refuse_pipe(path)
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not data:
        raise _empty(path)
    return data


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL))
        return file.read()


def _missing(path: str | Path) -> DataError:
    return DataError(f"{path}: no such image; restore the file or take it out of the list")


def _empty(path: str | Path) -> DataError:
    return DataError(f"{path}: the image has zero bytes; restore the file or remove it")


def _unreadable(path: str | Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}); mend its permissions or its disk")


def _too_large(path: str | Path, most: int) -> DataError:
    return DataError(
        f"{path}: the image claims more than the {most // 10**6} million pixels that are read; cut it into pieces or "
        "scale it down"
    )


def _undecodable(path: str | Path) -> DataError:
    return DataError(f"{path}: the image is corrupt, cut off or of an unknown kind; restore the file or remove it")
