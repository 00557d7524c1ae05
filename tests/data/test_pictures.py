"""What a caller may hand in as a picture: every kind gives the same pixels; what cannot be taken is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import read_image
from data.pictures import take_pictures
from tests.tiny_detector import make_picture, write_picture
from utils.errors import DataError, UsageError

RGB = make_picture((20, 28))
GREY = RGB[..., 0].copy()
ALPHA = np.concatenate([RGB, np.full((20, 28, 1), 7, np.uint8)], 2)

EQUAL_TO_RGB = {
    "array": RGB,
    "reversed": RGB[..., ::-1][..., ::-1],
    "with alpha": ALPHA,
    "channels first": RGB.transpose(2, 0, 1),
    "alpha, channels first": ALPHA.transpose(2, 0, 1),
    "not contiguous": np.asfortranarray(RGB),
    "float64": RGB / 255.0,
    "float32": (RGB / 255).astype(np.float32),
    "tensor": torch.from_numpy(RGB).permute(2, 0, 1),
    "float tensor": torch.from_numpy(RGB).permute(2, 0, 1) / 255,
    "tensor with gradient": (torch.from_numpy(RGB).permute(2, 0, 1) / 255).requires_grad_(),
    "PIL": Image.fromarray(RGB),
    "PIL with alpha": Image.fromarray(ALPHA),
}
EQUAL_TO_GREY = {
    "array": GREY,
    "one channel last": GREY[..., None],
    "one channel first": GREY[None],
    "tensor": torch.from_numpy(GREY),
    "tensor with channel": torch.from_numpy(GREY)[None],
    "PIL": Image.fromarray(GREY),
    "PIL 16 bits": Image.fromarray(GREY.astype(np.uint16) * 256 + 255),
}


@pytest.mark.parametrize("kind", EQUAL_TO_RGB)
def test_kinds_of_colour_pictures_are_equal(kind):
    (picture,) = take_pictures(EQUAL_TO_RGB[kind])
    assert picture.image.dtype == np.uint8 and picture.image.flags.c_contiguous
    np.testing.assert_array_equal(picture.image, RGB)
    assert (picture.name, picture.path) == ("image0.jpg", None)


@pytest.mark.parametrize("kind", EQUAL_TO_GREY)
def test_kinds_of_grey_pictures_are_equal(kind):
    (picture,) = take_pictures([EQUAL_TO_GREY[kind]])
    np.testing.assert_array_equal(picture.image, np.stack([GREY] * 3, -1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_tensors_are_rounded_to_the_nearest_step(dtype):
    given = (torch.from_numpy(RGB).permute(2, 0, 1) / 255).to(dtype)
    (picture,) = take_pictures(given)
    expected = (given.double() * 255).permute(1, 2, 0).numpy()
    assert np.abs(picture.image - expected).max() <= 0.5 + 1e-4


def test_a_list_keeps_its_order_and_names(tmp_path):
    path = write_picture(tmp_path / "street.png")
    pictures = take_pictures((RGB, str(path), path, Image.open(path), GREY))
    assert [picture.name for picture in pictures] == ["image0.jpg", *["street.png"] * 3, "image4.jpg"]
    assert [picture.path for picture in pictures] == [None, path, path, path, None]
    for picture in pictures[1:4]:
        np.testing.assert_array_equal(picture.image, read_image(path))


@pytest.mark.parametrize("batch", [np.stack([RGB, 255 - RGB]), torch.from_numpy(np.stack([RGB, 255 - RGB]))])
def test_four_dimensions_are_a_list(batch):
    if isinstance(batch, torch.Tensor):
        batch = batch.permute(0, 3, 1, 2)
    pictures = take_pictures(batch)
    np.testing.assert_array_equal(pictures[0].image, RGB)
    np.testing.assert_array_equal(pictures[1].image, 255 - RGB)


def test_no_pictures_are_no_pictures():
    assert take_pictures([]) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_as_its_file_is(tmp_path, orientation):
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    (by_path,), (by_pil,) = take_pictures(path), take_pictures(Image.open(path))
    assert by_path.image.shape[:2] == ((28, 20) if orientation > 4 else (20, 28))
    np.testing.assert_array_equal(by_path.image, by_pil.image)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_of_pillow_gives_three_channels(mode):
    image = Image.fromarray(GREY.astype(np.uint16)) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    (picture,) = take_pictures(image)
    assert picture.image.shape == (20, 28, 3) and picture.image.dtype == np.uint8


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("https://example.org/bus.jpg", "nothing is downloaded"),
        ("clip.MP4", "is a video"),
        ("bus\0.jpg", "a path with a NUL character"),
        (b"bus.jpg", "images[0] is a bytes"),
        ([RGB, None], "images[1] is a NoneType"),
        ([[RGB]], "images[0] is a list"),
        (np.zeros((20, 28, 2), np.uint8), "has the shape (20, 28, 2)"),
        (np.zeros((2, 20, 28), np.uint8), "has the shape (2, 20, 28)"),
        (np.zeros(5, np.uint8), "has the shape (5,)"),
        (np.zeros((0, 28, 3), np.uint8), "has no pixels"),
        (np.zeros((20, 28, 3), np.int64), "holds int64 values"),
        (np.zeros((20, 28, 3), np.uint16), "holds uint16 values"),
        (RGB.astype(np.float32), "must be in 0..1"),
        (np.full((20, 28, 3), np.nan), "must be in 0..1"),
        (np.full((20, 28, 3), -0.1), "must be in 0..1"),
        (torch.from_numpy(RGB), "use tensor.permute(2, 0, 1)"),
        (torch.zeros(3, 20, 28, dtype=torch.int32), "holds int32 values"),
        (torch.zeros(5, 20, 28), "has the shape (5, 20, 28)"),
        (Image.fromarray(np.zeros((20, 28), np.float32)), "mode 'F'"),
    ],
)
def test_what_cannot_be_taken_is_one_sentence(images, words):
    with pytest.raises(UsageError) as caught:
        take_pictures(images)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_refused_with_the_mend(tmp_path):
    with pytest.raises(UsageError, match="is a folder; list its pictures") as caught:
        take_pictures(tmp_path)
    assert f"sorted(Path('{tmp_path}').glob('*.jpg'))" in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    broken = write_picture(tmp_path / "cut.jpg", (200, 200))
    broken.write_bytes(broken.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"gone\.jpg: no such image"):
        take_pictures([RGB, Path("gone.jpg")])
    with Image.open(broken) as image, pytest.raises(DataError, match=r"cut\.jpg: Pillow cannot decode the image"):
        take_pictures(image)
    with pytest.raises(DataError, match="File name too long"):
        take_pictures("x" * 5000)
