"""Each planted fault is found, with its file, and nothing else is; a clean set has no finding at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.checks.examination import Examination, examine
from data.checks.finding import CHECKS
from data.config import load_data_config
from tests.data.doctor.sets import edit_json, write_clean_set, write_coco_set


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of boxes and masks without a fault."""
    return write_clean_set(tmp_path_factory.mktemp("doctor") / "clean")


@pytest.fixture(scope="module")
def clean_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO set of poses without a fault."""
    return write_coco_set(tmp_path_factory.mktemp("doctor") / "coco")


def examined(yaml: Path, **options) -> Examination:
    return examine(load_data_config(yaml, splits=()), **options)


def copied(yaml: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(yaml.parent, tmp_path / "set")) / yaml.name


IMAGE = "images/train/002.png"
LABEL = "labels/train/002.txt"
MASK = "masks/train/002.png"


def append(*rows: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        path = root / LABEL
        path.write_text(path.read_text() + "".join(f"{row}\n" for row in rows))

    return plant


def write(file: str, data: bytes) -> Callable[[Path], None]:
    return lambda root: (root / file).write_bytes(data) and None


def copy(source: str, target: str) -> Callable[[Path], None]:
    return lambda root: shutil.copyfile(root / source, root / target) and None


def cut(file: str) -> Callable[[Path], None]:
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:-30]) and None


def mask(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        cv2.imwrite(str(root / MASK), change(cv2.imread(str(root / MASK), cv2.IMREAD_UNCHANGED)))

    return plant


def list_missing(root: Path) -> None:
    names = [path.name for path in sorted((root / "images/train").iterdir())]
    (root / "train.txt").write_text("".join(f"images/train/{name}\n" for name in [*names, "gone.png"]))
    replace(root, "detect: {train: images/train,", "detect: {train: train.txt,")


def replace(root: Path, old: str, new: str) -> None:
    path = root / "tiny.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def share_label(root: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(root / "images/train/002.bmp"), picture)


def second_class(root: Path) -> None:
    first = (root / LABEL).read_text().splitlines()[0]
    append(f"2{first[1:]}")(root)


def palette(root: Path) -> None:
    picture = Image.fromarray(np.array(Image.open(root / MASK)), mode="P")
    picture.putpalette([value for i in range(256) for value in (i, 255 - i, 7 * i % 256)])
    picture.save(root / MASK)


def long_picture(root: Path) -> None:
    picture = np.random.default_rng(2).integers(0, 255, (20, 400, 3), dtype=np.uint8)
    cv2.imwrite(str(root / "images/train/strip.png"), picture)
    cv2.imwrite(str(root / "masks/train/strip.png"), np.ones((20, 400), np.uint8))
    (root / "labels/train/strip.txt").write_text("0 0.5 0.5 0.2 0.9\n")


def no_blue(split: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        for path in (root / "labels" / split).iterdir():
            path.write_text("".join(f"{row}\n" for row in path.read_text().splitlines() if row[0] != "2"))

    return plant


def no_labels(root: Path) -> None:
    for path in (root / "labels/train").iterdir():
        path.write_text("")


def similar(split: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        picture = cv2.imread(str(root / IMAGE))
        cv2.imwrite(str(root / f"images/{split}/again.bmp"), picture)
        cv2.imwrite(str(root / f"masks/{split}/again.png"), np.ones(picture.shape[:2], np.uint8))
        (root / f"labels/{split}/again.txt").write_text("0 0.5 0.5 0.2 0.4\n")

    return plant


def many_backgrounds(root: Path) -> None:
    for i in range(4):
        (root / f"labels/train/00{i}.txt").write_text("")


@dataclass(frozen=True)
class Fault:
    """A fault, the checks that find it and nothing else, and a text that one of its sentences holds."""

    plant: Callable[[Path], None]
    checks: set[str]
    text: str
    near: bool = False


FAULTS = {
    "listed image that is not there": Fault(list_missing, {"image-missing"}, "gone.png"),
    "image of zero bytes": Fault(write(IMAGE, b""), {"image-unreadable"}, f"{IMAGE}: the image has zero bytes"),
    "image cut off": Fault(cut(IMAGE), {"image-unreadable"}, IMAGE),
    "image that is a text": Fault(write(IMAGE, b"hello" * 9), {"image-unreadable"}, IMAGE),
    "image twice": Fault(
        copy(IMAGE, "images/train/copy.png"),
        {"image-duplicate", "label-missing", "mask-missing"},
        "train/copy.png hold the same bytes",
    ),
    "leak from train to val": Fault(
        copy(IMAGE, "images/val/004.png"), {"split-leak"}, "val/004.png: val has it, and train has it as"
    ),
    "leak in other bytes": Fault(similar("val"), {"split-near-leak"}, "val/again.bmp: looks like", near=True),
    "image again in other bytes": Fault(
        similar("train"), {"image-near-duplicate"}, "train/again.bmp: looks like", near=True
    ),
    "class out of range": Fault(append("3 0.5 0.5 0.2 0.2"), {"label-refused"}, f"{LABEL}:4: class 3 is out of range"),
    "coordinate out of range": Fault(append("0 0.5 1.5 0.2 0.2"), {"label-refused"}, f"{LABEL}:4: coordinate 1.5"),
    "wrong number of columns": Fault(append("0 0.5 0.5 0.2"), {"label-refused"}, f"{LABEL}:4: the row has 4 columns"),
    "not a number": Fault(append("0 0.5 0.5 nan 0.2"), {"label-refused"}, f"{LABEL}:4: the row holds nan"),
    "label file that is no text": Fault(write(LABEL, b"\xff\xfe\x00\x80"), {"label-refused"}, f"{LABEL}: not a text"),
    "box without area": Fault(append("0 0.5 0.5 0.2 0"), {"label-degenerate"}, "002.txt (002.png): an object has no"),
    "row twice": Fault(
        append("0 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2 0.2"), {"label-duplicate"}, "002.txt (002.png): an object repeats"
    ),
    "box with two classes": Fault(second_class, {"label-conflict"}, f"{IMAGE}: 1 box that another class has"),
    "label file without image": Fault(
        write("labels/train/ghost.txt", b"0 0.5 0.5 0.2 0.2\n"), {"label-orphan"}, "train/ghost.txt: no image"
    ),
    "two images with one label file": Fault(share_label, {"label-shared"}, "002.bmp"),
    "tiny box": Fault(append("0 0.5 0.5 0.002 0.002"), {"box-tiny"}, f"{IMAGE}: 1 box with a side below 2 pixels"),
    "huge box": Fault(append("0 0.5 0.5 1 1"), {"box-huge"}, f"{IMAGE}: 1 box of at least 98%"),
    "class that training never shows": Fault(
        no_blue("train"), {"class-untrained"}, "'blue' has no objects in detect train"
    ),
    "class that validation never shows": Fault(
        no_blue("val"), {"class-unmeasured"}, "'blue' has no objects in detect val"
    ),
    "mostly background": Fault(many_backgrounds, {"background-many"}, "detect train: 4 of 6 images have no object"),
    "image without label file": Fault(
        lambda root: (root / LABEL).unlink(), {"label-missing"}, "1 of 6 images have no label file"
    ),
    "split without objects": Fault(no_labels, {"labels-none"}, "detect train: 0 of 6 images have an object"),
    "split without folder": Fault(
        lambda root: replace(root, "train: images/train", "train: images/trian"), {"split-unusable"}, "images/trian"
    ),
    "mask missing": Fault(lambda root: (root / MASK).unlink(), {"mask-missing"}, f"{IMAGE}: has no mask"),
    "mask value without class": Fault(
        mask(lambda pixels: np.where(pixels == 1, 9, pixels)), {"mask-value"}, f"{MASK}: the mask holds the value 9"
    ),
    "mask of another size": Fault(mask(lambda pixels: pixels[:32]), {"mask-size"}, f"{MASK}: 96x32, but"),
    "mask with colours": Fault(
        mask(lambda pixels: cv2.merge([pixels] * 3)), {"mask-refused"}, f"{MASK}: the mask has colour"
    ),
    "mask cut off": Fault(cut(MASK), {"mask-refused"}, f"{MASK}: the mask is corrupt"),
    "mask without image": Fault(copy(MASK, "masks/train/ghost.png"), {"mask-orphan"}, "ghost.png: no image"),
    "mask that is ignored": Fault(
        mask(lambda pixels: np.full_like(pixels, 255)), {"mask-ignored"}, f"{MASK}: every pixel is ignored"
    ),
    "mask with a palette": Fault(palette, {"mask-palette"}, "1 of 6 masks have a palette"),
    "image of extreme shape": Fault(long_picture, {"image-long", "image-small"}, "strip.png: 400 x 20 pixels"),
}


def test_clean_sets_have_no_finding(clean, clean_coco):
    for yaml in (clean, clean_coco):
        result = examined(yaml, near=True)
        assert result.findings == []
        assert result.exit_code == 0


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found_and_nothing_else(clean, tmp_path, name):
    fault = FAULTS[name]
    yaml = copied(clean, tmp_path)
    fault.plant(yaml.parent)
    result = examined(yaml, near=fault.near)
    assert {finding.check for finding in result.findings} == fault.checks
    assert any(fault.text in finding.sentence for finding in result.findings)
    worst = max(CHECKS[check].severity for check in fault.checks)
    assert result.exit_code == worst.exit_code


def change(file: str, edit: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda root: edit_json(root / file, edit)


def entry(content: dict, place: int, **values) -> None:
    content["annotations"][place].update(values)


COCO_FAULTS = {
    "box that is a text": Fault(
        change("train.json", lambda c: entry(c, 3, bbox="wide")), {"label-refused"}, "annotation 11 has the bbox 'wide'"
    ),
    "unknown category": Fault(
        change("val.json", lambda c: entry(c, 0, category_id=7)), {"label-refused"}, "annotation 0 is of category 7"
    ),
    "another number of keypoints": Fault(
        change("train.json", lambda c: entry(c, 3, keypoints=[1] * 6)),
        {"label-refused"},
        "annotation 11 has 6 keypoint values",
    ),
    "box without width": Fault(
        change("train.json", lambda c: entry(c, 3, bbox=[9, 9, 0, 9])), {"label-degenerate"}, "boxes without area: 1"
    ),
    "annotation without image": Fault(
        change("train.json", lambda c: entry(c, 3, image_id=99)),
        {"label-unlisted"},
        "annotations of images that it does not list: 1",
    ),
    "image of another size": Fault(
        change("train.json", lambda c: c["images"][1].update(width=100)), {"image-size"}, "train1.png: has another size"
    ),
    "image that is not there": Fault(
        lambda root: (root / "val/val3.png").unlink(), {"image-missing"}, "val3.png: no such image"
    ),
    "broken JSON": Fault(cut("val.json"), {"split-unusable"}, "val.json: broken JSON"),
    "keypoint far outside": Fault(
        change("train.json", lambda c: c["annotations"][0]["keypoints"].__setitem__(0, 95)),
        {"keypoint-outside"},
        "train0.png: 1 box with a visible keypoint far outside",
    ),
    "object without labelled keypoint": Fault(
        change("train.json", lambda c: entry(c, 2, keypoints=[0] * 9)), {"keypoint-none"}, "1 of 8 objects have no"
    ),
}


@pytest.mark.parametrize("name", COCO_FAULTS)
def test_planted_fault_of_a_coco_file_is_found_and_nothing_else(clean_coco, tmp_path, name):
    fault = COCO_FAULTS[name]
    yaml = copied(clean_coco, tmp_path)
    fault.plant(yaml.parent)
    result = examined(yaml)
    assert {finding.check for finding in result.findings} == fault.checks
    assert any(fault.text in finding.sentence for finding in result.findings)


def test_classes_far_rarer_than_another_are_named(clean, tmp_path):
    yaml = copied(clean, tmp_path)
    root = yaml.parent
    for split in ("train", "val"):
        for path in (root / "labels" / split).iterdir():
            path.write_text("0 0.5 0.5 0.2 0.2\n1 0.4 0.4 0.2 0.2\n")
        places = np.stack(np.meshgrid(np.linspace(0.3, 0.7, 10), np.linspace(0.3, 0.7, 120)), -1).reshape(-1, 2)
        rows = [f"0 {x:.5f} {y:.5f} 0.2 0.2\n" for x, y in places]
        (root / f"labels/{split}/002.txt").write_text("".join(rows) + "2 0.5 0.4 0.3 0.3\n")
    [rare] = examined(yaml).findings
    assert (rare.check, rare.where) == ("class-rare", "detect train")
    assert rare.sentence == "detect train: objects of 'blue': 1, of 'red': 1205"


def test_names_that_the_data_yaml_leaves_out_are_counted(clean_coco, tmp_path):
    yaml = copied(clean_coco, tmp_path)

    def add_category(content):
        content["categories"].append({"id": 2, "name": "crate"})
        entry(content, 0, category_id=2)

    edit_json(yaml.parent / "train.json", add_category)
    [left_out] = examined(yaml).findings
    assert left_out.check == "class-left-out" and left_out.severity.exit_code == 0
    assert "annotations of categories that the data YAML does not name: 1" in left_out.sentence


def test_every_check_has_its_planted_fault():
    """Those that are not in a table above have a test of their own, here or beside the formats and the caches."""
    planted = set().union(*(fault.checks for fault in [*FAULTS.values(), *COCO_FAULTS.values()]))
    alone = {"class-rare", "class-left-out", "anchor-recall", "label-absent", "label-left-out", "cache-stale"}
    assert planted | alone == set(CHECKS)
    assert len(FAULTS) >= 20


def test_every_fault_of_a_set_is_found_at_once(clean, tmp_path):
    """Broken files do not hide what is wrong with others, nor a broken row the rest of its file."""
    yaml = copied(clean, tmp_path)
    root = yaml.parent
    append("3 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2", "0 0.5 0.5 0.3 0.3", "0 7 0.5 0.2 0.2")(root)
    (root / "labels/train/004.txt").write_text("0 0.5 0.5 0.2\n")
    cut("images/val/000.png")(root)
    cut(MASK)(root)
    result = examined(yaml)
    places = [finding.sentence.split(": ")[0] for finding in result.findings if finding.check == "label-refused"]
    assert places == [f"{root / LABEL}:{line}" for line in (4, 5, 7)] + [f"{root / 'labels/train/004.txt'}:1"]
    unreadable = [finding for finding in result.findings if finding.check == "image-unreadable"]
    assert [finding.where for finding in unreadable] == ["detect val, segment val"]
    assert [finding.check for finding in result.findings].count("mask-refused") == 1
    # The rows that can be read count: three of each file, one more in the third, none in the fifth.
    assert result.statistics["detect train"]["objects"] == 6 * 3 + 1 - 3


def test_all_faulty_annotations_are_named(clean_coco, tmp_path):
    yaml = copied(clean_coco, tmp_path)

    def break_three(content):
        for place in (1, 2, 6):
            entry(content, place, bbox=[1, 2, 3])
        entry(content, 4, keypoints=[5, 5, 3] * 3)

    edit_json(yaml.parent / "train.json", break_three)
    result = examined(yaml)
    assert [finding.sentence.split(": ")[1].split(" has")[0] for finding in result.findings] == [
        "annotation 1",
        "annotation 10",
        "annotation 30",
        "annotation 20",
    ]
    assert result.statistics["pose train"]["objects"] == 4


def test_anchors_that_do_not_fit_are_found(clean, tmp_path, tiny_model):
    fitting = examined(clean, img_size=96, cfg=str(tiny_model))
    assert fitting.findings == [] and fitting.recalls == {"detect": 1.0}
    text = tiny_model.read_text()
    tiny_model.write_text(
        text.replace("[8, 8, 16, 16]", "[300, 8, 300, 9]").replace("[24, 24, 40, 40]", "[400, 8, 400, 9]")
    )
    result = examined(clean, img_size=96, cfg=str(tiny_model))
    assert [finding.check for finding in result.findings] == ["anchor-recall"]
    assert result.recalls["detect"] < 0.5
