"""Every format of the registry is examined where it is used directly: clean as it is, and broken in one file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data import split_index
from data.annotations import AnnotatedPicture, ClassList, MaskClasses, make_objects
from data.checks.examination import examine
from data.config import load_data_config
from data.formats.registry import MASK_FORMATS, PICTURE_FORMATS, SPLIT_FORMATS
from utils.errors import DataError

NAMES = ["rider", "car"]
HEIGHT, WIDTH = 64, 96
COLOURS = ((0, 0, 0), (200, 0, 0), (0, 200, 0))


def write_pictures(root: Path, form: str) -> dict[str, list[AnnotatedPicture]]:
    """Write three pictures per split, each with a rider and a car, and return them."""
    ending = "_leftImg8bit" if form == "cityscapes" else ""
    rng, found = np.random.default_rng(3), {}
    for split in ("train", "val"):
        folder = root / "images" / split / "town"
        folder.mkdir(parents=True)
        found[split] = []
        for i in range(3):
            file = folder / f"{split}_{i}{ending}.png"
            cv2.imwrite(str(file), rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
            boxes = np.array([[5, 5 + i, 30, 40], [40, 20, 80, 50 + i]], np.float64)
            outlines = [[box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)] for box in boxes]
            picture = AnnotatedPicture(file, f"town/{file.name}", (HEIGHT, WIDTH), make_objects(NAMES, boxes, outlines))
            found[split].append(picture)
    return found


@pytest.fixture
def require_clean(monkeypatch):
    """Make sure that nothing is found in a set, and that what was read of it is what a training reads."""
    # Kept scans would be findings once a test breaks the set.
    monkeypatch.setattr(split_index, "save_index", lambda *_: None)

    def require(yaml: Path) -> None:
        result = examine(load_data_config(yaml, splits=()))
        assert result.findings == []
        for (key, split), facts in result.facts.items():
            index = split_index.open_split(result.config.tasks[key], split).index
            assert len(index.kept) == len(facts.images) and np.array_equal(index.sizes, facts.sizes)
            for name in ("offsets", "classes", "boxes") if facts.pixels is None else ():
                assert np.array_equal(getattr(index, name), getattr(facts, name))

    return require


def findings(yaml: Path) -> list[tuple[str, str]]:
    result = examine(load_data_config(yaml, splits=()))
    return [(finding.check, finding.sentence) for finding in result.findings]


@pytest.mark.parametrize("name", PICTURE_FORMATS)
def test_one_label_file_per_picture(tmp_path, require_clean, name):
    form = PICTURE_FORMATS[name]
    files = []
    for split, pictures in write_pictures(tmp_path, name).items():
        images = tmp_path / "images" / split
        for picture in pictures:
            files.append(form.label_file(picture.image, images, tmp_path / "labels" / split))
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            form.write(files[-1], picture, ClassList(NAMES))
    yaml = tmp_path / "set.yaml"
    labels = "" if name == "yolo" else "labels: {train: labels/train, val: labels/val}, "
    names = "" if form.names else f"names: [{', '.join(NAMES)}], "
    classes = "classes: {rider: rider, car: car}, " if form.names else ""
    yaml.write_text(f"detect: {{train: images/train, val: images/val, {labels}{names}{classes}format: {name}}}\n")
    require_clean(yaml)
    files[1].write_bytes(b"{<")
    files[3].unlink()
    broken, missing = findings(yaml)
    assert broken[0] == "label-refused" and str(files[1]) in broken[1]
    assert missing[0] == ("label-missing" if name == "yolo" else "label-absent")
    assert "detect val: 1 of 3 images have no label file" in missing[1] and "val_0" in missing[1]


def test_pictures_that_training_cannot_use_are_no_background_and_sizes_of_voc_files_are_held_against_them(tmp_path):
    form = PICTURE_FORMATS["voc"]
    for split, pictures in write_pictures(tmp_path, "voc").items():
        files = [tmp_path / f"labels/{split}/town/{picture.image.stem}.xml" for picture in pictures]
        files[0].parent.mkdir(parents=True)
        for file, picture in zip(files, pictures, strict=True):
            form.write(file, picture, ClassList(NAMES))
    text = files[0].read_text()
    files[0].write_text(text.replace(f"<width>{WIDTH}<", f"<width>{2 * WIDTH}<"))
    yaml = tmp_path / "set.yaml"
    folders = "{train: labels/train, val: labels/val}"
    yaml.write_text(
        f"detect: {{train: images/train, val: images/val, labels: {folders}, names: [rider, car], format: voc}}\n"
    )
    assert findings(yaml) == [("image-size", f"{pictures[0].image}: has another size than {files[0]} says")]
    report = split_index.open_split(load_data_config(yaml).tasks["detect"], "val").index.report
    assert f"1 images of another size than annotated ({pictures[0].image})" in str(report)
    files[0].unlink()
    files[1].write_text("<")
    result = examine(load_data_config(yaml, splits=()))
    figures = result.statistics["detect val"]
    assert (figures["images"], figures["usable"], figures["background"]) == (3, 1, 0)
    assert [finding.check for finding in result.findings] == ["label-refused", "label-absent", "cache-stale"]


def test_refused_annotations_of_a_file_that_names_its_classes_itself_are_all_named(tmp_path):
    for split, pictures in write_pictures(tmp_path, "coco").items():
        SPLIT_FORMATS["coco"].write(tmp_path / f"{split}.json", pictures, ClassList(NAMES))
    content = json.loads((tmp_path / "train.json").read_text())
    first, second, *_ = content["annotations"]
    first["bbox"], second["category_id"] = ["a", 1, 2, 3], 99
    (tmp_path / "train.json").write_text(json.dumps(content))
    yaml = tmp_path / "set.yaml"
    yaml.write_text("detect: {train: images/train, val: images/val, annotations: {train: train.json, val: val.json}}\n")
    wrong_box, wrong_class = findings(yaml)
    assert f"annotation {first['id']} has the bbox" in wrong_box[1]
    assert f"annotation {second['id']} is of category 99" in wrong_class[1]
    with pytest.raises(DataError, match="is of category 99"):
        split_index.open_split(load_data_config(yaml).tasks["detect"], "train")


@pytest.mark.parametrize("name", SPLIT_FORMATS)
def test_one_file_for_all_pictures(tmp_path, require_clean, name):
    form = SPLIT_FORMATS[name]
    for split, pictures in write_pictures(tmp_path, name).items():
        form.write(tmp_path / f"{split}.json", pictures, ClassList(NAMES))
    yaml = tmp_path / "set.yaml"
    names = "classes: {rider: rider, car: car}" if form.names else f"names: [{', '.join(NAMES)}]"
    yaml.write_text(
        "detect:\n  train: images/train\n  val: images/val\n  annotations: {train: train.json, val: val.json}\n"
        f"  format: {name}\n  {names}\n"
    )
    require_clean(yaml)
    (tmp_path / "images/val/town/val_1.png").unlink()
    (tmp_path / "train.json").write_text("{<")
    refused, missing = findings(yaml)
    assert refused[0] == "split-unusable" and "train.json" in refused[1]
    assert missing[0] == "image-missing" and "val_1.png" in missing[1]


@pytest.mark.parametrize("name", MASK_FORMATS)
def test_masks(tmp_path, require_clean, name):
    form = MASK_FORMATS[name]
    names = list(form.names) or ["ground", "red", "green"]
    classes = MaskClasses(names, COLOURS[: len(names)] if not form.names else ())
    rng, files = np.random.default_rng(4), []
    for split, pictures in write_pictures(tmp_path, name).items():
        for picture in pictures:
            place = form.mask_files(picture.image, tmp_path / "images" / split, tmp_path / "masks" / split)[0]
            place.parent.mkdir(parents=True, exist_ok=True)
            form.write(place, rng.integers(0, len(names), (HEIGHT, WIDTH)).astype(np.uint8), classes)
            files.append(place)
    yaml = tmp_path / "set.yaml"
    own = "" if form.names else f"  names: {names}\n"
    if name == "mask_colour":
        own += f"  colours: {[list(colour) for colour in COLOURS]}\n"
    yaml.write_text(
        "segment:\n  train: images/train\n  val: images/val\n  masks: {train: masks/train, val: masks/val}\n"
        f"  format: {name}\n{own}"
    )
    require_clean(yaml)
    files[1].write_bytes(files[1].read_bytes()[:40])
    files[3].unlink()
    broken, missing = findings(yaml)
    assert broken[0] == "mask-refused" and str(files[1]) in broken[1]
    assert missing[0] == "mask-missing" and "val_0" in missing[1]


def test_shares_are_of_the_pixels_that_count(tmp_path):
    for split, pictures in write_pictures(tmp_path, "mask_png").items():
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[:10, :30], mask[10:20, :10] = 0, 1
        for picture in pictures:
            file = tmp_path / f"masks/{split}/town/{picture.image.name}"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), mask)
    yaml = tmp_path / "set.yaml"
    yaml.write_text("segment: {train: images/train, val: images/val, masks: masks, names: [road, car]}\n")
    result = examine(load_data_config(yaml, splits=()))
    assert result.statistics["segment val"]["classes"] == {
        "road": {"share": 0.75, "images": 3},
        "car": {"share": 0.25, "images": 3},
    }


def test_shapes_that_are_no_objects_are_counted(tmp_path):
    pictures = write_pictures(tmp_path, "labelme")
    form = PICTURE_FORMATS["labelme"]
    for own in pictures.values():
        for picture in own:
            form.write(picture.image.with_suffix(".json"), picture, ClassList(NAMES))
    file = pictures["val"][1].image.with_suffix(".json")
    content = json.loads(file.read_text())
    circle = {"label": "rider", "shape_type": "circle", "points": [[9, 9], [12, 9]], "group_id": None, "flags": {}}
    content["shapes"].append(circle)
    file.write_text(json.dumps(content))
    yaml = tmp_path / "set.yaml"
    yaml.write_text("detect: {train: images/train, val: images/val, names: [rider, car], format: labelme}\n")
    [(check, sentence)] = findings(yaml)
    assert check == "label-left-out" and sentence.startswith("detect val: 1 circle")


def test_a_class_that_is_misspelt_is_named_with_what_its_objects_are_called(tmp_path):
    form = PICTURE_FORMATS["voc"]
    for split, pictures in write_pictures(tmp_path, "voc").items():
        for picture in pictures:
            file = form.label_file(picture.image, tmp_path / "images" / split, tmp_path / "labels" / split)
            file.parent.mkdir(parents=True, exist_ok=True)
            form.write(file, picture, ClassList(NAMES))
    yaml = tmp_path / "set.yaml"
    yaml.write_text(
        "detect: {train: images/train, val: images/val, labels: {train: labels/train, val: labels/val}, "
        "names: [rider, caar], format: voc}\n"
    )
    untrained, in_train, in_val = findings(yaml)
    assert untrained == ("class-untrained", "'caar' has no objects in detect train")
    assert in_train == (
        "class-left-out",
        "detect train: objects called 'car', which are left out: 3. Did you mean 'caar'?",
    )
    assert in_val[0] == "class-left-out" and in_val[1].startswith("detect val")


def test_sources_of_a_mixed_split_are_one_set(tmp_path, require_clean):
    """A picture of one source that another split has is found, as is a broken label of either source."""
    for part, name in (("first", "yolo"), ("second", "voc")):
        root, form = tmp_path / part, PICTURE_FORMATS[name]
        for split, pictures in write_pictures(root, name).items():
            for picture in pictures:
                file = form.label_file(picture.image, root / "images" / split, root / "labels" / split)
                file.parent.mkdir(parents=True, exist_ok=True)
                form.write(file, picture, ClassList(NAMES))
    for i in range(3):
        # The two parts would hold the same pictures otherwise.
        for split in ("train", "val"):
            (tmp_path / f"second/images/{split}/town/{split}_{i}.png").write_bytes(
                cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 40 * i + len(split), np.uint8))[1].tobytes()
            )
    yaml = tmp_path / "set.yaml"
    sources = "".join(
        f"  {split}:\n    - {{images: first/images/{split}, names: [rider, car]}}\n"
        f"    - {{images: second/images/{split}, labels: second/labels/{split}, format: voc}}\n"
        for split in ("train", "val")
    )
    yaml.write_text(f"detect:\n  names: [rider, car]\n{sources}")
    require_clean(yaml)
    (tmp_path / "second/labels/val/town/val_2.xml").write_text("<")
    (tmp_path / "first/labels/val/town/val_2.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    first, second = findings(yaml)
    assert [first[0], second[0]] == ["label-refused"] * 2
    assert "val_2.txt:1: class 9" in first[1] and "val_2.xml" in second[1]
