"""The tables of ``docs/tutorial_ms_blocks.md``, made from the edits on the page: ``python -m tests.docs.tutorial``.

A ``diff`` block is an edit of the file as it stands after the edits before it. The ``text`` block behind it is what
``python -m models.graph`` prints then, or the message where the edit is a mistake, which is taken back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.spec import find_config, parse_spec
from models.table import format_table, tabulate_model
from utils.errors import ModelError
from utils.yaml_text import parse_yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial_ms_blocks.md"
START, NAME = "yolov5n", "my_model.yaml"
SIZE = (640, 640)
BLOCK = re.compile(r"(?<=^```)(diff|text)\n(.*?)(?=^```$)", flags=re.MULTILINE | re.DOTALL)


@dataclass
class Step:
    """The file after an edit, and what is printed of it.

    Attributes:
        text: of the YAML; that of the step before where the edit was a mistake.
        printed: the table up to its totals, or the message.
        failed: whether it was a mistake.
    """

    text: str
    printed: str
    failed: bool


def apply_edit(text: str, edit: str) -> str:
    """Return the text with the hunks of a ``diff`` block replaced; ``@@`` parts them.

    Raises:
        ValueError: a hunk's old lines are not in the text, or more than once.
    """
    for hunk in re.split(r"^@@\n", edit, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in "- ")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in "+ ")
        if text.count(old) != 1:
            raise ValueError(f"the page changes lines that are there {text.count(old)} times:\n{old}")
        text = text.replace(old, new)
    return text


def printed(text: str) -> str:
    """Return the table of a model YAML up to its totals.

    Raises:
        ModelError: it is no model.
    """
    spec = parse_spec(parse_yaml(text, NAME, ModelError), NAME)
    rows = tabulate_model(spec, SIZE)
    lines = format_table(rows, SIZE).splitlines()
    return "\n".join(lines[: len(rows) + 2])


def walk(page: str) -> list[Step]:
    """Make every edit of the page, one after the other, from the first file on."""
    text = find_config(START).read_text(encoding="utf-8")
    steps: list[Step] = []
    edit = ""
    for kind, content in BLOCK.findall(page):
        if kind == "diff":
            edit = content
            continue
        changed = apply_edit(text, edit) if edit else text
        try:
            steps.append(Step(changed, printed(changed), failed=False))
            text = changed
        except ModelError as error:
            steps.append(Step(text, f"error: {error}", failed=True))
        edit = ""
    return steps


def renew_page(page: str, steps: list[Step]) -> str:
    """Return the page with every ``text`` block made anew of ``walk(page)``."""
    left = iter(steps)
    return BLOCK.sub(lambda found: found[0] if found[1] == "diff" else f"text\n{next(left).printed}\n", page)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(renew_page(text, walk(text)), encoding="utf-8")
