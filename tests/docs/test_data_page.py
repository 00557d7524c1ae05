"""docs/data.md names every key of a data YAML, and its first example loads."""

from __future__ import annotations

import re

import pytest
import yaml

from data import config, config_blocks, folder_walk, image_list, images, keypoint_block
from data.formats import colour_table, large_json, picture_json, registry, voc_xml, yolo_txt
from tests.conftest import REPO

TEXT = (REPO / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def example_with(key):
    return next(text for text in EXAMPLES if re.search(rf"^ *{key}:", text, flags=re.MULTILINE))


def load_example(folder, text):
    for entry in re.findall(r"(?:train|val|test|masks): ([\w/]+)", text):
        (folder / entry).mkdir(parents=True, exist_ok=True)
    path = folder / "example.yaml"
    path.write_text(re.sub(r"^path: .*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    return config.load_data_config(path)


KEYS = {*config_blocks.BLOCK_KEYS, *config_blocks.FLAT_DETECT, *config_blocks.FLAT_SEGMENT, *keypoint_block.KEYS}


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_is_on_the_page(key):
    assert re.search(rf"`{key}`|\b{key}:", TEXT)


def test_block_example_loads(tmp_path):
    loaded = load_example(tmp_path, EXAMPLES[0])
    assert loaded.for_head("detect", "detect").names == ["car", "person"]
    assert loaded.for_head("segment", "segment").masks["val"] == tmp_path / "masks"


def test_example_with_two_heads_of_one_task_loads(tmp_path):
    loaded = load_example(tmp_path, EXAMPLES[1])
    assert loaded.for_head("signs", "detect").names == ["stop", "yield"]


def test_example_of_keypoints_loads(tmp_path):
    spec = load_example(tmp_path, example_with("kpt")).for_head("pose", "pose").keypoint_spec
    assert spec.names == ("hook", "tip", "left_foot", "right_foot")
    assert spec.flip_pairs == ((2, 3),) and spec.skeleton == ((0, 1), (1, 2), (1, 3))


def test_example_of_coco_files_is_the_packaged_one():
    packaged = config._parse(config.CONFIG_FOLDER / "coco_keypoints.yaml")["pose"]
    assert yaml.safe_load(example_with("annotations"))["pose"].items() <= packaged.items()


def test_embedded_example_is_the_packaged_one():
    packaged = (config.CONFIG_FOLDER / "embedded.yaml").read_text(encoding="utf-8")
    assert all(line in packaged.splitlines() for line in example_with("embedded").splitlines())


@pytest.mark.parametrize(("key", "task"), [("format", "detect"), ("classes", "detect"), ("images", "segment")])
def test_examples_of_formats_classes_and_sources_load(tmp_path, key, task):
    text = next(text for text in EXAMPLES if re.search(rf"^ *(- {{)?{key}: ", text, flags=re.MULTILINE))
    for entry in re.findall(r"(?:train|val|images|masks|labels): ([\w/]+(?:\.txt)?)", text):
        (tmp_path / entry).mkdir(parents=True, exist_ok=True)
    path = tmp_path / "example.yaml"
    path.write_text(re.sub(r"^path: .*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    data = config.load_data_config(path).for_head(task, task)
    expected = {
        "format": ["RBC", "WBC"],
        "classes": ["vehicle", "person"],
        "images": ["road", "sidewalk", "car", "person"],
    }
    assert data.names == expected[key] and data.format == {"images": "mixed", "format": "voc"}.get(key, "yolo_txt")


def test_every_format_is_on_the_page():
    formats = {*registry.PICTURE_FORMATS, *registry.SPLIT_FORMATS, *registry.MASK_FORMATS}
    assert [name for name in formats if f"| `{name}`" not in TEXT and f"`{name}` is the same" not in TEXT] == []


def test_limits_are_those_of_the_code():
    section = TEXT.split("## Files from elsewhere")[1].split("\n## ")[0]
    for number, unit in (
        (images.MOST_PIXELS_OF_A_SET // 10**6, "million pixels"),
        (images.MOST_PIXELS // 10**6, "million"),
        (yolo_txt.MOST_BYTES // 10**6, "MB"),
        (voc_xml.MOST_BYTES // 10**6, "MB"),
        (picture_json.MOST_BYTES // 10**6, "MB"),
        (picture_json.MOST_VALUES // 10**6, "million values"),
        (large_json.MOST_CHARACTERS // 10**6, "million characters"),
        (large_json.MOST_MEMBERS, "members"),
        (image_list.MOST_LIST_BYTES // 10**6, "MB"),
        (colour_table.MOST_BYTES // 10**3, "kB"),
    ):
        assert f" {number} {unit}" in section
    assert large_json.MOST_SHORT == folder_walk.MOST_FOLDERS == 10**6
