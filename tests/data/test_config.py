"""Data YAMLs: both forms, and one sentence with file and key for every mistake."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import yaml

from data.config import CONFIG_FOLDER, load_data_config
from data.formats import cityscapes
from data.prepare.camvid import data_yaml
from utils.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("set/images/train", "set/images/val", "set/masks/train", "set/masks/val", "set/lists"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "set/lists/more.txt").write_text("")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "data.yaml"
    file.write_text(text)
    return file


OURS = """
path: set
detect: {train: [images/train, lists/more.txt], val: images/val, nc: 2, names: {1: b, 0: a}}
segment: {train: images/train, val: images/val, masks: masks, names: [x, 7], ignore: [255, 11]}
pose: {train: images/train, names: [person], keypoints: 5, labels: labels_pose, options: {}}
"""


def test_our_form(folder: Path) -> None:
    config = load_data_config(write(folder, OURS))
    detect, segment, pose = (config.tasks[task] for task in ("detect", "segment", "pose"))
    assert detect.names == ["a", "b"] and detect.format == "yolo_txt" and detect.masks == {}
    assert detect.splits["train"] == [folder / "set/images/train", folder / "set/lists/more.txt"]
    assert segment.names == ["x", "7"] and segment.format == "mask_png"
    assert segment.masks == {"train": folder / "set/masks", "val": folder / "set/masks"}
    assert segment.options["ignore"] == [255, 11] and segment.ignore_index == 255
    assert pose.keypoints == 5 and pose.options == {"labels": "labels_pose"}
    assert "val" not in pose.splits


def test_single_class_merges_the_classes_of_objects_alone(folder: Path) -> None:
    tasks = load_data_config(write(folder, OURS)).single_class().tasks
    assert tasks["detect"].names == ["item"] and tasks["detect"].label_map.targets == (0, 0)
    assert tasks["segment"].names == ["x", "7"]
    assert tasks["pose"].names == ["person"] and tasks["pose"].label_map.targets == (0,)


def test_masks_may_be_named_per_split_or_left_out(folder: Path) -> None:
    text = "path: set\nsegment: {train: images/train, val: images/val, names: [x]MASKS}"
    segment = load_data_config(write(folder, text.replace("MASKS", ", masks: {train: masks/train}"))).tasks["segment"]
    assert segment.masks == {"train": folder / "set/masks/train", "val": None}
    segment = load_data_config(write(folder, text.replace("MASKS", ""))).tasks["segment"]
    assert segment.masks == {"train": None, "val": None}


def test_the_form_of_yolov5(folder: Path) -> None:
    text = f"train: {folder}/set/images/train\nval: set/images/val\nnc: 2\nnames: ['a', 'b']\ndownload: never\n"
    config = load_data_config(write(folder, text + "segtrain: set\nsegval: set\nsegnames: [x, y, z]\nn_segcls: 3\n"))
    assert config.tasks["detect"].splits["val"] == [folder / "set/images/val"]
    segment = config.tasks["segment"]
    assert segment.splits == {split: [folder / "set/images" / split] for split in ("train", "val")}
    assert segment.masks == {split: folder / "set/masks" / split for split in ("train", "val")}


def test_segmentation_roots_of_the_other_kinds(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("city/leftImg8bit", "city/gtFine", "own/segimages", "own/seglabels"):
            (tmp_path / name / split).mkdir(parents=True)
    city = load_data_config(write(tmp_path, "segtrain: city\nsegval: city\n")).tasks["segment"]
    assert city.format == "cityscapes" and city.names == cityscapes.NAMES
    assert (
        city.splits["val"] == [tmp_path / "city/leftImg8bit/val"] and city.masks["val"] == tmp_path / "city/gtFine/val"
    )
    own = load_data_config(write(tmp_path, "segtrain: own\nsegval: own\nsegnames: [a, crack]\n")).tasks["segment"]
    assert own.format == "mask_png" and own.masks["train"] == tmp_path / "own/seglabels/train"


def test_the_working_folder_is_searched_second(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "configs").mkdir()
    monkeypatch.chdir(folder)
    for text in ("path: set\ntrain: images/train\nnames: [a]", "train: set/images/train\nnames: [a]"):
        train = load_data_config(write(folder / "configs", text)).tasks["detect"].splits["train"]
        assert train[0].resolve() == (folder / "set/images/train").resolve()


def test_only_the_asked_splits_have_to_exist(folder: Path) -> None:
    file = write(folder, "path: set\ntrain: nowhere\nval: images/val\ntest: nowhere\nnames: [a]")
    with pytest.raises(DataError, match="`train: nowhere`"):
        load_data_config(file)
    assert load_data_config(file, splits=["val"]).tasks["detect"].splits["val"] == [folder / "set/images/val"]


@pytest.mark.parametrize(
    "text",
    [
        "path: set\nval: images/val\nnames: [a]",
        "path: set\ndetect: {val: images/val, names: [a]}",
        "path: set\ndetect: {val: {images: images/val, format: voc}, names: [a]}",
        "segval: set\nsegnames: [a]",
    ],
)
def test_a_set_for_testing_needs_nothing_to_train_on(folder: Path, text: str) -> None:
    (config,) = load_data_config(write(folder, text), splits=["val"]).tasks.values()
    assert list(config.splits) == ["val"] and config.splits["val"] == [folder / "set/images/val"]
    with pytest.raises(DataError, match="train` is missing"):
        load_data_config(write(folder, text))


def test_classes_are_the_keys_of_their_map(folder: Path) -> None:
    text = "path: set\ndetect: {train: images/train, names: [a, b, c], classes: {x: [c, 0], y: rest}}"
    detect = load_data_config(write(folder, text), splits=["train"]).tasks["detect"]
    assert detect.names == ["x", "y"] and detect.label_map.targets == (0, 1, 0)
    assert detect.single_class().label_map.targets == (0, 0, 0)


def test_heads_find_their_data(folder: Path) -> None:
    lanes = "lanes: {task: segment, train: images/train, names: [lane]}\n"
    config = load_data_config(write(folder, OURS + lanes))
    assert config.for_head("lanes", "segment").names == ["lane"]
    assert config.for_head("any", "segment").key == "segment"
    assert config.for_head("detect", "detect").key == "detect"
    with pytest.raises(DataError, match=r"data\.yaml: `lanes` is data for segment, but .* for detect"):
        config.for_head("lanes", "detect")
    config = load_data_config(write(folder, "path: set\n" + lanes))
    with pytest.raises(
        DataError, match=r"data\.yaml: no data for the model's head `seg` \(segment\); add, say, `segment:"
    ):
        config.for_head("seg", "segment")


GOOD = "path: set\ntrain: images/train\nval: images/val\n"
MAP = "path: set\ndetect: {train: images/train, val: images/val, names: [a, b], classes: "
FORMAT = "path: set\ndetect: {train: images/train, val: images/val, format: "
SEG = "path: set\nsegment: {train: images/train, val: images/val, "


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "path: set\ntrain: [images/train\nnames: [a]",
            r"data\.yaml, line \d: is not valid YAML, .*; mend the YAML syntax there",
        ),
        (GOOD + "names: [a]\nnames: [b]", r"data\.yaml, line 5: the key 'names' is there already in line 4"),
        ("just text", "list of keys"),
        ("", "list of keys"),
        ("path: set", "no task has data"),
        (GOOD + "name: [a]", r"unknown key `name`\. Did you mean 'names'\?"),
        (GOOD + "names: [a]\nextra: {train: x}", "unknown key `extra`"),
        (SEG + "names: [a], mask: masks}", r"unknown key `segment\.mask`\. Did you mean 'masks'\?"),
        (GOOD + "names: [a, b]\nnc: 3", "`nc` is 3, but `names` has 2 entries"),
        (GOOD + "names: [a, b]\nnc: two", "`nc` is 'two'"),
        (GOOD + "names: a, b", "`names` is 'a, b'; give a list"),
        (GOOD + "names: {1: a, 2: b}", r"keys of `names` must be 0\.\.1"),
        (GOOD + "names: [a, b, a]", "`names` holds 'a' twice"),
        (GOOD + "names: [yes, no]", "`names` holds True, which is no text; put the name in quotes"),
        (GOOD, "`names` is missing"),
        (SEG + "masks: masks}", "`segment.names` is missing"),
        ("path: set\nval: images/val\nnames: [a]", "`train` is missing"),
        ("path: set\ndetect: {val: images/val, names: [a]}", "`detect.train` is missing"),
        (
            "path: set\ntrain: images/trian\nnames: [a]",
            "`train: images/trian` does not exist .searched .*set/images/trian",
        ),
        ("path: set\ntrain: 5\nnames: [a]", "`train` is 5; give a folder"),
        ("path: 5\ntrain: x\nnames: [a]", "`path` is 5"),
        (SEG + "names: [a], ignore: 256}", "`segment.ignore` is 256; .* in 0..255"),
        (SEG + "names: [a], ignore: none}", "`segment.ignore` is 'none'"),
        (SEG + "names: [a], masks: mask}", "`segment.masks: mask` does not exist"),
        (SEG + "names: [a], masks: {test: masks}}", "`segment.masks.test` has no images"),
        (SEG + f"names: {list(range(256))}}}", "`segment.names` has 256 entries, a mask holds at most 255"),
        (GOOD + "names: [a]\ndetect: {train: images/train, names: [a]}", "both `detect:` and `train:`"),
        ("path: set\nlanes: {task: segmnet, train: x}", "`lanes.task` is 'segmnet'.* Did you mean 'segment'"),
        ("path: set\npose: {train: images/train, names: [a]}", "`pose.keypoints` is missing; give the number"),
        (SEG + "names: [a], labels: x}", "`segment.labels` is for detect and pose, not for segment; drop it"),
        ("path: set\ndetect: {train: images/train, names: [a], ignore: 7}", "`detect.ignore` is for segment, not for"),
        (GOOD + "names: [2024-99-99]", "looks like a date but is none .*; put it in quotes"),
        ("path: set\ndetect: images/train", "`detect` is 'images/train'; write `detect: "),
        ("segval: set\nsegnames: [a]", "`segtrain` is missing"),
        ("segtrain: set/lists\nsegnames: [a]", "`segtrain`: .* has none of the folder pairs segimages/train"),
        ("segtrain: set\nsegnames: [a]\nn_segcls: 19", "`n_segcls` is 19, but `segnames` has 1 entries"),
        ("segtrain: set\nsegval: set", "`segnames` is missing"),
        ("embedded: 5\ntrain: x\nnames: [a]", "`embedded` is 5"),
        (MAP + "[a]}", r"`detect\.classes` is \['a'\]; give lists by the name of a class"),
        (MAP + "{x: []}}", r"`detect\.classes\.x` is empty; list the classes that become it"),
        (MAP + "{x: [d]}}", r"`detect\.classes\.x` has 'd', which is no class of `detect\.names`; name one"),
        (MAP + "{x: [bb]}}", r"has 'bb', which is no class of `detect\.names`; name one\. Did you mean 'b'\?"),
        (MAP + "{x: [a, b], y: a}}", r"`detect\.classes` gives 'a' to 'x' and to 'y'; keep one of them"),
        (MAP + "{x: [a, 0]}}", r"`detect\.classes` gives 'a' to 'x' and to 'x'; keep one of them"),
        (MAP + "{x: [2]}}", r"`detect\.classes\.x` has 2, but the labels have 0\.\.1; mend it"),
        (MAP + "{x: rest, y: rest}}", r"`detect\.classes\.y` and `detect\.classes\.x` are both rest"),
        (MAP + "{x: [yes]}}", r"`detect\.classes\.x` holds True, which is no text"),
        (FORMAT + "vok}", r"`detect\.format` is 'vok'; choose one of yolo, voc, .* Did you mean 'voc'\?"),
        (FORMAT + "coco}", r"`detect\.annotations` is missing; give the file of every split"),
        (FORMAT + "voc}", r"`detect\.names` is missing; list the class names"),
        (FORMAT + "voc, names: [a], labels: 5}", r"`detect\.labels` is 5; give one folder, or one folder per split"),
        (FORMAT + "voc, names: [a], labels: {test: set}}", r"`detect\.labels\.test` has no images; add `detect\.test`"),
        (FORMAT + "cityscapes, names: [cra]}", r"'cra', which is no class of cityscapes; .* Did you mean 'car'\?"),
        (
            FORMAT + "voc, names: [a], options: {one_based: 1}}",
            r"`detect\.options\.one_based` is 1; give true or",
        ),
        (
            FORMAT + "voc, names: [a], options: {drop_dificult: true}}",
            r"unknown key `detect\.options\.drop_dificult`\. Did you mean 'drop_difficult'\?",
        ),
        (
            FORMAT + "labelme, names: [a], options: {one_based: true}}",
            r"`detect\.options\.one_based` is for voc, not for labelme; drop it",
        ),
        (
            "path: set\nsegment: {train: images/train, format: camvid, ignore: 3}",
            "`segment.ignore` is for pixels that are numbers, not for camvid; drop it",
        ),
        (
            "path: set\nsegment: {train: images/train, format: camvid, nc: 11}",
            "`segment.nc` is 11, but `segment.names` has 31 entries; make them agree",
        ),
        (
            "path: set\npose: {train: images/train, format: voc, names: [a], keypoints: 2}",
            "`pose.format`: voc has no keypoints; choose one of yolo, labelme, coco",
        ),
    ],
)
def test_mistakes_name_file_and_key(folder: Path, text: str, fault: str) -> None:
    file = write(folder, text)
    with pytest.raises(DataError, match=fault) as caught:
        load_data_config(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and "\n" not in message


def test_a_missing_file_is_named_with_the_nearest_config(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such data YAML .* Did you mean 'camvid\.yaml'"):
        load_data_config(tmp_path / "camvids.yaml")


def test_a_packaged_config_is_found_without_its_suffix() -> None:
    assert load_data_config("coco128", splits=()).path == CONFIG_FOLDER / "coco128.yaml"
    with pytest.raises(DataError, match=r"nowhere/coco128: no such data YAML"):
        load_data_config("nowhere/coco128", splits=())


def test_a_packaged_config_without_its_data_names_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.config.CONFIG_FOLDER", folder)
    for name in ("camvid", "coco128"):
        (folder / f"{name}.yaml").write_text("path: none\ntrain: images\nnames: [a]")
        with pytest.raises(DataError, match=rf"does not exist .*; run `python -m data\.prepare {name} --source DIR`"):
            load_data_config(name)
    with pytest.raises(DataError) as caught:
        load_data_config(write(folder, "path: none\ntrain: images\nnames: [a]"))
    assert "data.prepare" not in str(caught.value)


def test_an_embedded_set_is_written_on_first_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ensure_embedded(root: Path, train: int = 1, seed: int = 0) -> Path:
        asked.append((root, train, seed))
        return folder / "set"

    stand_in = types.ModuleType("data.synthetic")
    stand_in.ensure_embedded = ensure_embedded
    monkeypatch.setitem(sys.modules, "data.synthetic", stand_in)
    file = write(folder, "path: made\nembedded: {train: 4, seed: 7}\ntrain: images/train\nnames: [a]")
    assert load_data_config(file).tasks["detect"].splits["train"] == [folder / "set/images/train"]
    assert asked == [(folder / "made", 4, 7)]
    with pytest.raises(DataError, match=r"data\.yaml: `embedded` has an option that does not fit"):
        load_data_config(write(folder, "embedded: {trains: 4}\ntrain: images/train\nnames: [a]"))


def test_the_packaged_camvid_config_is_what_the_preparation_writes() -> None:
    packaged = yaml.safe_load((CONFIG_FOLDER / "camvid.yaml").read_text())
    assert packaged == yaml.safe_load(data_yaml("../../datasets/camvid"))
