"""The tables of models in docs/models.md and README.md are true, and the first is complete."""

from __future__ import annotations

import re

import pytest

from models.blank_rows import BlankRows
from models.spec import CONFIG_ROOT, load_spec
from models.trace import trace_rows
from tests.conftest import REPO

ROW = re.compile(r"^\| `([\w-]+)` \| ([\w ,().]+) \| ([\d,]+) \| ([\d.]+) \|$", flags=re.MULTILINE)
PAGE = ROW.findall((REPO / "docs" / "models.md").read_text(encoding="utf-8"))
README = (REPO / "README.md").read_text(encoding="utf-8")


def test_every_model_of_the_zoo_is_listed_once() -> None:
    assert sorted(name for name, *_ in PAGE) == sorted(path.stem for path in CONFIG_ROOT.rglob("*.yaml"))


@pytest.mark.parametrize(("name", "heads", "parameters", "gflops"), PAGE)
def test_a_model_has_the_numbers_of_the_table(name: str, heads: str, parameters: str, gflops: str) -> None:
    # Not `tabulate_model`, which counts by a second convention, too; models/test_configs.py has it for every model.
    model = BlankRows(load_spec(name))
    rows = trace_rows(model.spec, list(model.model), (640, 640))
    assert f"{sum(row.parameters for row in rows):,}" == parameters
    assert f"{sum(row.flops for row in rows) / 1e9:.2f}" == gflops
    assert model.heads and all(head in heads for head in model.heads)


def test_the_readme_repeats_rows_of_the_page() -> None:
    shown = ROW.findall(README)
    assert len(shown) > 5 and set(shown) <= set(PAGE)
    assert f"all {len(PAGE)} YAMLs" in README
