"""Reading pictures: every kind of file ends up as upright RGB uint8, every fault as one error that names the file."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from data.images import image_size, read_image, reduction_for, resize_image
from utils.errors import DataError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def picture(height: int = 40, width: int = 64) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 4, : width // 4] = RED
    pixels[:, -width // 4 :] = GREEN
    return pixels


@pytest.mark.parametrize("suffix", ["bmp", "jpg", "jpeg", "png", "tif", "tiff", "webp"])
def test_every_suffix_gives_rgb(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(picture()).save(file)
    image = read_image(file)
    assert image.shape == (40, 64, 3) and image.dtype == np.uint8
    assert np.abs(image[4, 4].astype(int) - RED).max() < 40
    assert np.abs(image[20, -4].astype(int) - GREEN).max() < 40
    assert image_size(file) == (40, 64)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_the_size_agrees(tmp_path: Path, suffix: str, orientation: int) -> None:
    file = tmp_path / f"a.{suffix}"
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[274] = orientation
    image.save(file, exif=exif)
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation](picture())
    read = read_image(file)
    assert read.shape == upright.shape
    assert image_size(file) == upright.shape[:2]
    assert np.abs(read.astype(int) - upright).mean() < 8


def test_grey_alpha_palette_and_16_bits_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64) * 20
    cv2.imwrite(str(tmp_path / "grey16.png"), grey)
    Image.fromarray((grey >> 8).astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([picture(), np.full((40, 64), 9, np.uint8)])).save(tmp_path / "alpha.png")
    Image.fromarray(picture()).quantize(8).save(tmp_path / "palette.png")
    expected = np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(read_image(tmp_path / "grey16.png"), expected)
    assert np.array_equal(read_image(tmp_path / "grey.png"), expected)
    assert np.array_equal(read_image(tmp_path / "alpha.png"), picture())
    assert np.array_equal(read_image(tmp_path / "palette.png"), picture())


def shades(height: int = 40, width: int = 64) -> np.ndarray:
    """Colours that all differ, so that exchanged, inverted or darkened channels show."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 255 // width, y * 255 // height, 255 - x * 255 // width]).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "mode", "most"),
    [
        ("cmyk.jpg", "CMYK", 2),
        ("cmyk.tif", "CMYK", 0),
        ("bilevel.png", "1", 0),
        ("bilevel.tif", "1", 0),
        ("grey_alpha.png", "LA", 0),
        ("grey.jpg", "L", 0),
        ("palette.tif", "P", 0),
        ("palette.bmp", "P", 0),
        ("ycbcr.tif", "YCbCr", 4),
    ],
)
def test_files_of_many_modes_look_as_in_pillow(tmp_path: Path, name: str, mode: str, most: int) -> None:
    Image.fromarray(shades()).convert(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    found = read_image(tmp_path / name)
    assert found.shape == expected.shape and np.abs(found - expected).max() <= most
    assert image_size(tmp_path / name) == (40, 64)


def test_an_odd_colour_profile_changes_nothing_and_is_not_spoken_of(tmp_path, capfd):
    # Of grey pixels, with which a profile for red, green and blue is an error.
    grey = picture()[..., 0]
    Image.fromarray(grey).save(
        tmp_path / "a.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    assert b"iCCP" in (tmp_path / "a.png").read_bytes()
    assert np.array_equal(read_image(tmp_path / "a.png"), np.dstack([grey] * 3))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_alpha_is_dropped_and_darkens_nothing(tmp_path: Path, name: str, orientation: int) -> None:
    clear = np.dstack([shades(), np.arange(64)[None].repeat(40, 0) * 4]).astype(np.uint8)
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    image = Image.fromarray(clear)
    exif = image.getexif()
    exif[274] = orientation
    image.save(tmp_path / name, exif=exif, **options)
    expected = shades() if orientation == 1 else np.rot90(shades(), -1)
    assert np.array_equal(read_image(tmp_path / name), expected)
    assert image_size(tmp_path / name) == expected.shape[:2]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_become_their_upper_8(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 64, channels), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep)
    expected = np.repeat(deep, 3, 2) if channels == 1 else deep[..., 2::-1]
    found = read_image(tmp_path / f"a.{suffix}").astype(int)
    # The TIFF library rounds where the others cut.
    assert found.shape == expected.shape and np.abs(found - (expected >> 8)).max() <= (suffix == "tif")


def test_samples_without_a_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)).save(tmp_path / "float.tif")
    Image.fromarray(np.arange(600, dtype=np.int32).reshape(20, 30)).save(tmp_path / "int.tif")
    for name in ("float.tif", "int.tif"):
        for reader in (read_image, image_size):
            with pytest.raises(
                DataError, match=rf"{name}: a TIFF whose samples have 32 bits or a sign; save it with 8"
            ):
                reader(tmp_path / name)


def test_of_several_pages_the_first_is_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(shades()), Image.fromarray(picture())]
    for name in ("pages.tif", "frames.webp"):
        pages[0].save(
            tmp_path / name, save_all=True, append_images=pages[1:], **({"lossless": True} if "w" in name else {})
        )
        assert np.array_equal(read_image(tmp_path / name), shades()), name


def test_damage_is_one_error_and_no_message_of_the_decoder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.tif", "a.png", "a.bmp"):
        Image.fromarray(shades()).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="corrupt"):
            read_image(tmp_path / name)
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    for start in range(0, len(whole), 97):
        (tmp_path / "b.png").write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
        with pytest.raises(DataError, match="corrupt"):
            read_image(tmp_path / "b.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_cut_off_files_are_found_by_both_readers(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for reader in (read_image, image_size):
        with pytest.raises(DataError, match="corrupt") as caught:
            reader(file)
        assert str(file) in str(caught.value)


def test_bytes_after_the_end_of_a_jpeg_are_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(picture()).save(file)
    file.write_bytes(file.read_bytes() + bytes(500))
    assert image_size(file) == (40, 64)


@pytest.mark.parametrize(
    ("content", "fault"), [(None, "no such image"), (b"", "zero bytes"), (b"these are no pixels", "corrupt")]
)
@pytest.mark.parametrize("reader", [read_image, image_size])
def test_faults_name_the_file(tmp_path: Path, reader, content: bytes | None, fault: str) -> None:
    file = tmp_path / "broken.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=fault) as caught:
        reader(file)
    assert str(file) in str(caught.value)


def test_a_reduced_jpeg_is_the_shrunk_picture(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    y, x = np.mgrid[:256, :384]
    smooth = np.dstack([x / 384, y / 256, (x + y) / 640]) * 255
    Image.fromarray(smooth.astype(np.uint8)).save(file, quality=98)
    reduced = read_image(file, 2)
    assert reduced.shape == (128, 192, 3)
    assert np.abs(reduced.astype(int) - resize_image(read_image(file), (128, 192))).max() <= 4


@given(st.integers(0, 2**31), st.data())
@settings(max_examples=30, deadline=None)
def test_an_antialiased_picture_is_pillows(seed: int, data: st.DataObject) -> None:
    side = st.integers(1, 90)
    native, size = (data.draw(st.tuples(side, side)) for _ in range(2))
    image = np.random.default_rng(seed).integers(0, 256, (*native, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    found = resize_image(image, size, "antialias")
    assert found.dtype == np.uint8 and found.shape == (*size, 3) and found.flags.c_contiguous
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_a_part_of_a_read_only_picture_is_antialiased_as_a_copy_of_it() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    wanted = resize_image(image[5:50, 10:70].copy(), (32, 48), "antialias")
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(resize_image(image[5:50, 10:70], (32, 48), "antialias"), wanted)
        assert resize_image(image, (60, 80), "antialias") is image


@pytest.mark.parametrize(("side", "expected"), [(None, 1), (1280, 1), (641, 1), (640, 2), (320, 4), (10, 8)])
def test_reduction_never_goes_below_the_wanted_side(side: int | None, expected: int) -> None:
    assert reduction_for((720, 1280), side) == expected


@pytest.mark.parametrize("reader", [read_image, image_size])
def test_a_missing_permission_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], object]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read \(Permission denied\); mend its permissions"):
        reader(tmp_path / "a.jpg")
