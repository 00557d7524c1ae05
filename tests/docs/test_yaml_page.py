"""docs/yaml.md shows the modules that there are, and its example is a model."""

from __future__ import annotations

import re

import pytest
import yaml

from models.reference import PAGE, _in_words, describe_arguments, renew_page, row_arguments
from models.registry import lookup, registered
from models.spec import KNOWN_KEYS, parse_spec
from models.table import tabulate_model
from tests.conftest import REPO

TEXT = (REPO / "docs" / "yaml.md").read_text(encoding="utf-8")


def test_page_is_up_to_date():
    assert PAGE == REPO / "docs" / "yaml.md"
    assert renew_page(TEXT) == TEXT, "run python -m models.reference and commit docs/yaml.md"


@pytest.mark.parametrize("name", registered())
def test_every_module_is_on_the_page(name):
    assert f"`{name}`" in TEXT if name.startswith("nn.") else f"### {name}\n" in TEXT


@pytest.mark.parametrize("name", [name for name in registered() if not name.startswith("nn.")])
def test_every_argument_has_its_kind_default_and_meaning(name):
    own = TEXT[TEXT.index(f"### {name}\n") :].partition("\n### ")[0]
    explained = re.findall(r"^- `(\w+)` \(([a-zN ]+)(?:, (.*) unless given)?\): (.+)$", own, flags=re.MULTILINE)
    written = row_arguments(name)[1:-1]
    without_defaults = re.sub(r"(=|: )(\[[^\]]*\]|[^,}]+)", "", written)
    assert [argument for argument, *_ in explained] == re.findall(r"\w+", without_defaults)
    for argument, kind, default, meaning in explained:
        assert kind and len(meaning) > 3
        assert not default or re.search(rf"\b{argument}(=|: ){re.escape(default)}", written)


def test_an_argument_without_a_meaning_is_refused(monkeypatch):
    monkeypatch.setattr(lookup("Conv"), "__doc__", "A convolution.")
    with pytest.raises(ValueError, match="the docstring of Conv does not say what 'c_out' is"):
        describe_arguments("Conv")


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        ("int", "whole number"),
        ("int | list[int] | tuple[int, ...] | None", "whole number or list of whole numbers or None"),
        ("str | None", "word or None"),
        ("list[list[float]] | int", "list of lists of numbers or whole number"),
    ],
)
def test_hints_become_words(hint, words):
    assert _in_words(hint) == words


@pytest.mark.parametrize("key", KNOWN_KEYS)
def test_every_key_is_on_the_page(key):
    keys = TEXT[TEXT.index("## Keys") : TEXT.index("## Rows")]
    assert f"`{key}`" in keys


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Concat", "[dimension=1]"),
        ("C3", "[c_out, shortcut=True, groups=1, expansion=0.5]"),
        ("Detect", "[num_classes, anchors]"),
        ("PyramidPooling", "[sizes=[1, 2, 3, 6]]"),
    ],
)
def test_arguments_leave_out_what_the_graph_fills_in(name, written):
    assert row_arguments(name) == written


def test_example_is_a_model():
    example = re.search(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)[1]
    rows = tabulate_model(parse_spec(yaml.safe_load(example), "example"), (64, 64))
    assert [(row.name, row.stride) for row in rows if row.name] == [("p3", 8), ("segment", 8), ("cars", 16)]
