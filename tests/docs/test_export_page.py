"""docs/export.md: its commands are ones that the parsers take, and what it names exists."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.conftest import REPO
from utils.command_lines import detecting, exporting, testing

PAGE = (REPO / "docs" / "export.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (detect|test|export)\.py (.+)$", PAGE, flags=re.MULTILINE)
PARSERS = {"detect": detecting, "test": testing, "export": exporting}


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_are_ones_that_their_parsers_take(command: str, arguments: str) -> None:
    PARSERS[command].parse_options(shlex.split(arguments, comments=True))


def test_every_option_that_is_named_exists() -> None:
    known = {name for module in PARSERS.values() for name in module.build_parser()._option_string_actions}
    named = set(re.findall(r"`(--[\w-]+)", PAGE))
    assert len(named) >= 10 and named <= known


def test_defaults_are_those_of_the_parser() -> None:
    parser = exporting.build_parser()
    for name, value in re.findall(r"`(--(?:check-images|passes|calibration-images))`[^(|]* \((\d+)\)", PAGE):
        assert parser.get_default(name.removeprefix("--").replace("-", "_")) == int(value)
