"""A file of export.py finds the objects of a picture in a process without PyTorch, by the code of docs/export.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from export import main
from tests.conftest import REPO
from tests.square_finder import write_square_finder, write_squares

SECTION = (REPO / "docs" / "export.md").read_text(encoding="utf-8").partition("## Without PyTorch\n")[2]
CANDIDATES, OBJECTS, OPENVINO = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
ASSERT = """
import sys
foreign = {"torch", "torchvision", "models", "utils", "data"} & set(sys.modules)
assert not foreign, foreign
"""

# The network sees them at half the size and 16 pixels further down.
SQUARES = [("green", (32, 16, 80, 64)), ("red", (128, 64, 176, 112)), ("blue", (96, 0, 144, 48))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and the picture that the page names."""
    folder = tmp_path_factory.mktemp("alone")
    weights = write_square_finder(folder / "best.safetensors")
    write_squares(folder / "street.png", (128, 192), SQUARES)
    arguments = ["--weights", str(weights), "--img-size", "96"]
    main([*arguments, "--source", str(folder / "street.png")])
    main([*arguments, "--nms", "--embed-input", "--skip-check", "--output", str(folder / "objects.onnx")])
    return folder


def run_alone(code: str, folder: Path) -> list[str]:
    """Run code in a fresh process, which may import neither PyTorch nor the project; return what it prints, by line."""
    command = [sys.executable, "-c", code + ASSERT]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_files_find_the_objects_of_a_picture(folder: Path) -> None:
    lines = run_alone(f"{CANDIDATES}\nprint('objects')\n{OBJECTS}", folder)
    middle = lines.index("objects")
    for part in (lines[:middle], lines[middle + 1 :]):
        found = [re.fullmatch(r"(\w+) (\d\.\d+) at (-?\d+) (-?\d+) (-?\d+) (-?\d+)", line).groups() for line in part]
        assert sorted((name, tuple(map(int, box))) for name, _, *box in found) == sorted(SQUARES)
        assert all(float(confidence) > 0.9 for _, confidence, *_ in found)


def test_the_model_of_openvino_opens_as_the_page_says(folder: Path) -> None:
    pytest.importorskip("openvino", reason="for models of OpenVINO: pip install openvino")
    main(["--weights", str(folder / "best.safetensors"), "--img-size", "96", "--include", "openvino", "--skip-check"])
    lines = run_alone(f"{OPENVINO}\nprint(*(output.get_any_name() for output in model.outputs))", folder)
    assert lines == ["detect_boxes detect_scores detect_objectness"]
