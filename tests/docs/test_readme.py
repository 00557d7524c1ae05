"""The numbers, files and the error message of README.md are true."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from models.spec import CONFIG_ROOT, load_spec
from models.table import tabulate_model
from tests.conftest import REPO
from utils.errors import ModelError

TEXT = (REPO / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (\w+)\.py (.+)$", TEXT, flags=re.MULTILINE)


def test_error_example_is_what_the_command_says(tmp_path):
    text = (CONFIG_ROOT / "yolov5" / "yolov5s.yaml").read_text(encoding="utf-8")
    wrong = tmp_path / "my_model.yaml"
    wrong.write_text(text.replace("[[-1, 6], 1, Concat, [1]]", "[[-1, 4], 1, Concat, [1]]", 1), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        tabulate_model(load_spec(wrong))
    assert f"error: {caught.value}" in TEXT.splitlines()


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_are_ones_that_their_parsers_take(command, arguments, monkeypatch):
    # The top-level test.py shares its name with a module of the standard library, so files are loaded by path.
    spec = spec_from_file_location(f"readme_{command}", REPO / f"{command}.py")
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    parse = module.parse_train_options if command == "train" else module.parse_options
    parse(shlex.split(arguments, comments=True))


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert len(targets) > 6
    assert all((REPO / target).exists() for target in targets)
