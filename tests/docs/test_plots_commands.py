"""Commands of ``python -m utils.plots`` on the pages and in its manuals are ones that its parser takes."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.conftest import REPO
from utils.plots.options import build_parser, parse_options

MANUALS = build_parser()._subparsers._group_actions[0].choices
TEXTS = [path.read_text(encoding="utf-8") for path in (*sorted((REPO / "docs").glob("*.md")), REPO / "README.md")]
TEXTS += [manual.epilog for manual in MANUALS.values()]
COMMANDS = [
    arguments
    for text in TEXTS
    for arguments in re.findall(r"^ *python -m utils\.plots (.+)$", text.replace("\\\n", " "), flags=re.MULTILINE)
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_commands_are_ones_that_the_parser_takes(arguments: str) -> None:
    assert parse_options(shlex.split(arguments, comments=True)).command in MANUALS


def test_every_command_is_shown_and_every_option_has_its_line() -> None:
    assert {arguments.split()[0] for arguments in COMMANDS} == set(MANUALS) and len(COMMANDS) > 12
    assert all(action.help for manual in MANUALS.values() for action in manual._actions)
