"""COCO annotation files as data sets: labels against pycocotools' reading, what is left out, caches, mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data import coco_cache, split_index
from data.config import load_data_config
from data.dataset import TaskDataset
from data.keypoints import COCO_PERSON
from data.samples import collate
from data.task_data import TaskData
from data.transforms.testing import TestTransform
from utils.errors import DataError

SIZE = (60, 80)


def person(image: int, box: list[float], seen: int = 1, **values: Any) -> dict[str, Any]:
    """An annotation of a person with two keypoints, of which the first ones are seen."""
    points = [[box[0] + 1, box[1] + 1, 2], [box[0] + 2, box[1] + 3, 1]]
    flat = [value for i, point in enumerate(points) for value in (point if i < seen else [0, 0, 0])]
    return {"image_id": image, "category_id": 1, "bbox": box, "area": 50, "iscrowd": 0, "keypoints": flat, **values}


def content() -> dict[str, Any]:
    annotations = [
        person(2, [60, 10, 40, 20], seen=2),  # reaches over the right edge
        person(1, [10, 20, 30, 15], seen=1, area=123.5),
        person(1, [0, 0, 20, 20], seen=0),
        person(1, [5, 5, 30, 30], seen=0, iscrowd=1, area=600),
        person(3, [1, 1, 8, 6], seen=0, area=0),
        person(1, [5, 5, 0, 7], seen=2),
        person(77, [5, 5, 9, 7], seen=2),
        {"image_id": 1, "category_id": 18, "bbox": [2, 3, 40, 50], "area": 900, "iscrowd": 0},
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "person", "keypoints": ["head", "foot"]}, {"id": 18, "name": "dog"}],
        "annotations": [{"id": 100 + i, **entry} for i, entry in enumerate(annotations)],
    }


KPT = "kpt: {names: [head, foot], sigmas: [0.1, 0.2], skeleton: [[head, foot]]}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for i in (1, 2, 3, 4):
        pixels = np.random.default_rng(i).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"pictures/{i}.png")
    write(tmp_path, content())
    return tmp_path


def write(root: Path, raw: Any) -> None:
    (root / "labels.json").write_text(json.dumps(raw))


def task(root: Path, task: str = "pose", keys: str = f"names: [person], {KPT}") -> TaskData:
    text = f"path: {root}\n{task}: {{train: pictures, annotations: {{train: labels.json}}, {keys}}}\n"
    (root / "data.yaml").write_text(text)
    return load_data_config(root / "data.yaml").tasks[task]


def test_testing_keeps_all_and_marks_it(root: Path) -> None:
    dataset = TaskDataset(task(root), "train")
    assert [Path(name).name for name in dataset.ids] == ["1.png", "2.png", "3.png", "4.png"]
    first, second, third, last = (dataset.load(i) for i in range(4))
    assert first.boxes.tolist() == [[10, 20, 40, 35], [0, 0, 20, 20], [5, 5, 35, 35]]
    assert first.areas.tolist() == [123.5, 50, 600] and first.crowd.tolist() == [False, False, True]
    np.testing.assert_allclose(first.keypoints[0], [[11, 21, 2], [0, 0, 0]], atol=1e-5)
    np.testing.assert_allclose(second.boxes, [[60, 10, 80, 30]])
    np.testing.assert_allclose(second.keypoints, [[[61, 11, 2], [62, 13, 1]]], atol=1e-5)
    assert third.areas.tolist() == [48] and len(last.boxes) == 0 and last.crowd.shape == (0,)
    assert dataset.keypoint_spec.names == ("head", "foot") and dataset.keypoint_spec.skeleton == ((0, 1),)
    assert str(dataset.report) == (
        "pose train: 4 of 4 images usable, 5 objects (2 with labelled keypoints, 1 crowd), 1 background images, "
        "1 rows without area left out, 1 annotations of other categories left out, "
        "1 annotations of images that are not listed left out"
    )


def test_training_leaves_out_crowds_and_what_teaches_no_keypoint(root: Path) -> None:
    dataset = TaskDataset(task(root), "train", for_training=True)
    assert [Path(name).name for name in dataset.ids] == ["1.png", "2.png", "3.png"]
    assert dataset.load(0).boxes.tolist() == [[10, 20, 40, 35]] and dataset.load(0).areas is None
    assert [len(dataset.load(i).boxes) for i in range(3)] == [1, 1, 0] and dataset.areas is None
    assert "3 of 4 images usable, 5 objects" in str(dataset.report)
    assert str(dataset.report).endswith(
        "; not trained on: 2 objects without labelled keypoints, 1 crowd, 1 image without an object"
    )
    keys = f"names: [person], background: true, {KPT}"
    assert len(TaskDataset(task(root, keys=keys), "train", for_training=True)) == 4


def test_detection_reads_the_same_file(root: Path) -> None:
    dataset = TaskDataset(task(root, "detect", "names: [dog, person]"), "train", for_training=True)
    assert len(dataset) == 4 and dataset.classes.tolist() == [1, 1, 0, 1, 1]
    assert dataset.report.untrained_crowds == 1 and dataset.report.untrained_objects == 0
    tested = TaskDataset(task(root, "detect", "nc: 2"), "train")
    assert tested.names == ["person", "dog"] and tested.classes.tolist() == [0, 0, 0, 1, 0, 0]
    assert tested.load(0).keypoints is None and tested.load(0).crowd.tolist() == [False, False, True, False]


def test_one_class_for_all(root: Path) -> None:
    merged = task(root, "detect", "names: [dog, person]").single_class()
    dataset = TaskDataset(merged, "train")
    assert dataset.names == ["item"] and dataset.classes.tolist() == [0] * 6


def test_areas_and_crowds_reach_the_batch(root: Path) -> None:
    dataset = TaskDataset(task(root), "train")
    transform = TestTransform(96, 32, (96, 96))
    batch = collate([transform(dataset, i) for i in range(4)])
    assert batch.areas.tolist() == [[123.5, 50, 600], [50, 0, 0], [48, 0, 0], [0, 0, 0]]
    assert batch.crowd.tolist() == [[False, False, True], *[[False] * 3] * 3]
    assert batch.valid.sum(1).tolist() == [3, 1, 1, 0]
    pieces = batch.cut(2)
    assert [piece.areas.shape for piece in pieces] == [(2, 3), (2, 1)]
    assert pieces[1].crowd.shape == (2, 1) and pieces[1].areas.tolist() == [[48], [0]]
    assert batch.without_samples().areas.shape == (0, 3) and batch.without_samples().crowd.shape == (0, 3)


def test_missing_unreadable_and_odd_images_are_counted(root: Path) -> None:
    (root / "pictures/2.png").unlink()
    (root / "pictures/3.png").write_bytes(b"")
    raw = content()
    raw["images"][3].update(height=SIZE[1], width=SIZE[0])
    write(root, raw)
    report = TaskDataset(task(root), "train").report
    assert report.missing_images == [str(root / "pictures/2.png")] and report.corrupt == [str(root / "pictures/3.png")]
    assert report.other_sizes == [str(root / "pictures/4.png")] and report.usable == 2
    text = str(report)
    assert "1 missing images left out" in text and "1 images of another size than annotated" in text
    shutil.rmtree(root / "pictures")
    (root / "pictures").mkdir()
    with pytest.raises(DataError, match=r"none of the 4 images is there \(looked for .*1\.png\); mend the folder"):
        TaskDataset(task(root), "train")


def test_images_may_lie_in_several_folders(root: Path) -> None:
    (root / "more").mkdir()
    (root / "pictures/3.png").rename(root / "more/3.png")
    data = task(root)
    data.splits["train"].append(root / "more")
    dataset = TaskDataset(data, "train")
    assert [Path(name).parent.name for name in dataset.ids] == ["pictures", "pictures", "more", "pictures"]


def test_a_set_without_a_person_to_train_on_is_refused(root: Path) -> None:
    write(root, {**content(), "annotations": []})
    with pytest.raises(DataError, match=r"none of the 4 images has an object to train on .*`background: true`"):
        TaskDataset(task(root), "train", for_training=True)


def test_the_file_and_the_scan_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = TaskDataset(task(root), "train")
    coco_cache._open.cache_clear()
    with monkeypatch.context() as nothing_read:
        nothing_read.setattr(coco_cache, "read_coco", lambda *_: pytest.fail("the JSON was read twice"))
        nothing_read.setattr(split_index, "coco_index", lambda *_: pytest.fail("scanned twice"))
        again = TaskDataset(task(root), "train")
    assert again.report == first.report and again.ids == first.ids
    for name in ("boxes", "classes", "keypoints", "areas", "crowd", "offsets", "sizes"):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name
    raw = content()
    raw["annotations"][1]["bbox"] = [11, 20, 30, 15]
    write(root, raw)
    assert TaskDataset(task(root), "train").load(0).boxes[0].tolist() == [11, 20, 41, 35]
    assert TaskDataset(task(root, "detect", "names: [dog]"), "train").classes.tolist() == [0]
    assert TaskDataset(task(root, "detect", "names: [person]"), "train").classes.tolist() == [0] * 5


def test_a_damaged_cache_is_made_anew(root: Path) -> None:
    data = task(root)
    first = coco_cache.open_coco(root / "labels.json")
    (kept,) = (root / ".yolograph").glob("*.coco.npz")
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"junk" * 50):
        kept.write_bytes(damaged)
        coco_cache._open.cache_clear()
        assert np.array_equal(coco_cache.open_coco(root / "labels.json").boxes, first.boxes)
    assert len(TaskDataset(data, "train")) == 4


def with_annotation(number: int, **values: Any) -> dict[str, Any]:
    raw = content()
    raw["annotations"][number].update(values)
    return raw


@pytest.mark.parametrize(
    ("raw", "keys", "fault"),
    [
        (
            with_annotation(1, keypoints=[1, 2, 2]),
            f"names: [person], {KPT}",
            "annotation 101 has 3 keypoint values, but 2",
        ),
        (with_annotation(1, keypoints=[1, 2, 3] * 2), f"names: [person], {KPT}", "annotation 101 .* not 0, 1 or 2"),
        (with_annotation(1, category_id=5), f"names: [person], {KPT}", "annotation 101 is of category 5"),
        (content(), f"names: [persn], {KPT}", r"`pose\.names` has 'persn', which .* Did you mean 'person'\?"),
        (content(), "names: [person]", r"`pose\.kpt` is missing, and .*labels\.json does not have the seventeen"),
        (content(), "names: [person], keypoints: 17", "annotation 100 has 6 keypoint values, but 17"),
        (content(), f"names: [dog], {KPT}", r"labels\.json: has no keypoints; give a file that has them"),
        ({**content(), "images": []}, f"names: [person], {KPT}", r"labels\.json: lists no image"),
    ],
)
def test_mistakes_get_one_sentence(root: Path, raw: dict[str, Any], keys: str, fault: str) -> None:
    write(root, raw)
    with pytest.raises(DataError, match=fault) as caught:
        TaskDataset(task(root, keys=keys), "train")
    assert "labels.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (
            "{train: pictures, annotations: labels.json}",
            r"`pose\.annotations` is 'labels\.json'; give one COCO file per",
        ),
        (
            "{train: pictures, annotations: {train: label.json}}",
            r"`pose\.annotations\.train: label\.json` does not exist",
        ),
        ("{train: pictures, annotations: {val: labels.json}}", r"`pose\.annotations\.val` has no images; add"),
        ("{train: pictures, val: pictures, annotations: {train: labels.json}}", r"`pose\.annotations\.val` is missing"),
        ("{train: pictures/1.png, annotations: {train: labels.json}}", r"`pose\.train: .*1\.png` is no folder"),
        ("{train: pictures, labels: x, annotations: {train: labels.json}}", "`pose` has `labels` and `annotations`"),
        (f"{{train: pictures, {KPT}, nc: 3, annotations: {{train: labels.json}}}}", r"`pose\.nc` is 3, but"),
        ("{train: pictures, keypoints: 2, names: [a], background: 5}", r"`pose\.background` is 5; give true"),
        ("{train: pictures, names: [a], kpt: {names: [x]}, keypoints: 2}", r"`pose\.keypoints` is 2, but"),
    ],
)
def test_a_wrong_yaml_gets_one_sentence(root: Path, block: str, fault: str) -> None:
    (root / "data.yaml").write_text(f"path: {root}\npose: {block}\n")
    with pytest.raises(DataError, match=fault) as caught:
        load_data_config(root / "data.yaml")
    assert str(caught.value).startswith(str(root / "data.yaml")) and "\n" not in str(caught.value)


def test_label_files_go_the_same_way(tmp_path: Path) -> None:
    for name, rows in {
        "a": "0 .5 .5 .2 .2 .5 .5 2\n0 .2 .2 .1 .1 0 0 0\n",
        "b": "0 .2 .2 .1 .1 0 0 0\n",
        "c": "",
    }.items():
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
        (tmp_path / f"labels/{name}.txt").write_text(rows)
    text = f"path: {tmp_path}\npose: {{train: images, names: [person], keypoints: 1}}\n"
    (tmp_path / "data.yaml").write_text(text)
    data = load_data_config(tmp_path / "data.yaml").tasks["pose"]
    assert len(TaskDataset(data, "train").boxes) == 3
    dataset = TaskDataset(data, "train", for_training=True)
    assert [len(dataset.load(i).boxes) for i in range(len(dataset))] == [1, 0]
    assert str(dataset.report).endswith(
        "3 objects (1 with labelled keypoints), 1 background images; not trained on: "
        "2 objects without labelled keypoints, 1 image without an object"
    )


@pytest.fixture
def mini(shared: Path, tmp_path: Path) -> Path:
    source = shared / "data/coco_keypoints_mini"
    # The caches lie beside the annotations, and the shared folder stays as it is.
    target = tmp_path / "coco"
    shutil.copytree(source / "annotations", target / "annotations")
    for split in ("train2017", "val2017"):
        (target / split).symlink_to(source / split)
    return target


MINI = """
path: {root}
pose:
  train: train2017
  val: val2017
  annotations: {{train: annotations/person_keypoints_train2017.json, val: annotations/person_keypoints_val2017.json}}
detect:
  train: train2017
  val: val2017
  annotations: {{train: annotations/instances_train2017.json, val: annotations/instances_val2017.json}}
"""


@pytest.mark.parametrize(
    ("task", "split", "objects", "with_keypoints", "crowds"),
    [
        ("pose", "train", 147, 86, 5),
        ("pose", "val", 93, 68, 1),
        ("detect", "train", 351, None, 7),
        ("detect", "val", 292, None, 2),
    ],
)
def test_the_real_set_is_read_as_pycocotools_reads_it(
    mini: Path, task: str, split: str, objects: int, with_keypoints: int | None, crowds: int
) -> None:
    (mini / "mini.yaml").write_text(MINI.format(root=mini))
    data = load_data_config(mini / "mini.yaml").tasks[task]
    dataset = TaskDataset(data, split)
    report = dataset.report
    assert (report.objects, report.with_keypoints, report.crowds) == (objects, with_keypoints, crowds)
    coco = COCO(str(data.annotations[split]))
    names = {entry["id"]: entry["name"] for entry in coco.loadCats(coco.getCatIds())}
    assert dataset.names == list(names.values()) and len(dataset) == len(coco.imgs)
    assert data.keypoint_spec == (COCO_PERSON if task == "pose" else None)
    for index, name in enumerate(dataset.ids):
        sample = dataset.load(index)
        wanted = coco.loadAnns(coco.getAnnIds(imgIds=[int(Path(name).stem)]))
        height, width = sample.image.shape[:2]
        corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in wanted)])
        np.testing.assert_allclose(sample.boxes, corners.clip(0, [width, height, width, height]), atol=1e-3)
        assert [dataset.names[k] for k in sample.classes] == [names[entry["category_id"]] for entry in wanted]
        assert sample.crowd.tolist() == [bool(entry["iscrowd"]) for entry in wanted]
        np.testing.assert_allclose(sample.areas, [entry["area"] for entry in wanted], rtol=1e-6)
        if task == "pose":
            points = np.array([entry["keypoints"] for entry in wanted], float).reshape(-1, 17, 3)
            np.testing.assert_allclose(sample.keypoints, points, atol=1e-3)
