"""docs/python.md: its code runs, in order, and every method and setting is on it."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from models.api import Model, load
from models.results import ImageResult, Results
from tests.conftest import REPO
from tests.tiny_detector import write_picture, write_weights
from utils.annotate import Style

TEXT = (REPO / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
SETTINGS = re.findall(r"^\| `(\w+)` \| ([\w.]+) \| (.+) \|$", TEXT, flags=re.MULTILINE)
NEEDS_PACKAGES = "to_pandas"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the files that the page names, and a display that takes everything."""
    for name in ("yolov5n.pt", "best.safetensors"):
        write_weights(tmp_path / name, spread=10.5, bias=-1.0)
    for seed, name in enumerate(("bus.jpg", "zidane.jpg")):
        write_picture(tmp_path / name, (108, 81 + seed), seed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.results.show_pictures", lambda images, titles: None)
    return tmp_path


def run_blocks(with_packages: bool) -> dict[str, object]:
    names: dict[str, object] = {}
    for block in BLOCKS:
        if with_packages or NEEDS_PACKAGES not in block:
            code = block.replace('"path/to/yolograph"', repr(str(REPO)))
            exec(compile(code, "docs/python.md", "exec"), names)
    return names


def test_the_code_runs(folder):
    names = run_blocks(with_packages=False)
    assert [result.name for result in names["results"]] == ["bus.jpg", "zidane.jpg"]
    assert sorted(path.name for path in (folder / "runs" / "hub").iterdir()) == ["exp", "exp2"]
    assert names["folder"].name == "found" and (folder / "found" / "labels" / "bus.txt").is_file()
    assert (folder / "runs" / "hub" / "exp2" / "crops").is_dir()
    assert 0 < len(names["crops"]) < 200 and type(names["graph"]).__name__ == "Graph"
    assert names["model"].conf == 0.4 and len(names["fresh"].names) == 5


def test_the_code_with_optional_packages_runs(folder):
    for package in ("pandas", "supervision"):
        pytest.importorskip(package, reason=f"needs {package}: pip install -r requirements-results.txt")
    names = run_blocks(with_packages=True)
    columns = re.search(r"to_pandas\(\)\[0\] +# (.+)", TEXT)[1].split()
    assert list(names["frame"].columns) == columns
    assert len(names["detections"]) == len(names["frame"])


def test_every_setting_has_its_default():
    arguments = inspect.signature(load).parameters
    fields = [field for field in dataclasses.fields(Model) if field.name != "inference"]
    assert [name for name, _, _ in SETTINGS] == [field.name for field in fields]
    for field, (_, default, _) in zip(fields, SETTINGS, strict=True):
        assert str(field.default) == default and arguments[field.name].default == field.default
    assert set(arguments) == {"weights", "device", "deploy", *(field.name for field in fields)}


@pytest.mark.parametrize("kind", [Model, Results, ImageResult])
def test_every_public_name_is_on_the_page(kind):
    inherited = {"count", "index", "objects"}
    for name in vars(kind):
        if not name.startswith("_") and name not in inherited:
            assert re.search(rf"\b{name}\b", TEXT), f"{kind.__name__}.{name} is not on the page"


def test_style_has_the_fields_of_the_page():
    given = re.search(r"style=Style\((.+?)\)", TEXT)[1]
    assert re.findall(r"(\w+)=", given) == [field.name for field in dataclasses.fields(Style)]
