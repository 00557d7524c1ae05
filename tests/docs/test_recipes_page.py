"""docs/recipes.md holds every recipe key with its default, and no other."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.conftest import REPO
from utils.recipe import DEFAULTS, RECIPE_FOLDER
from utils.recipe_ranges import HEAD_GAIN, RANGES

PAGE = (REPO / "docs" / "recipes.md").read_text(encoding="utf-8")
KEYS, SEARCH = PAGE.split("\n## Search\n")
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+?) \|$", KEYS, flags=re.MULTILINE)
RANGE_ROWS = re.findall(r"^\| `([\w.]+)` \| (\S+) \| (\S+) \| (\w+) \| (\w+) \| (.+?) \|$", SEARCH, flags=re.MULTILINE)


def test_every_key_has_exactly_one_row():
    assert sorted(key for key, _, _ in ROWS) == sorted(DEFAULTS)


@pytest.mark.parametrize(("key", "default", "meaning"), ROWS)
def test_row_gives_the_default(key, default, meaning):
    value = None if default == "None" else yaml.safe_load(default)
    assert value == DEFAULTS[key]
    assert len(meaning) > 5


def test_packaged_recipes_are_on_the_page():
    table = PAGE.split("| file in `data/hyps` | for |")[1].split("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w.-]+)`", row.split("|")[1])}
    assert listed == {path.stem for path in RECIPE_FOLDER.glob("*.yaml")}


def test_every_range_of_the_search_is_on_the_page():
    ranges = {**RANGES, "gains.HEAD": HEAD_GAIN}
    assert [row[0] for row in RANGE_ROWS] == list(ranges)
    for (name, low, high, steps, heads, usual), found in zip(RANGE_ROWS, ranges.values(), strict=True):
        assert (float(low), float(high), steps == "factors") == (found.low, found.high, found.log), name
        assert usual.startswith("yes") == found.usual
        assert heads == (found.needs or ("several" if found is HEAD_GAIN else "any"))
        if found.only_if is not None:
            assert f"`{found.only_if[0]}` is {' or '.join(map(str, found.only_if[1]))}" in usual
