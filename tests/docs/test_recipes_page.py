"""docs/recipes.md holds every recipe key with its default, and no other."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.conftest import REPO
from utils.recipe import DEFAULTS, RECIPE_FOLDER

PAGE = (REPO / "docs" / "recipes.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+?) \|$", PAGE, flags=re.MULTILINE)


def test_every_key_has_exactly_one_row():
    assert sorted(key for key, _, _ in ROWS) == sorted(DEFAULTS)


@pytest.mark.parametrize(("key", "default", "meaning"), ROWS)
def test_row_gives_the_default(key, default, meaning):
    value = None if default == "None" else yaml.safe_load(default)
    assert value == DEFAULTS[key]
    assert len(meaning) > 5


def test_packaged_recipes_are_on_the_page():
    listed = set(re.findall(r"^\| `(hyp\.\w+)` \|", PAGE, flags=re.MULTILINE))
    assert listed == {path.stem for path in RECIPE_FOLDER.glob("*.yaml")}
