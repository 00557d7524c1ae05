"""docs/detect.md: its commands are ones that the parsers take, and what it names exists."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.conftest import REPO
from utils.command_lines import detecting, exporting, testing

PAGE = (REPO / "docs" / "detect.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (detect|test|export)\.py (.+)$", PAGE, flags=re.MULTILINE)
PARSERS = {"detect": detecting, "test": testing, "export": exporting}


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_are_ones_that_their_parsers_take(command, arguments):
    PARSERS[command].parse_options(shlex.split(arguments))


def test_every_option_that_is_named_exists():
    known = {name for module in PARSERS.values() for name in module.build_parser()._option_string_actions}
    named = set(re.findall(r"`(--[\w-]+)", PAGE))
    assert len(named) >= 10 and named <= known


@pytest.mark.parametrize("module", PARSERS.values())
def test_every_option_has_its_line_in_the_help(module):
    parser = module.build_parser()
    assert all(action.help for action in parser._actions)
    assert len(parser.format_help().splitlines()) > 40


def test_files_that_are_named_exist():
    files = re.findall(r"(?:utils/[\w/]+\.py|requirements-\w+\.txt)", PAGE)
    assert len(files) == 3 and all((REPO / file).is_file() for file in files)
