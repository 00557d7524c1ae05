"""docs/data.md names every key of a data YAML, and its first example loads."""

from __future__ import annotations

import re

import pytest

from data import config
from tests.conftest import REPO

TEXT = (REPO / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def load_example(folder, text):
    for entry in re.findall(r"(?:train|val|test|masks): ([\w/]+)", text):
        (folder / entry).mkdir(parents=True, exist_ok=True)
    path = folder / "example.yaml"
    path.write_text(re.sub(r"^path: .*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    return config.load_data_config(path)


@pytest.mark.parametrize("key", sorted({*config._BLOCK_KEYS, *config._FLAT_DETECT, *config._FLAT_SEGMENT}))
def test_every_key_is_on_the_page(key):
    assert re.search(rf"`{key}`|\b{key}:", TEXT)


def test_block_example_loads(tmp_path):
    loaded = load_example(tmp_path, EXAMPLES[0])
    assert loaded.for_head("detect", "detect").names == ["car", "person"]
    assert loaded.for_head("segment", "segment").masks["val"] == tmp_path / "masks"


def test_example_with_two_heads_of_one_task_loads(tmp_path):
    loaded = load_example(tmp_path, EXAMPLES[1])
    assert loaded.for_head("signs", "detect").names == ["stop", "yield"]


def test_embedded_example_is_the_packaged_one():
    packaged = (config.CONFIG_FOLDER / "embedded.yaml").read_text(encoding="utf-8")
    assert all(line in packaged.splitlines() for line in EXAMPLES[2].splitlines())
