"""Masks: indices whatever the bit depth, clear errors for everything that is no index picture."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.formats.mask_png import MaskFinder, check_mask, ignore_values, read_mask, write_mask
from utils.errors import DataError


def test_a_written_mask_comes_back(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (30, 41), dtype=np.uint8)
    write_mask(tmp_path / "a.png", mask)
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_gives_its_indices(tmp_path: Path, depth: int) -> None:
    indices = np.random.default_rng(0).integers(0, 2**depth, (20, 30), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
    image.save(tmp_path / "a.png", bits=depth)
    assert np.array_equal(read_mask(tmp_path / "a.png"), indices)


def test_one_grey_bit_gives_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), np.eye(8, dtype=np.uint8))


def test_16_bits_keep_their_values(tmp_path: Path) -> None:
    mask = np.array([[0, 7], [300, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), mask)
    read = read_mask(tmp_path / "a.png")
    assert np.array_equal(read, mask)
    with pytest.raises(DataError, match="value 300"):
        check_mask(read, 19, [65535], "a.png")
    assert ignore_values(read, [65535]).tolist() == [[0, 7], [255, 255]]


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_is_refused(tmp_path: Path, channels: int) -> None:
    Image.fromarray(np.zeros((8, 8, channels), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the mask has colour or alpha channels; save class indices"):
        read_mask(tmp_path / "a.png")


def test_faulty_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content, fault in (
        ("empty.png", b"", "zero bytes"),
        ("text.png", b"x" * 100, "not a PNG"),
        ("cut.png", whole[: len(whole) // 2], "cut off"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: the mask .*{fault}"):
            read_mask(tmp_path / name)
    with pytest.raises(DataError, match=r"absent\.png: cannot be read"):
        read_mask(tmp_path / "absent.png")


def test_a_strange_value_is_named_with_the_number_of_classes() -> None:
    mask = np.array([[0, 2], [11, 255]], np.uint8)
    check_mask(mask, 3, [11, 255], "a.png")
    with pytest.raises(DataError, match=r"^a\.png: the mask holds the value 11, but .* 3 classes \(0\.\.2\)"):
        check_mask(mask, 3, [255], "a.png")


def test_every_ignored_value_becomes_255() -> None:
    mask = np.array([[0, 1], [11, 255]], np.uint8)
    assert ignore_values(mask, [11, 0, 255]).tolist() == [[255, 1], [255, 255]]
    assert ignore_values(mask, [255]) is mask
    assert mask.tolist() == [[0, 1], [11, 255]]


@pytest.mark.parametrize(
    ("masks", "image", "mask"),
    [
        ("masks", "images/train/x/a.jpg", "masks/train/x/a.png"),
        ("masks/train", "images/train/x/a.jpg", "masks/train/x/a.png"),
        ("gt", "pictures/x/a.jpg", "gt/x/a.png"),
        ("gt", "pictures/x/a.jpg", "gt/train/x/a.png"),
        ("seglabels/train", "segimages/train/x/a.jpg", "seglabels/train/a.png"),
        (None, "images/train/a.jpg", "masks/train/a.png"),
    ],
)
def test_masks_are_found(tmp_path: Path, masks: str | None, image: str, mask: str) -> None:
    (tmp_path / mask).parent.mkdir(parents=True)
    (tmp_path / mask).write_bytes(b"")
    folder = tmp_path / image.split("/x/")[0].removesuffix("/a.jpg")
    finder = MaskFinder("train", [folder], tmp_path / masks if masks else None)
    assert finder.find(tmp_path / image) == tmp_path / mask
    assert finder.find((tmp_path / image).with_name("b.jpg")) is None


@pytest.mark.skipif(os.name != "posix", reason="elsewhere links need a privilege")
def test_masks_behind_a_link_are_found_as_images_are(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").write_bytes(b"")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/train").symlink_to(tmp_path / "elsewhere")
    finder = MaskFinder("train", [tmp_path / "images/train"], tmp_path / "masks")
    assert finder.find(tmp_path / "images/train/a.jpg") == tmp_path / "masks/train/a.png"
