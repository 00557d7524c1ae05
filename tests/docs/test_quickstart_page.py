"""docs/quickstart.md shows the commands that its script runs; docs/machines.md has ones that train.py takes."""

from __future__ import annotations

import re
import shlex

from tests.conftest import REPO
from utils.command_lines import detecting, testing
from utils.training.options import parse_train_options

PARSERS = {"train": parse_train_options, "test": testing.parse_options, "detect": detecting.parse_options}


def page(name: str) -> str:
    return (REPO / "docs" / name).read_text(encoding="utf-8").replace("\\\n", " ")


def script_commands() -> list[list[str]]:
    """Return the commands of the script with its variables filled in, the one of the loop once."""
    text = re.sub(r"\s+#.*$", "", (REPO / "scripts/quickstart.sh").read_text(encoding="utf-8"), flags=re.MULTILINE)
    values = dict(re.findall(r"^([A-Z]+)=([^(\s]+)$", text, flags=re.MULTILINE))
    values |= {
        name: " ".join(value.split())
        for name, value in re.findall(r"^([A-Z]+)=\((.*?)\)$", text, re.DOTALL | re.MULTILINE)
    }
    values["source"] = "$SET/images/val"
    found = []
    for command in re.findall(r'^ *"\$ENV_PYTHON" (.+)$', text, flags=re.MULTILINE):
        for _ in range(3):
            command = re.sub(r"\$\{?(\w+)(?:\[@\]\})?", lambda match: values[match[1]], command)
        found.append(shlex.split(command.replace('"', "")))
    return found


def test_the_page_shows_what_the_script_runs() -> None:
    shown = [
        shlex.split(line)
        for line in re.findall(r"^python (.+--name quickstart.+)$", page("quickstart.md"), re.MULTILINE)
    ]
    assert len(shown) == 3
    for command, ran in zip(shown, script_commands(), strict=True):
        kind = command[0].removesuffix(".py")
        assert ran[0] == command[0]
        assert vars(PARSERS[kind](command[1:])) == vars(PARSERS[kind](ran[1:]))


def test_all_commands_are_ones_that_their_parsers_take() -> None:
    for name in ("quickstart.md", "machines.md", "training.md"):
        for kind, arguments in re.findall(
            r"^(?:torchrun.*? )?(?:python )?(train|test|detect)\.py ?(.*)$", page(name), re.MULTILINE
        ):
            if "MODEL.yaml" not in arguments:
                PARSERS[kind](shlex.split(arguments, comments=True))


def test_options_of_torchrun_exist() -> None:
    from torch.distributed.run import get_args_parser

    known = {option.replace("_", "-") for option in get_args_parser()._option_string_actions}
    named = set()
    for line in re.findall(r"^torchrun (.*?) train\.py", page("machines.md"), re.MULTILINE):
        named |= {word.replace("_", "-") for word in line.split() if word.startswith("--")}
    assert len(named) >= 7 and named <= known
