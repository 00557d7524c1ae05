"""Splits of several sources, each with its own format: boxes and masks of different sets as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from data.annotations import AnnotatedPicture, ClassList, MaskClasses, make_objects
from data.config import load_data_config
from data.convert.__main__ import main as convert
from data.dataset import TaskDataset
from data.formats import cityscapes
from data.formats.registry import MASK_FORMATS, PICTURE_FORMATS, SPLIT_FORMATS
from data.split_index import open_split
from data.task_data import TaskData
from utils.errors import DataError

SIZE = (40, 60)


def picture(file: Path, *objects: tuple[str, float]) -> AnnotatedPicture:
    """Return a picture with boxes of 10 x 20 pixels, named and placed by their left edge."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(file.name)).integers(0, 255, (*SIZE, 3), np.uint8)).save(file)
    boxes = np.array([[x, 5, x + 10, 25] for _, x in objects], float).reshape(-1, 4)
    return AnnotatedPicture(file, file.name, SIZE, make_objects([name for name, _ in objects], boxes))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four sets with one or two pictures each: YOLO, VOC, COCO and BDD100K, which call their classes differently."""
    yolo = picture(tmp_path / "own/images/y.png", ("Auto", 1), ("Mensch", 2))
    place = PICTURE_FORMATS["yolo"].label_file(yolo.image, yolo.image.parent, tmp_path / "own/labels")
    place.parent.mkdir()
    PICTURE_FORMATS["yolo"].write(place, yolo, ClassList(["Mensch", "Auto"]))
    (tmp_path / "voc/Annotations").mkdir(parents=True)
    for name, objects in (("v0", [("car", 3), ("dog", 4)]), ("v1", [])):
        annotated = picture(tmp_path / f"voc/JPEGImages/{name}.png", *objects)
        PICTURE_FORMATS["voc"].write(tmp_path / f"voc/Annotations/{name}.xml", annotated, ClassList([]))
    listed = picture(tmp_path / "coco/c.png", ("person", 6), ("truck", 7))
    SPLIT_FORMATS["coco"].write(tmp_path / "coco.json", [listed], ClassList(["person", "truck"]))
    listed = picture(tmp_path / "bdd/b.png", ("pedestrian", 8), ("truck", 9))
    SPLIT_FORMATS["bdd100k"].write(tmp_path / "bdd.json", [listed], ClassList([]))
    return tmp_path


SOURCES: list[Any] = [
    {"images": "own/images", "names": ["Mensch", "Auto"], "classes": {"car": ["Auto"], "person": [0]}},
    {"images": "voc/JPEGImages", "format": "voc"},
    {"images": "coco", "annotations": "coco.json", "format": "coco", "classes": {"car": "truck", "person": "person"}},
    {"images": "bdd", "annotations": "bdd.json", "format": "bdd100k", "classes": {"person": ["pedestrian"]}},
]
PLAIN = [{key: value for key, value in source.items() if key != "classes"} for source in SOURCES]


def task(root: Path, block: dict[str, Any], name: str = "detect") -> TaskData:
    """Return the data of one block."""
    (root / "data.yaml").write_text(yaml.safe_dump({"path": str(root), name: block}, sort_keys=False))
    return load_data_config(root / "data.yaml", splits=("train",)).tasks[name]


def test_sets_of_four_formats_are_one(root: Path) -> None:
    data = task(root, {"train": SOURCES, "names": ["car", "person"]})
    assert data.format == "mixed" and data.names == ["car", "person"]
    dataset = TaskDataset(data, "train")
    names = [Path(name).name for name in dataset.ids]
    assert names == ["y.png", "v0.png", "v1.png", "c.png", "b.png"]
    found = {
        name: sorted(zip(sample.boxes[:, 0].round().tolist(), sample.classes.tolist(), strict=True))
        for name, sample in ((name, dataset.load(i)) for i, name in enumerate(names))
    }
    assert found == {
        "y.png": [(1, 0), (2, 1)],
        "v0.png": [(3, 0)],
        "v1.png": [],
        "c.png": [(6, 1), (7, 0)],
        "b.png": [(8, 1)],
    }
    assert dataset.report.other_classes == 2 and dataset.report.listed == 5 and dataset.report.background == 1
    assert dataset.areas.tolist() == pytest.approx([200.0] * 6) and not dataset.crowd.any()
    assert TaskDataset(data.single_class(), "train").classes.tolist() == [0] * 6
    assert TaskDataset(data, "train", for_training=True).areas is None


def test_an_option_of_all_sources_is_for_those_whose_format_reads_it(root: Path) -> None:
    data = task(root, {"train": SOURCES[:2], "names": ["car", "person"], "options": {"one_based": True}})
    assert [source.options for source in data.sources["train"]] == [{"labels": "labels"}, {"one_based": True}]
    convert(["--data", str(root / "data.yaml"), "--split", "train", "--to", "coco", "--out", str(root / "out")])
    annotations = json.loads((root / "out/annotations/train.json").read_text())["annotations"]
    assert sorted(entry["bbox"][0] for entry in annotations) == pytest.approx([1, 2, 2])


def test_splits_need_not_be_of_one_format(root: Path) -> None:
    (root / "data.yaml").write_text(
        yaml.safe_dump({"path": str(root), "detect": {"train": SOURCES, "val": SOURCES[1], "names": ["car", "person"]}})
    )
    data = load_data_config(root / "data.yaml").tasks["detect"]
    assert open_split(data, "val").index.report.objects == 1 and data.sources["val"][0].format == "voc"


def test_one_map_serves_all_sources(root: Path) -> None:
    classes = {"vehicle": ["car", "truck", "Auto"], "walker": ["person", "pedestrian", "Mensch"]}
    dataset = TaskDataset(task(root, {"train": PLAIN, "classes": classes}), "train")
    assert dataset.names == ["vehicle", "walker"]
    assert np.bincount(dataset.classes).tolist() == [4, 3] and dataset.report.other_classes == 1


def test_a_source_is_read_again_when_its_files_change(root: Path) -> None:
    data = task(root, {"train": SOURCES[:2], "names": ["car", "person"]})
    assert open_split(data, "train").index.report.objects == 3
    (root / "voc/Annotations/v1.xml").unlink()
    report = open_split(data, "train").index.report
    assert report.listed == 3 and report.missing_labels == [str(root / "voc/JPEGImages/v1.png")]


def test_a_source_without_labels_is_a_warning_of_the_whole(root: Path) -> None:
    (root / "own/labels/y.txt").unlink()
    report = open_split(task(root, {"train": SOURCES[:2], "names": ["car", "person"]}), "train").index.report
    assert len(report.warnings) == 1 and "0 of 1 images of source 1 have labels; looked for" in str(report)


@pytest.mark.parametrize(
    ("sources", "more", "fault"),
    [
        ([SOURCES[1], {**SOURCES[1]}], {}, r"v0\.png is in source 1 and in source 2 of `detect\.train`; list every"),
        ([{**SOURCES[1], "label": "x"}], {}, r"unknown key `detect\.train\[0\]\.label`\. Did you mean 'labels'\?"),
        ([{"format": "voc"}], {}, r"`detect\.train\[0\]\.images` is missing"),
        ([{**SOURCES[1], "format": "vco"}], {}, r"`detect\.train\[0\]\.format` is 'vco'; .* Did you mean 'voc'\?"),
        (
            [{**SOURCES[0], "classes": {"cat": ["Auto"]}}],
            {},
            r"\[0\]\.classes` has 'cat', which is no class of the set",
        ),
        ([{**SOURCES[0], "classes": {"car": [2]}}], {}, r"\[0\]\.classes\.car` has 2, but the labels have 0\.\.1"),
        (
            [{"images": "own/images", "names": ["x"]}, SOURCES[1]],
            {},
            r"`detect\.train\[0\]\.names`: none of x is a class",
        ),
        ([{**SOURCES[1], "masks": "x"}], {}, r"`detect\.train\[0\]\.masks` is for segment, not for detect"),
        ([{**SOURCES[1], "annotations": "coco.json"}], {}, r"voc has one for each; give their folder as `labels`"),
        ([{**SOURCES[2], "annotations": None}], {}, r"`detect\.train\[0\]\.annotations` is missing; give the file"),
        ([*SOURCES[:1], 5], {}, r"`detect\.train` is .*; give folders, list files, or sources such as"),
        (
            PLAIN[2:],
            {"classes": {"car": ["truck", "lorry"]}},
            r"`detect\.classes\.car` has 'lorry', which is no class of any",
        ),
        (PLAIN[2:], {"classes": {"car": ["truck"], "van": ["truck"]}}, r"gives 'truck' to 'car' and to 'van'"),
        (SOURCES[1:2], {"names": None}, r"`detect\.names` is missing"),
        (SOURCES[:1], {"classes": ["car"]}, r"`detect\.classes` is \['car'\]; give lists by the name of a class"),
    ],
)
def test_mistakes_name_the_source(root: Path, sources: list[Any], more: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        open_split(task(root, {"train": sources, "names": ["car", "person"], **more}), "train")


def mask(root: Path, form: str, image: str, masks: str, values: np.ndarray, **classes: Any) -> None:
    """Write a grey picture and its mask."""
    file = root / image
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 9, np.uint8)).save(file)
    written = MASK_FORMATS[form]
    images = next(folder for folder in file.parents if folder.name in ("train", "images", "pictures"))
    place = written.mask_files(file, images, root / masks)[0]
    place.parent.mkdir(parents=True, exist_ok=True)
    written.write(place, values, MaskClasses(classes.pop("names", list(written.names)), **classes))


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """A picture each of Cityscapes, BDD100K, CamVid, a set of colours and one of indices; its mask is in halves."""
    road, car = cityscapes.NAMES.index("road"), cityscapes.NAMES.index("car")

    def halves(left: int, right: int) -> np.ndarray:
        return np.hstack([np.full((SIZE[0], 30), left, np.uint8), np.full((SIZE[0], 30), right, np.uint8)])

    names = list(MASK_FORMATS["camvid"].names)
    mask(tmp_path, "cityscapes", "city/leftImg8bit/train/ulm/u_leftImg8bit.png", "city/gtFine/train", halves(road, car))
    mask(tmp_path, "bdd100k", "bdd/images/b.png", "bdd/masks", halves(car, 255))
    mask(tmp_path, "camvid", "cam/pictures/c.png", "cam/marks", halves(names.index("Car"), names.index("Road")))
    colours = ((255, 0, 0), (0, 0, 255))
    mask(
        tmp_path,
        "mask_colour",
        "col/images/d.png",
        "col/masks",
        halves(1, 0),
        names=["street", "auto"],
        colours=colours,
    )
    mask(tmp_path, "mask_png", "idx/images/e.png", "idx/masks", halves(7, 3), names=[str(i) for i in range(9)])
    return tmp_path


STREETS: list[Any] = [
    {"images": "city/leftImg8bit/train", "format": "cityscapes"},
    {"images": "bdd/images", "format": "bdd100k", "masks": "bdd/masks"},
    {
        "images": "cam/pictures",
        "format": "camvid",
        "masks": "cam/marks",
        "classes": {"road": ["Road"], "car": ["Car", "SUVPickupTruck"]},
    },
    {
        "images": "col/images",
        "format": "mask_colour",
        "colours": {"street": [255, 0, 0], "auto": [0, 0, 255]},
        "classes": {"road": ["street"], "car": ["auto"]},
    },
    {"images": "idx/images", "classes": {"car": [3], "road": [6, 7]}},
]


def test_masks_of_five_formats_are_one_set(streets: Path) -> None:
    data = task(streets, {"train": STREETS, "names": ["car", "road"]}, "segment")
    for cache in (None, "ram"):
        dataset = TaskDataset(data, "train", cache_images=cache)
        dataset.reserve_memory(None)
        for _ in range(2):
            halves = [dataset.load(i).mask[0, [0, -1]].tolist() for i in range(len(dataset))]
            assert halves == [[1, 0], [0, 255], [0, 1], [0, 1], [1, 0]]


def test_classes_of_a_format_need_not_be_written(streets: Path) -> None:
    data = task(streets, {"train": STREETS[:2]}, "segment")
    assert data.names == cityscapes.NAMES
    assert TaskDataset(data, "train").load(1).mask[0, [0, -1]].tolist() == [cityscapes.NAMES.index("car"), 255]
    single = task(
        streets, {"train": "city/leftImg8bit/train", "format": "cityscapes", "names": ["car", "road"]}, "segment"
    )
    assert TaskDataset(single, "train").load(0).mask[0, [0, -1]].tolist() == [1, 0]


def test_other_values_of_masks_are_ignored_or_the_rest(streets: Path) -> None:
    block = {"train": "idx/images", "masks": "idx/masks"}
    ignored = TaskDataset(task(streets, {**block, "classes": {"a": [7]}}, "segment"), "train")
    assert ignored.names == ["a"] and ignored.load(0).mask[0, [0, -1]].tolist() == [0, 255]
    rest = TaskDataset(task(streets, {**block, "classes": {"a": "rest", "b": 7}, "ignore": 9}, "segment"), "train")
    assert rest.load(0).mask[0, [0, -1]].tolist() == [1, 0]


def test_colours_may_lie_in_a_file_of_the_set(streets: Path) -> None:
    (streets / "col/colours.txt").write_text("255 0 0 street\n0 0 255 auto\n")
    block = {"train": "col/images", "format": "mask_colour", "colours": "col/colours.txt"}
    data = task(streets, block, "segment")
    assert data.names == ["street", "auto"]
    assert TaskDataset(data, "train").load(0).mask[0, [0, -1]].tolist() == [1, 0]
    (streets / "col/colours.txt").write_text("255 0 0 street\n0 255 0 auto\n")
    with pytest.raises(DataError, match=r"d\.png: the mask has the colour 0 0 255"):
        open_split(task(streets, block, "segment"), "train")


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ({"format": "mask_colour"}, r"`segment\.colours` is missing; give red, green, blue"),
        (
            {"format": "mask_colour", "colours": {"a": [1, 2]}},
            r"`segment\.colours` holds \[1, 2\]; give red, green, blue",
        ),
        ({"format": "mask_colour", "colours": {"a": [1, 2, 3], "b": [1, 2, 3]}}, r"'a' and 'b' have the colour 1 2 3"),
        (
            {"format": "mask_colour", "colours": [[1, 2, 3]], "names": ["a", "b"]},
            r"has 1 entries, but .* has 2; give one",
        ),
        ({"colours": {"a": [1, 2, 3]}, "names": ["a"]}, r"`segment\.colours` is for `format: mask_colour`"),
        ({"format": "citiscapes"}, r"`segment\.format` is 'citiscapes'; .* Did you mean 'cityscapes'\?"),
        ({"format": "bdd100k", "names": ["raod"]}, r"'raod', which is no class of bdd100k; .* Did you mean 'road'\?"),
        ({"classes": {"a": [255]}}, r"`segment\.classes\.a` has 255, but the labels have 0\.\.254"),
    ],
)
def test_mistakes_in_blocks_of_masks(streets: Path, block: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        task(streets, {"train": "col/images", **block}, "segment")
