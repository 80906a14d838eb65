"""Links between the pages, and the tables of the architecture page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?://|#)[^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_the_page_of_notebooks_leads_to_every_notebook() -> None:
    """That every page is in the site's navigation is checked by the build (`make docs`)."""
    page = ROOT / "docs" / "notebooks.md"
    linked = {(page.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)", page.read_text())}
    assert set((ROOT / "notebooks").glob("*.ipynb")) <= linked


def test_the_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`(\w+(?:\.py|/))`", text):
        assert list((ROOT / "nbtasks").rglob(name.rstrip("/"))), name


def test_the_architecture_has_each_of_its_names_once() -> None:
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()
    named = [name for line in lines if line.startswith("| `") for name in re.findall(r"`[\w.]+/?`", line.split("|")[1])]
    assert [name for name in set(named) if named.count(name) > 1] == []


@pytest.mark.parametrize("package", ["", "notebook"])
def test_the_architecture_has_every_module_and_package(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folder = ROOT / "nbtasks" / package
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert {name for name in modules | packages if f"`{name}`" not in text} == set()
