"""docs/yaml.md shows the modules that there are, and its example is a model."""

from __future__ import annotations

import re

import pytest
import yaml

from models.reference import PAGE, renew_page, row_arguments
from models.registry import registered
from models.spec import KNOWN_KEYS, parse_spec
from models.table import tabulate_model
from tests.conftest import REPO

TEXT = (REPO / "docs" / "yaml.md").read_text(encoding="utf-8")


def test_page_is_up_to_date():
    assert PAGE == REPO / "docs" / "yaml.md"
    assert renew_page(TEXT) == TEXT, "run python -m models.reference and commit docs/yaml.md"


@pytest.mark.parametrize("name", registered())
def test_every_module_is_on_the_page(name):
    assert f"`{name}`" in TEXT if name.startswith("nn.") else f"### {name}\n" in TEXT


@pytest.mark.parametrize("name", ["MSDETRDecoder", "TwoStageQueries", "YOLOXPose"])
def test_arguments_are_explained_whatever_follows_them(name):
    own = TEXT[TEXT.index(f"### {name}\n") :].partition("\n### ")[0]
    explained = re.findall(r"^- `(\w+)`: ", own, flags=re.MULTILINE)
    assert explained and set(explained) <= set(re.findall(r"\w+", row_arguments(name)))


@pytest.mark.parametrize("key", KNOWN_KEYS)
def test_every_key_is_on_the_page(key):
    keys = TEXT[TEXT.index("## Keys") : TEXT.index("## Rows")]
    assert f"`{key}`" in keys


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Concat", "[dimension=1]"),
        ("C3", "[c_out, shortcut=True, groups=1, expansion=0.5]"),
        ("Detect", "[num_classes, anchors]"),
        ("PyramidPooling", "[sizes=[1, 2, 3, 6]]"),
    ],
)
def test_arguments_leave_out_what_the_graph_fills_in(name, written):
    assert row_arguments(name) == written


def test_example_is_a_model():
    example = re.search(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)[1]
    rows = tabulate_model(parse_spec(yaml.safe_load(example), "example"), (64, 64))
    assert [(row.name, row.stride) for row in rows if row.name] == [("p3", 8), ("segment", 8), ("cars", 16)]
