"""python -m data.convert: every format into every other one, what is lost on the way, and mistakes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.config import load_data_config
from data.convert.__main__ import main
from data.convert.format_names import find_format, format_names
from data.formats.mask_png import read_mask, write_mask
from data.formats.voc_xml import Annotation, read_annotation, write_annotation
from data.prepare.voc import prepare_voc
from data.scan import LabelIndex
from data.split_index import open_split
from utils.errors import DataError, UsageError

HEIGHT, WIDTH = 60, 80
NAMES = ["truck", "car", "rider"]
ROWS = {
    "a": ["1 0.5 0.5 0.25 0.5", "0 0.125 0.2 0.25 0.4", "1 0.9375 0.95 0.125 0.1"],
    "town/b.1": ["2 0.5 0.75 1 0.5"],
    "town/c": [],
}
VALUES = np.array([0, 1, 2, 7], np.uint8)
OBJECTS, MASKS = format_names()


def picture(path: Path) -> Path:
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder_of(path))
    return path


def folder_of(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def folders(root: Path) -> list[str]:
    return ["--images", str(root / "images"), "--labels", str(root / "masks")]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data YAML of YOLO label files."""
    root = tmp_path_factory.mktemp("boxes")
    for name, rows in ROWS.items():
        picture(root / f"images/train/{name}.png")
        folder_of(root / f"labels/train/{name}.txt").write_text("\n".join(rows))
    (root / "boxes.yaml").write_text(f"detect: {{train: images/train, names: {NAMES}}}")
    return root / "boxes.yaml"


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file beside its pictures with all that it can say."""
    root = tmp_path_factory.mktemp("rich")
    for name in ("a.png", "b.png"):
        picture(root / name)
    square = [[10, 10, 30, 10, 30, 30, 10, 30]]
    keypoints = [12, 12, 2, 25, 25, 1]
    annotations = [
        {"bbox": [10, 10, 20, 20], "segmentation": square, "keypoints": keypoints, "area": 400},
        {"bbox": [9, 5, 30, 40], "segmentation": square, "keypoints": keypoints, "area": 400},
        {"bbox": [40, 0, 20, 20], "area": 77},
        {"bbox": [0, 0, 80, 60], "segmentation": square, "iscrowd": 1, "area": 400},
        {"bbox": [70, 50, 30, 30], "area": 900},
        {"bbox": [90, 10, 5, 5]},
    ]
    entries = [{"id": i, "image_id": 1, "category_id": 1, **entry} for i, entry in enumerate(annotations)]
    entries.append({"id": 99, "image_id": 2, "category_id": 2, "bbox": [1, 1, 4, 4]})
    categories = [{"id": 1, "name": "cat", "keypoints": ["nose", "tail"]}, {"id": 2, "name": "dog"}]
    images = [
        {"id": i + 1, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH} for i, name in enumerate("abx")
    ]
    path = root / "rich.json"
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": entries}))
    return path


def index_of(yaml: Path, task: str = "detect", split: str = "train") -> LabelIndex:
    return open_split(load_data_config(yaml, [split]).tasks[task], split).index


def check_same(found: LabelIndex, expected: LabelIndex) -> None:
    np.testing.assert_array_equal(found.sizes, expected.sizes)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTS)
def test_boxes_go_into_every_format_and_back(name: str, boxes: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    own = list(getattr(find_format(name), "names", ()))
    main(["--data", str(boxes), "--to", name, "--out", str(there)])
    data = load_data_config(there / "there.yaml").tasks["detect"]
    assert data.names == (own or NAMES)
    main(["--data", str(there / "there.yaml"), "--to", "yolo", "--out", str(back), "--names", *NAMES])
    expected = index_of(boxes)
    check_same(index_of(back / "back.yaml"), expected)
    found = index_of(there / "there.yaml")
    found.classes = np.array([NAMES.index(data.names[k]) for k in found.classes])
    check_same(found, expected)
    assert expected.offsets.tolist() == [0, 3, 4, 4]


@pytest.mark.parametrize("name", MASKS)
def test_masks_go_into_every_format_and_back(name: str, tmp_path: Path) -> None:
    names = list(find_format(name).names[:3]) or NAMES
    rng = np.random.default_rng(0)
    for i in range(2):
        picture(tmp_path / f"images/town/{i}.png")
        write_mask(folder_of(tmp_path / f"masks/town/{i}.png"), rng.choice(VALUES, (HEIGHT, WIDTH)))
    given = ["--from", "mask_png", *folders(tmp_path), "--names", *names, "--ignore", "7"]
    main([*given, "--to", name, "--out", str(tmp_path / "t")])
    main(["--data", str(tmp_path / "t/t.yaml"), "--to", "mask_png", "--out", str(tmp_path / "back"), "--names", *names])
    assert load_data_config(tmp_path / "back/back.yaml").tasks["segment"].names == names
    for i in range(2):
        before = read_mask(tmp_path / f"masks/town/{i}.png")
        stem = f"{i}_leftImg8bit" if name == "cityscapes_masks" else str(i)
        after = read_mask(tmp_path / f"back/masks/train/town/{stem}.png")
        np.testing.assert_array_equal(after, np.where(before == 7, 255, before))


@pytest.mark.parametrize("name", ["yolo", "labelme", "coco"])
def test_areas_of_a_mask_become_outlines_and_the_same_pixels_again(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    picture(tmp_path / "images/a.png")
    coarse = rng.choice(np.array([0, 1, 2, 255], np.uint8), (HEIGHT // 4, WIDTH // 4))
    mask = np.repeat(np.repeat(coarse, 4, 0), 4, 1)
    mask[rng.random(mask.shape) < 0.05] = 1
    write_mask(folder_of(tmp_path / "masks/a.png"), mask)
    given = ["--from", "mask_png", *folders(tmp_path), "--names", *NAMES]
    main([*given, "--to", name, "--out", str(tmp_path / "t")])
    back = ["--data", str(tmp_path / "t/t.yaml"), "--to", "mask_png"]
    main([*back, "--names", *NAMES, "--rest", "ignore", "--out", str(tmp_path / "back")])
    np.testing.assert_array_equal(read_mask(tmp_path / "back/masks/train/a.png"), mask)
    main([*back, "--classes", "moving=truck,car", "--out", str(tmp_path / "merged")])
    assert load_data_config(tmp_path / "merged/merged.yaml").tasks["segment"].names == ["background", "moving"]
    np.testing.assert_array_equal(read_mask(tmp_path / "merged/masks/train/a.png"), mask < 2)


def test_a_background_has_no_outline_and_specks_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "images/a.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 10:20] = 1
    mask[12:14, 12:14] = 0
    mask[40, 40:44] = 1
    mask[50:, :] = 255
    write_mask(folder_of(tmp_path / "masks/a.png"), mask)
    options = ["--names", "background", "hole", "--least-area", "5", "--out", str(tmp_path / "t")]
    main(["--from", "mask_png", *folders(tmp_path), "--to", "coco", *options])
    assert "1 areas of fewer than 5 pixels left out" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "t/annotations/train.json").read_text())["annotations"]
    assert entry["bbox"] == [10, 10, 10, 10] and entry["area"] == 96


LOST = "1 crowds left out, which {} cannot mark"
COMMON = {
    "1 boxes without area within their picture left out",
    "1 boxes reached over the edge of their picture and were clipped",
}


@pytest.mark.parametrize(
    ("target", "drop", "lines"),
    [
        ("coco", [], set()),
        ("yolo", [], {"2 objects lost their outlines, because yolo has keypoints in their place", LOST.format("yolo")}),
        ("yolo", ["keypoints"], {"1 objects have the extent of their outlines for their box", LOST.format("yolo")}),
        ("yolo", ["keypoints", "outlines", "crowd"], {"1 crowds left out, as asked"}),
        ("labelme", [], {"2 objects have the extent of their outlines for their box"}),
        (
            "voc",
            [],
            {
                LOST.format("voc"),
                "2 objects lost their outlines, which voc has no place for",
                "2 objects lost their keypoints, which voc has no place for",
            },
        ),
        (
            "mask_png",
            [],
            {
                "2 objects lost their keypoints, which mask_png has no place for",
                "3 objects without an outline left out",
            },
        ),
    ],
)
def test_what_a_format_cannot_say_is_counted(
    target: str, drop: list[str], lines: set[str], rich: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--from", "coco", "--images", str(rich.parent), "--labels", str(rich)]
    main([*source, "--to", target, "--out", str(tmp_path / "out"), *(["--drop", *drop] if drop else [])])
    printed = capsys.readouterr().out.splitlines()
    expected = lines | COMMON | {"1 pictures that are missing or cannot be read left out: x.png"}
    areas = {line for line in printed if "lost their areas" in line}
    assert {line for line in printed if line[0].isdigit()} - areas == expected
    # Two boxes have an area that is not that of their sides; of outlines that go there are more.
    assert bool(areas) == ("areas" not in getattr(find_format(target), "keeps", {"areas"}))


def test_keypoints_reach_the_data_yaml(rich: Path, tmp_path: Path) -> None:
    source = ["--from", "coco", "--images", str(rich.parent), "--labels", str(rich)]
    for name in ("yolo", "labelme", "coco"):
        main([*source, "--to", name, "--out", str(tmp_path / name)])
        data = load_data_config(tmp_path / name / f"{name}.yaml").tasks["pose"]
        assert data.keypoint_spec.names == ("nose", "tail") and data.names == ["cat", "dog"]
        found = index_of(tmp_path / name / f"{name}.yaml", "pose")
        np.testing.assert_allclose(found.keypoints[0] * [WIDTH, HEIGHT, 1], [[12, 12, 2], [25, 25, 1]], atol=1e-4)
    main(["--data", str(tmp_path / "labelme/labelme.yaml"), "--to", "coco", "--out", str(tmp_path / "again")])
    ours, first = (json.loads((tmp_path / n / "annotations/train.json").read_text()) for n in ("again", "coco"))
    assert [a["keypoints"] for a in ours["annotations"]] == [a["keypoints"] for a in first["annotations"]]
    assert (
        [a["iscrowd"] for a in ours["annotations"]]
        == [a["iscrowd"] for a in first["annotations"]]
        == [0, 0, 0, 1, 0, 0]
    )


def test_classes_are_joined_chosen_and_ordered(boxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--to", "voc", "--out"]
    main(["--data", str(boxes), *out, str(tmp_path / "joined"), "--classes", "person=rider", "vehicle=car,truck"])
    data = load_data_config(tmp_path / "joined/joined.yaml").tasks["detect"]
    assert data.names == ["person", "vehicle"] and index_of(tmp_path / "joined/joined.yaml").classes.tolist() == [
        1,
        1,
        1,
        0,
    ]
    capsys.readouterr()
    main(["--data", str(boxes), *out, str(tmp_path / "one"), "--names", "car"])
    assert "1 objects of the class 'truck' left out" in capsys.readouterr().out
    main(["--data", str(boxes), *out, str(tmp_path / "rest"), "--classes", "car", "other=rest"])
    assert index_of(tmp_path / "rest/rest.yaml").classes.tolist() == [0, 1, 0, 1]
    # VOC files hold names that nobody has listed: one that no object has is a warning.
    given = ["--images", str(tmp_path / "rest/JPEGImages"), "--labels", str(tmp_path / "rest/Annotations")]
    main(["--from", "voc", *given, "--to", "coco", "--out", str(tmp_path / "few"), "--names", "Other", "car"])
    assert "WARNING: no object is called 'Other'. Did you mean 'other'?" in capsys.readouterr().out


def test_results_lie_where_the_tools_of_a_format_look_for_them(boxes: Path, tmp_path: Path) -> None:
    for name in ("voc", "labelme", "cityscapes"):
        main(["--data", str(boxes), "--to", name, "--out", str(tmp_path / name)])
    assert (tmp_path / "voc/ImageSets/Main/train.txt").read_text().split() == [
        "train/a",
        "train/town/b.1",
        "train/town/c",
    ]
    done = prepare_voc(tmp_path / "voc", tmp_path / "prepared")
    assert done.images == {"train": 3} and done.boxes["train"].tolist() == [2, 1, 1]
    assert (tmp_path / "labelme/images/train/town/b.1.json").is_file()
    assert (tmp_path / "cityscapes/gtFine/train/town/b.1_gtFine_polygons.json").is_file()
    assert (tmp_path / "cityscapes/leftImg8bit/train/town/b.1_leftImg8bit.png").is_file()


def test_labels_of_pictures_of_another_size_are_named(
    boxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--data", str(boxes), "--to", "voc", "--out", str(tmp_path / "voc")])
    for target, source, file in (
        ("coco", "voc", "Annotations/train/a.xml"),
        ("yolo", "coco", "annotations/train.json"),
    ):
        labels = tmp_path / source / file
        labels.write_text(
            labels.read_text().replace("<width>80<", "<width>90<").replace('"width": 80', '"width": 90', 1)
        )
        capsys.readouterr()
        main(["--data", str(tmp_path / f"{source}/{source}.yaml"), "--to", target, "--out", str(tmp_path / target)])
        lines = capsys.readouterr().out.splitlines()
        assert "1 pictures have another size than their labels say; look at these labels: a.png" in lines


def test_names_come_from_a_file_and_pictures_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "a.jpg", "images/a.png"):
        picture(tmp_path / "pictures" / name)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.5 0.5")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    folders = ["--images", str(tmp_path / "pictures"), "--labels", str(tmp_path / "labels")]
    names = ["--names", str(tmp_path / "names.txt")]
    main(
        ["--from", "yolo", *folders, *names, "--to", "yolo", "--out", str(tmp_path / "out"), "--split", "val", "--copy"]
    )
    assert "1 pictures have the labels of another picture of their name too: a.png" in capsys.readouterr().out
    data = load_data_config(tmp_path / "out/out.yaml", ["val"]).tasks["detect"]
    assert data.names == ["cat", "dog"]
    below = tmp_path / "out/images/val"
    assert sorted(p.relative_to(below).as_posix() for p in below.rglob("*.*")) == ["a.jpg", "a_2.png", "images_/a.png"]
    assert index_of(tmp_path / "out/out.yaml", split="val").offsets.tolist() == [0, 1, 2, 2]
    assert not (below / "a.jpg").samefile(tmp_path / "pictures/a.jpg")


def test_a_failure_leaves_nothing_behind(boxes: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images/a.png")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.5")
    folders = ["--from", "yolo", "--images", str(root / "images"), "--labels", str(root / "labels"), "--names", "cat"]
    out = ["--to", "voc", "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=r"a\.txt:1: the row has 4 columns"):
        main([*folders, *out])
    with pytest.raises(DataError, match=r"left to write as cityscapes \(1 objects of the class 'boat' .* becomes car,"):
        (root / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5")
        main([*folders[:-1], "boat", "--to", "cityscapes", "--out", str(tmp_path / "out")])
    with pytest.raises(
        DataError, match=r"no picture of the source can be used \(1 pictures without labels left out: a"
    ):
        main(["--from", "voc", *folders[2:-2], *out])
    assert os.listdir(tmp_path) == ["set"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(UsageError, match="is there already"):
        main(["--data", str(boxes), *out])
    with pytest.raises(UsageError, match=r"--out \. has no name of its own; give a new folder, such as set"):
        main(["--data", str(boxes), "--to", "yolo", "--out", "."])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "--from is missing; give --from, --images and --labels, or --data"),
        (["--from", "yolo", "--images", "."], "--labels is missing"),
        (["--from", "yolo", "--images", ".", "--labels", "."], "yolo labels hold numbers; say with --names"),
        (["--from", "mask_colour", "--images", ".", "--labels", "."], "give --colours a table"),
        (
            ["--from", "mask_png", "--images", ".", "--labels", ".", "--names", "a", "--ignore", "-1"],
            "--ignore -1 is no value of a mask; give values in 0..255",
        ),
        (["--from", "voc", "--images", ".", "--labels", ".", "--split", "val", "test"], "--images is one split"),
        (["--from", "voc", "--images", ".", "--labels", ".", "--task", "detect"], "--task is for --data"),
        (["--data", "{yaml}", "--from", "yolo"], "leave --from out"),
        (["--data", "{yaml}", "--images", "."], "leave --images out"),
        (["--data", "{yaml}", "--task", "detcet"], "--task detcet: .* has detect. Did you mean 'detect'?"),
        (["--data", "{yaml}", "--split", "val"], "--split val: `detect` of .* has train"),
        (
            ["--data", "{yaml}", "--names", "cra"],
            "--names has 'cra', which is no class of the source. Did you mean 'car'?",
        ),
        (["--data", "{yaml}", "--names", "car", "car"], "--names holds 'car' twice"),
        (["--data", "{yaml}", "--names", "car", "--classes", "car"], "--names and --classes both choose"),
        (["--data", "{yaml}", "--classes", "a=b,,c"], "--classes has 'a=b,,c'; write"),
        (["--data", "{yaml}", "--classes", "a=b", "a=c"], "--classes has 'a' twice"),
        (["--data", "{yaml}", "--least-area", "9"], "--least-area is for masks that become objects; leave it out"),
        (["--data", "{yaml}", "--rest", "ignore"], "--rest is for objects that become masks"),
        (["--data", "{yaml}", "--ignore", "0"], "--ignore is for --from with a format of masks"),
        (["--data", "{yaml}", "--one-based"], "--one-based is for --from voc"),
        (["--data", "{yaml}", "--keypoints", "3"], "--keypoints is for --from yolo"),
        (["--data", "{yaml}", "--names", "no.txt"], "no.txt cannot be read"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], fault: str, boxes: Path, tmp_path: Path) -> None:
    given = [str(boxes) if entry == "{yaml}" else entry for entry in arguments]
    with pytest.raises(UsageError, match=fault):
        main([*given, "--to", "coco", "--out", str(tmp_path / "out")])
    assert not os.listdir(tmp_path)


def test_a_class_for_the_rest_needs_a_place_in_the_format(boxes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rest background: cityscapes_masks has no such class; leave it out"):
        main(["--data", str(boxes), "--to", "cityscapes_masks", "--rest", "background", "--out", str(tmp_path / "out")])


def test_masks_that_are_not_there_and_masks_of_another_size(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(UsageError, match="--ignore is for --from with a format of masks whose pixels are numbers"):
        main(
            ["--from", "camvid", *folders(tmp_path), "--ignore", "0", "--to", "mask_png", "--out", str(tmp_path / "o")]
        )
    given = ["--from", "mask_png", *folders(tmp_path), "--names", "a", "--to", "mask_palette", "--out"]
    with pytest.raises(
        DataError, match=r"no picture of the source can be used \(.*1 pictures without a mask left out: a"
    ):
        main([*given, str(tmp_path / "out")])
    write_mask(tmp_path / "masks/a.png", np.zeros((WIDTH, HEIGHT), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: the mask is 60x80, but its image .* is 80x60 \(width x height\)"):
        main([*given, str(tmp_path / "out")])
    assert sorted(os.listdir(tmp_path)) == ["images", "masks"]


def test_more_classes_than_a_mask_holds(rich: Path, tmp_path: Path) -> None:
    names = ["--names", *map(str, range(256))]
    given = ["--from", "mask_png", "--images", str(rich.parent), "--labels", str(tmp_path), *names]
    with pytest.raises(UsageError, match="256 classes do not fit into a mask, which holds 255; choose some"):
        main([*given, "--to", "mask_png", "--out", str(tmp_path / "out")])


def test_a_class_in_two_lists_is_refused(boxes: Path, tmp_path: Path) -> None:
    given = ["--data", str(boxes), "--to", "coco", "--out", str(tmp_path / "out"), "--classes"]
    with pytest.raises(DataError, match=r"--classes: .* gives 'car' to 'a' and to 'b'"):
        main([*given, "a=car", "b=car"])
    with pytest.raises(DataError, match=r"'cra', which is no class of the source; .* 'car'"):
        main([*given, "a=cra"])


def test_options_of_a_voc_block_and_of_a_voc_folder_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "images/a.png")
    boxes, hard = np.array([[1, 1, 20, 30], [11, 11, 40, 50]], np.float64), np.array([False, True])
    write_annotation(folder_of(tmp_path / "labels/a.xml"), Annotation(["cat", "cat"], boxes, hard, (HEIGHT, WIDTH)))
    block = (
        "{format: voc, train: images, labels: labels, names: [cat], options: {one_based: true, drop_difficult: true}}"
    )
    (tmp_path / "set.yaml").write_text(f"detect: {block}")
    main(["--data", str(tmp_path / "set.yaml"), "--to", "yolo", "--out", str(tmp_path / "one")])
    assert "1 difficult objects left out, as asked" in capsys.readouterr().out
    given = ["--from", "voc", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"), "--one-based"]
    main([*given, "--to", "voc", "--out", str(tmp_path / "two")])
    found = read_annotation(tmp_path / "two/Annotations/train/a.xml")
    assert found.boxes.tolist() == [[0, 0, 20, 30], [10, 10, 40, 50]] and found.difficult.tolist() == [False, True]
    one = index_of(tmp_path / "one/one.yaml")
    np.testing.assert_allclose(one.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], [[0, 0, 20, 30]], atol=1e-4)


def test_sources_of_a_mixed_split_are_joined(boxes: Path, rich: Path, tmp_path: Path) -> None:
    first = f"{{images: {boxes.parent / 'images/train'}, names: {NAMES}}}"
    second = f"{{images: {rich.parent}, format: coco, annotations: {rich}}}"
    (tmp_path / "mixed.yaml").write_text(f"detect: {{train: [{first}, {second}], names: [car, cat, dog]}}")
    main(
        ["--data", str(tmp_path / "mixed.yaml"), "--to", "coco", "--out", str(tmp_path / "out"), "--drop", "keypoints"]
    )
    found, expected = index_of(tmp_path / "out/out.yaml"), index_of(tmp_path / "mixed.yaml")
    check_same(found, expected)
    assert found.crowd.tolist() == expected.crowd.tolist() and len(found.kept) == 5
