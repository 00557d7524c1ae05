"""The tables of models in docs/models.md and README.md are true, and the first is complete."""

from __future__ import annotations

import re

import pytest

from models.blank_rows import BlankRows
from models.spec import CONFIG_ROOT, load_spec
from models.trace import trace_rows
from tests.conftest import REPO

ROW = re.compile(r"^\| `([\w-]+)` \| ([\w ,().]+) \| ([\d,]+) \| ([\d.]+) \|$", flags=re.MULTILINE)
TEXT = (REPO / "docs" / "models.md").read_text(encoding="utf-8")
PAGE = ROW.findall(TEXT)
FIGURES = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.+?) \| (\w+) \| (.+?) \|$", TEXT, flags=re.MULTILINE)
RESULTS = (REPO / "docs" / "results.md").read_text(encoding="utf-8")
WEIGHTS = (REPO / "docs" / "weights.md").read_text(encoding="utf-8")
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


def test_every_figure_is_published_or_measured() -> None:
    assert {kind for *_, kind, _ in FIGURES} == {"published", "measured"}
    assert {name for name, *_ in FIGURES} <= {path.stem for path in CONFIG_ROOT.rglob("*.yaml")}
    table = TEXT[TEXT.index("| model | on |") :].split("\n\n")[0]
    assert len(table.splitlines()) == 2 + len(FIGURES)


@pytest.mark.parametrize("row", [row for row in FIGURES if row[3] == "measured"], ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_measured_figure_stands_under_its_heading_with_its_command(row: tuple[str, ...]) -> None:
    anchor = re.search(r"\(results\.md#([\w-]+)\)", row[4])[1]
    sections = re.split(r"^## ", RESULTS, flags=re.MULTILINE)
    section = next(
        text for text in sections if re.sub(r"[^\w\- ]", "", text.split("\n")[0].lower()).replace(" ", "-") == anchor
    )
    assert re.search(r"python (-m )?\w+|bash scripts", section)
    for number in re.findall(r"[\d.]+", row[2].replace("AP50", "")):
        assert number in section, number


@pytest.mark.parametrize("row", [row for row in FIGURES if row[3] == "published"], ids=lambda row: row[0])
def test_a_published_figure_is_that_of_the_page_of_weights(row: tuple[str, ...]) -> None:
    figure = re.search(r"([\d.]+) %", row[2])[1]
    rows = re.findall(rf"^\| `{re.escape(row[0])}` \|.*$", WEIGHTS, flags=re.MULTILINE)
    assert bool(rows) == ("weights.md" in row[4])
    assert all(re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", line) for line in rows)
