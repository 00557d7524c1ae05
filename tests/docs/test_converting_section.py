"""docs/data.md names every format and every option of data.convert, and every option of a labelme set."""

from __future__ import annotations

import re

import pytest

from data.convert.__main__ import parser
from data.convert.format_names import format_names
from data.formats.registry import PICTURE_FORMATS, SPLIT_FORMATS
from tests.conftest import REPO

TEXT = (REPO / "docs/data.md").read_text(encoding="utf-8")
CONVERTING = TEXT.split("\n## Converting\n")[1].split("\n## ")[0]
OPTIONS = [action.option_strings[-1] for action in parser()._actions]
WORDS = {
    "outlines": "outlines",
    "keypoints": "keypoints",
    "crowd": "crowds",
    "difficult": "difficult",
    "areas": "areas",
}


@pytest.mark.parametrize("option", sorted({*OPTIONS} - {"--help", "--link"}))
def test_every_option_is_in_the_section(option: str) -> None:
    assert re.search(rf"`[^`]*{option}\b", CONVERTING)


def test_every_format_has_a_row_that_says_what_it_keeps() -> None:
    objects, masks = format_names()
    tables = [line for line in CONVERTING.splitlines() if line.startswith("| `")]
    rows = {name: line for line in tables for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert {*objects, *masks} <= set(rows)
    for name, form in {**PICTURE_FORMATS, **SPLIT_FORMATS}.items():
        said = rows[name].split("|")[3]
        assert {key for key, word in WORDS.items() if word in said} == set(form.keeps), name
