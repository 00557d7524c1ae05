"""Labels of every format used without conversion: the same index, the same training, sources, maps of classes."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data.annotations import AnnotatedPicture, ClassList, make_objects
from data.config import load_data_config
from data.convert.__main__ import main as convert
from data.formats.registry import PICTURE_FORMATS, SPLIT_FORMATS
from data.split_index import open_split
from data.task_data import TaskData
from train import main as train
from utils.errors import DataError

NAMES = ["car", "pedestrian", "traffic light"]
CLASSES = ClassList(NAMES)
SPLITS = ("train", "val")


def pictures(root: Path, split: str, count: int = 4, seed: int = 0) -> list[AnnotatedPicture]:
    """Return pictures of odd sizes with boxes at odd places, some over the edge, one picture without any."""
    rng = np.random.default_rng([seed, len(split)])
    found = []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(61, 101, 2))
        file = root / "images" / split / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(file)
        corners = rng.integers(-5, 40, (0 if number == 1 else 3, 2))
        boxes = np.hstack([corners, corners + rng.integers(12, 70, corners.shape)]).astype(float)
        objects = make_objects([NAMES[i] for i in rng.integers(0, 3, len(boxes))], boxes)
        found.append(AnnotatedPicture(file, file.name, (height, width), objects))
    return found


def write_labels(root: Path, split: str, annotated: list[AnnotatedPicture]) -> None:
    """Write the labels of a split in every format of objects."""
    images = root / "images" / split
    for name, form in PICTURE_FORMATS.items():
        for picture in annotated:
            place = form.label_file(picture.image, images, root / name / split)
            place.parent.mkdir(parents=True, exist_ok=True)
            names = ["person" if n == "pedestrian" and name == "cityscapes" else n for n in picture.objects.names]
            form.write(place, replace(picture, objects=replace(picture.objects, names=names)), CLASSES)
    for name, form in SPLIT_FORMATS.items():
        form.write(root / f"{name}_{split}.json", annotated, CLASSES)


@pytest.fixture(scope="module")
def every_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose labels lie beside each other in all formats of objects."""
    root = tmp_path_factory.mktemp("direct")
    for split in SPLITS:
        write_labels(root, split, pictures(root, split))
    return root


def task(root: Path, name: str = "detect", **block: object) -> TaskData:
    """Return the data of a block of one task, with the splits train and val below ``images`` unless it says others."""
    splits = {split: f"images/{split}" for split in SPLITS}
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(root), name: {**splits, **block}}, sort_keys=False))
    return load_data_config(file).tasks[name]


def block_of(form: str) -> dict[str, object]:
    """Return the keys that read a format from ``every_format``."""
    if form in SPLIT_FORMATS:
        return {"format": form, "names": NAMES, "annotations": {split: f"{form}_{split}.json" for split in SPLITS}}
    if form == "yolo":
        return {"names": NAMES, "labels": "yolo"}
    places = {"format": form, "labels": {split: f"{form}/{split}" for split in SPLITS}}
    if form == "labelme":
        # One folder with a folder for each split.
        places["labels"] = form
    if form == "cityscapes":
        # Its word for people is another one, and so is the order of its classes.
        return places | {"classes": {"car": "car", "pedestrian": ["person"], "traffic light": ["traffic light"]}}
    return places | {"names": NAMES}


@pytest.mark.parametrize("form", [*PICTURE_FORMATS, *SPLIT_FORMATS])
def test_every_format_gives_the_index_of_the_converted_labels(every_format: Path, form: str) -> None:
    converted, direct = task(every_format, **block_of("yolo")), task(every_format, **block_of(form))
    assert direct.names == NAMES
    for split in SPLITS:
        expected, found = open_split(converted, split).index, open_split(direct, split).index
        for part in ("kept", "sizes", "offsets", "classes", "boxes", "keypoints"):
            first, second = getattr(expected, part), getattr(found, part)
            assert first.dtype == second.dtype and first.tobytes() == second.tobytes(), part
        assert found.report.objects == expected.report.objects == 9
        again = open_split(direct, split).index
        assert again.boxes.tobytes() == found.boxes.tobytes() and again.report == found.report


def test_classes_are_joined_and_dropped_by_name(every_format: Path) -> None:
    yolo, voc, coco, labelme = (open_split(task(every_format, **block_of(form)), "train").index for form in FOUR)
    counts = np.bincount(yolo.classes, minlength=3)
    maps = {"thing": ["car", "traffic light"], "walker": "pedestrian"}
    joined = [open_split(mapped(every_format, form, maps), "train").index for form in FOUR]
    dropped = [open_split(mapped(every_format, form, {"walker": ["pedestrian"]}), "train").index for form in FOUR]
    for index in joined:
        assert index.classes.tolist() == np.array([0, 1, 0])[yolo.classes].tolist()
        assert index.report.other_classes == 0
    for index in dropped:
        assert index.boxes.tobytes() == yolo.boxes[yolo.classes == 1].tobytes()
        assert index.report.other_classes == counts[0] + counts[2]
        assert "annotations of other categories left out" in str(index.report)
    rest = open_split(mapped(every_format, "voc", {"walker": ["pedestrian"], "other": ["rest"]}), "train").index
    assert rest.classes.tolist() == np.array([1, 0, 1])[yolo.classes].tolist()
    assert voc.report.objects == coco.report.objects == labelme.report.objects == counts.sum()


FOUR = ("yolo", "voc", "coco", "labelme")


def mapped(root: Path, form: str, classes: dict[str, object]) -> TaskData:
    """Return the data of a format with a map of classes; only the indices of YOLO files need names."""
    block = {key: value for key, value in block_of(form).items() if key != "names" or form == "yolo"}
    data = task(root, **block, classes=classes)
    assert data.names == list(classes)
    return data


def test_keypoints_are_the_same_in_every_format_that_has_them(tmp_path: Path) -> None:
    listed = ClassList(["crane"], ("hook", "tip"))
    picture = pictures(tmp_path, "train", count=1)[0]
    height, width = picture.size
    # In YOLO files and COCO's a keypoint without visibility has no place.
    keypoints = np.array([[[5, 6, 2], [0, 0, 0]], [[7, 9, 1], [width, height, 2]], [[0, 0, 0], [0, 0, 0]]], float)
    objects = make_objects(["crane"] * 3, picture.objects.boxes, keypoints=keypoints)
    marked = replace(picture, objects=objects)
    block = {"train": "images/train", "val": None, "kpt": {"names": list(listed.keypoints)}, "names": ["crane"]}
    found = {}
    for form in ("yolo", "labelme"):
        place = PICTURE_FORMATS[form].label_file(picture.image, tmp_path / "images/train", tmp_path / form / "train")
        place.parent.mkdir(parents=True)
        PICTURE_FORMATS[form].write(place, marked, listed)
        labels = form if form == "yolo" else f"{form}/train"
        found[form] = open_split(task(tmp_path, "pose", **block, format=form, labels=labels), "train").index
    SPLIT_FORMATS["coco"].write(tmp_path / "coco.json", [marked], listed)
    coco = task(tmp_path, "pose", **block, annotations={"train": "coco.json"})
    found["coco"] = open_split(coco, "train").index
    for index in found.values():
        assert index.keypoints.tobytes() == found["yolo"].keypoints.tobytes()
        assert index.boxes.tobytes() == found["yolo"].boxes.tobytes() and index.report.with_keypoints == 2
    # Names in another order: labelme's files have names themselves, and a kept scan must not stand for them.
    block["kpt"] = {"names": ["tip", "hook"]}
    turned = open_split(task(tmp_path, "pose", **block, format="labelme", labels="labelme/train"), "train").index
    assert turned.keypoints.tobytes() == np.ascontiguousarray(found["labelme"].keypoints[:, ::-1]).tobytes()
    with pytest.raises(
        DataError, match=r"`pose\.kpt\.names` has the names in another order than .*coco\.json, .* hook, tip"
    ):
        task(tmp_path, "pose", **block, annotations={"train": "coco.json"})


def test_files_of_a_whole_split_are_read_once(every_format: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = task(every_format, **block_of("bdd100k"))
    first = open_split(data, "val")
    monkeypatch.setattr(SPLIT_FORMATS["bdd100k"], "read", lambda *_: pytest.fail("read again"))
    again = open_split(data, "val")
    assert again.images == first.images and again.index.boxes.tobytes() == first.index.boxes.tobytes()


def test_a_listed_picture_that_comes_later_is_found(tmp_path: Path) -> None:
    first, second = pictures(tmp_path, "train", count=2)
    SPLIT_FORMATS["bdd100k"].write(tmp_path / "labels.json", [first, second], CLASSES)
    (tmp_path / "more").mkdir()
    second.image.rename(tmp_path / "later.png")
    block = {
        "train": ["images/train", "more"],
        "val": None,
        "format": "bdd100k",
        "annotations": {"train": "labels.json"},
    }
    assert len(open_split(task(tmp_path, **block), "train").index.kept) == 1
    (tmp_path / "later.png").rename(tmp_path / "more" / second.image.name)
    assert len(open_split(task(tmp_path, **block), "train").index.kept) == 2


def test_one_class_for_all_and_a_map_go_together(every_format: Path) -> None:
    data = mapped(every_format, "voc", {"a": ["car"], "b": ["pedestrian"]}).single_class()
    index = open_split(data, "train").index
    assert data.names == ["item"] and set(index.classes.tolist()) == {0}
    assert index.report.other_classes > 0


def test_names_that_nothing_has(every_format: Path) -> None:
    places = {"format": "voc", "labels": {split: f"voc/{split}" for split in SPLITS}}
    with pytest.raises(DataError, match=r"no class of the 9 objects of detect train, .*'car'.*Did you mean 'car'\?"):
        open_split(task(every_format, **places, names=["CAR"]), "train")
    report = open_split(task(every_format, **places, names=["car", "pedestrians"]), "train").index.report
    assert report.warnings == ["no object is called 'pedestrians'. Did you mean 'pedestrian'?"]


def test_pictures_without_a_label_file_are_left_out_and_named(every_format: Path, tmp_path: Path) -> None:
    data = task(every_format, format="voc", names=NAMES, labels=str(tmp_path))
    report = open_split(data, "train").index.report
    assert len(report.missing_labels) == 4 and report.usable == 0
    with pytest.raises(DataError, match=r"none of the 4 images has a label file .looked for .*; put the files there"):
        report.require_usable()


def test_voc_lists_name_pictures_without_suffix(tmp_path: Path) -> None:
    annotated = pictures(tmp_path, "train")
    (tmp_path / "images/train").rename(tmp_path / "JPEGImages")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    for picture in annotated:
        PICTURE_FORMATS["voc"].write(tmp_path / f"Annotations/{picture.image.stem}.xml", picture, CLASSES)
    (tmp_path / "ImageSets/Main/train.txt").write_text("2\n0 1\ngone\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("../../secret\n")
    splits = {split: f"ImageSets/Main/{split}.txt" for split in SPLITS}
    data = task(tmp_path, format="voc", names=NAMES, **splits)
    opened = open_split(data, "train")
    assert [Path(image).stem for image in opened.images] == ["2", "0", "gone"]
    assert opened.index.report.objects == 6 and len(opened.index.report.corrupt) == 1
    with pytest.raises(DataError, match=r"val\.txt: names '\.\./\.\./secret', which is not below .*JPEGImages; remove"):
        open_split(data, "val")


def test_difficult_objects_may_be_left_out(tmp_path: Path) -> None:
    picture = pictures(tmp_path, "train", count=1)[0]
    marked = replace(picture, objects=replace(picture.objects, difficult=np.array([False, True, False])))
    for form in ("voc", "labelme"):
        place = PICTURE_FORMATS[form].label_file(picture.image, tmp_path / "images/train", tmp_path / form)
        place.parent.mkdir()
        PICTURE_FORMATS[form].write(place, marked, CLASSES)
        block = {"train": "images/train", "val": None, "format": form, "labels": form, "names": NAMES}
        assert open_split(task(tmp_path, **block), "train").index.report.objects == 3
        report = open_split(task(tmp_path, **block, options={"drop_difficult": True}), "train").index.report
        assert report.objects == 2 and "1 difficult objects left out" in str(report)


def test_corners_counted_from_one(every_format: Path) -> None:
    places = {"format": "voc", "labels": {split: f"voc/{split}" for split in SPLITS}, "names": NAMES}
    edges = open_split(task(every_format, **places), "train").index
    pixels = open_split(task(every_format, **places, options={"one_based": True}), "train").index
    sizes = np.repeat(edges.sizes, np.diff(edges.offsets), axis=0)
    inner = edges.boxes[:, 0] > 0
    moved = (edges.boxes[:, 0] - pixels.boxes[:, 0]) * sizes[:, 1]
    assert inner.any() and np.allclose(moved[inner], 1, atol=1e-4)
    assert np.array_equal(edges.boxes[:, 2:], pixels.boxes[:, 2:])


def test_training_on_any_format_is_training_on_the_converted_labels(
    every_format: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "detector.yaml"
    model.write_text(tiny_model.read_text().replace("  - [[2], 1, SegMaskBase, [n_segcls, 1, 64, False]]\n", ""))
    task(every_format, **block_of("voc"))
    convert(f"--data {every_format}/data.yaml --to yolo --out {tmp_path}/as_yolo".split())
    losses = {}
    for form in ("voc", "coco", "converted"):
        data = every_format / "data.yaml"
        if form == "converted":
            data = tmp_path / "as_yolo/as_yolo.yaml"
        else:
            task(every_format, **block_of(form))
        train(
            f"--cfg {model} --data {data} --epochs 1 --batch-size 2 --img-size 64 --workers 0 "
            f"--device cpu --dtype float32 --seed 3 --noautoanchor --noplots --noval --project {tmp_path} "
            f"--name {form}".split()
        )
        with (tmp_path / form / "results.csv").open() as file:
            losses[form] = [
                {name: float(value) for name, value in row.items() if name.startswith("train/")}
                for row in csv.DictReader(file)
            ]
    assert len(losses["converted"][0]) == 3 and all(value > 0 for value in losses["converted"][0].values())
    assert losses["voc"] == losses["converted"] and losses["coco"] == losses["converted"]
