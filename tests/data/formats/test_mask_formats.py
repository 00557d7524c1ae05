"""Every format of masks: what is written is read, files are found where the sets have them, faults are named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from data.annotations import MaskClasses
from data.formats.bdd100k_masks import Bdd100kMasks, DrivableMasks
from data.formats.camvid_masks import CLASSES as CAMVID
from data.formats.camvid_masks import CamvidMasks
from data.formats.cityscapes_masks import CityscapesMasks
from data.formats.colour_masks import ColourMasks
from data.formats.colour_table import read_colour_table
from data.formats.index_masks import GreyMasks, PaletteMasks
from data.formats.mask_png import read_mask
from utils.errors import DataError

THREE = MaskClasses(["road", "sky", "car"], ((128, 64, 128), (70, 130, 180), (0, 0, 142)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masks")


def own_classes(form: object) -> MaskClasses:
    names = list(form.names)
    return MaskClasses(names) if names else THREE


FORMATS = [
    (GreyMasks(), "a.png"),
    (PaletteMasks(), "a.png"),
    (ColourMasks(), "a.png"),
    (CamvidMasks(), "a_L.png"),
    (CityscapesMasks(), "a_gtFine_labelIds.png"),
    (CityscapesMasks(), "a.png"),
    (Bdd100kMasks(), "a.png"),
    (DrivableMasks(), "a.png"),
    (DrivableMasks(), "a_drivable_id.png"),
]


@pytest.mark.parametrize(("form", "name"), FORMATS, ids=[f"{form.name} {name}" for form, name in FORMATS])
@settings(max_examples=8)
@given(data=st.data())
def test_what_is_written_is_read(folder: Path, form: object, name: str, data: st.DataObject) -> None:
    classes = own_classes(form)
    values = st.integers(0, len(classes.names) - 1) | st.just(255)
    mask = data.draw(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=values))
    form.write(folder / name, mask, classes)
    assert np.array_equal(form.read(folder / name, classes), mask)


def test_ignored_pixels_have_the_value_of_the_set(folder: Path) -> None:
    mask = np.array([[0, 1, 255]], np.uint8)
    GreyMasks().write(folder / "i.png", mask, MaskClasses(["a", "b"], ignore=(7, 9)))
    assert read_mask(folder / "i.png").tolist() == [[0, 1, 7]]
    with pytest.raises(DataError, match="pixels without a class; give a value that stands for them"):
        GreyMasks().write(folder / "i.png", mask, MaskClasses(["a", "b"], ignore=()))


def test_a_palette_shows_the_classes(folder: Path) -> None:
    PaletteMasks().write(folder / "p.png", np.array([[0, 2, 255]], np.uint8), THREE)
    with Image.open(folder / "p.png") as image:
        assert image.mode == "P"
        shown = np.asarray(image.convert("RGB"))
    assert shown.tolist() == [[[128, 64, 128], [0, 0, 142], [255, 255, 255]]]
    colours = MaskClasses(["car", "road", "white"], ((0, 0, 142), (128, 64, 128), (255, 255, 255)))
    assert ColourMasks().read(folder / "p.png", colours).tolist() == [[1, 0, 2]]
    with pytest.raises(DataError, match="3 colours for 2 classes"):
        PaletteMasks().write(folder / "p.png", np.zeros((1, 1), np.uint8), MaskClasses(["a", "b"], THREE.colours))


def test_label_ids_and_training_classes_of_cityscapes(folder: Path) -> None:
    file = folder / "x_gtFine_labelIds.png"
    cv2.imwrite(str(file), np.array([[0, 7, 11, 33, 29, 255]], np.uint8))
    names = own_classes(CityscapesMasks())
    assert CityscapesMasks().read(file, names).tolist() == [[255, 0, 2, 18, 255, 255]]
    CityscapesMasks().write(file, np.array([[18, 255, 0]], np.uint8), names)
    assert read_mask(file).tolist() == [[33, 0, 7]]


def test_both_releases_of_drivable_areas(folder: Path) -> None:
    values = np.array([[0, 1, 2]], np.uint8)
    cv2.imwrite(str(folder / "d.png"), values)
    cv2.imwrite(str(folder / "d_drivable_id.png"), values)
    names = own_classes(DrivableMasks())
    assert DrivableMasks().read(folder / "d.png", names).tolist() == [[0, 1, 2]]
    assert DrivableMasks().read(folder / "d_drivable_id.png", names).tolist() == [[2, 0, 1]]


@pytest.mark.parametrize(
    ("form", "image", "mask"),
    [
        (GreyMasks(), "images/train/x/a.jpg", "masks/train/x/a.png"),
        (GreyMasks(), "images/train/x/a.jpg", "masks/x/a.png"),
        (GreyMasks(), "images/train/x/a.jpg", "masks/a.png"),
        (CamvidMasks(), "images/train/a.png", "masks/train/a_L.png"),
        (Bdd100kMasks(), "images/train/a.jpg", "masks/train/a.png"),
        (Bdd100kMasks(), "images/train/a.jpg", "masks/a_train_id.png"),
        (DrivableMasks(), "images/train/a.jpg", "masks/train/a_drivable_id.png"),
        (CityscapesMasks(), "images/train/ulm/a_leftImg8bit.png", "masks/train/ulm/a_gtFine_labelIds.png"),
        (CityscapesMasks(), "images/train/ulm/a_leftImg8bit.png", "masks/ulm/a_gtFine_labelTrainIds.png"),
        (CityscapesMasks(), "images/train/bdd/a.jpg", "masks/bdd/a.png"),
    ],
)
def test_masks_lie_where_the_sets_have_them(form: object, image: str, mask: str) -> None:
    found = form.mask_files(Path("set", image), Path("set/images/train"), Path("set/masks"))
    assert Path("set", mask) in found and len(set(found)) == len(found)


def test_what_is_no_class_is_named_with_its_place(folder: Path) -> None:
    file = folder / "f.png"
    cv2.imwrite(str(file), np.array([[[128, 64, 128], [3, 2, 1]]], np.uint8))
    with pytest.raises(DataError, match=r"f\.png: the mask has the colour 1 2 3 \(pixel 1, 0\), which is that of no"):
        ColourMasks().read(file, THREE)
    with pytest.raises(DataError, match="one colour per class, but there are 0 for 1 classes"):
        ColourMasks().read(file, MaskClasses(["a"]))
    with pytest.raises(DataError, match=r"the mask holds the value 3, but .* names 3 classes"):
        ColourMasks().write(file, np.full((1, 1), 3, np.uint8), THREE)
    with pytest.raises(DataError, match="black is a class"):
        ColourMasks().write(file, np.full((1, 1), 255, np.uint8), MaskClasses(["a"], ((0, 0, 0),)))
    cv2.imwrite(str(file), np.full((2, 2), 19, np.uint8))
    for form in (Bdd100kMasks(), CityscapesMasks(), DrivableMasks(), GreyMasks()):
        with pytest.raises(DataError, match="the mask holds the value 19"):
            form.read(file, own_classes(form))
    cv2.imwrite(str(file), np.full((2, 2, 3), 300, np.uint16))
    with pytest.raises(DataError, match="16 bits per channel"):
        CamvidMasks().read(file, own_classes(CamvidMasks()))


def test_tables_of_colours(tmp_path: Path) -> None:
    table = tmp_path / "label_colors.txt"
    table.write_text("".join(f"{r} {g} {b}\t\t{name}\n" for name, (r, g, b) in CAMVID.items()) + "0 0 0\t\tVoid\n\n")
    found = read_colour_table(table)
    assert dict(zip(found.names, found.colours, strict=True)) == {**CAMVID, "Void": (0, 0, 0)}
    table.write_text("name,r,g,b\n# by hand\ntraffic light,250,170,30\nsky , 70 , 130 , 180\n")
    assert read_colour_table(table) == MaskClasses(["traffic light", "sky"], ((250, 170, 30), (70, 130, 180)))
    table.write_text("traffic light 250 170 30")
    assert read_colour_table(table) == MaskClasses(["traffic light"], ((250, 170, 30),))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "lists no class"),
        ("name,r,g,b\n", "lists no class"),
        ("road,1,2\n", r"line 1: is no class with its colour"),
        ("road,1,2,3\nsky,1,2,256\n", r"line 2: is no class with its colour"),
        ("1,2,3\n", r"line 1: is no class"),
        ("road,1,2,3\nsky,1,2,3\n", "'road' and 'sky' have the colour 1 2 3"),
        ("road,1,2,3\nroad,1,2,4\n", "the class 'road' is there twice"),
        ("road,1,2,3\n" * 20_000, "larger than 100 kB"),
        (b"\xff\xfe", "not a text file"),
    ],
)
def test_a_faulty_table_is_named(tmp_path: Path, text: str | bytes, fault: str) -> None:
    table = tmp_path / "colours.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=fault) as caught:
        read_colour_table(table)
    assert str(caught.value).startswith(str(table)) and "\n" not in str(caught.value)
