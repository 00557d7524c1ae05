"""docs/explain.md: its commands are ones that the parser takes, and what it names exists."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

import pytest

from tests.conftest import REPO
from utils.explain.options import build_parser, parse_options
from utils.explain.token_table import TokenTable

PAGE = (REPO / "docs" / "explain.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m utils\.explain (.+)$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_commands_are_ones_that_the_parser_takes(arguments: str) -> None:
    assert parse_options(shlex.split(arguments)).command in ("attention", "tokens")


def test_every_option_that_is_named_exists_and_has_its_line_in_the_help() -> None:
    parsers = build_parser()._subparsers._group_actions[0].choices
    known = {name for parser in parsers.values() for name in parser._option_string_actions}
    named = set(re.findall(r"`(--[\w-]+)", PAGE))
    assert len(named) >= 8 and named <= known
    assert all(action.help for parser in parsers.values() for action in parser._actions)


def test_every_array_of_the_file_is_described() -> None:
    table = PAGE[PAGE.index("| array |") :]
    assert all(f"`{entry.name}`" in table for entry in fields(TokenTable))
