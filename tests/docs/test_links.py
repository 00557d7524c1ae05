"""Links of all pages lead to files and headings that exist, and docs/README.md leads to every page."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPO

DOCS = REPO / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(REPO / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
INDEX = (DOCS / "README.md").read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(file), f"{page.name}: {target}"


def test_every_page_is_on_the_index() -> None:
    listed = set(re.findall(r"\]\(([\w./]+\.md)\)", INDEX))
    assert listed >= {page.name for page in DOCS.glob("*.md")} - {"README.md"}


def test_modules_of_the_index_are_commands() -> None:
    modules = re.findall(r"^\| `([\w.]+)` \|", INDEX, flags=re.MULTILINE)
    assert len(modules) >= 10
    for module in modules:
        origin = find_spec(f"{module}.__main__") if find_spec(module).submodule_search_locations else find_spec(module)
        assert "__main__" in Path(origin.origin).name or '__name__ == "__main__"' in Path(origin.origin).read_text()
