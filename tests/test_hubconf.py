"""hubconf.py as torch.hub uses it: from any folder, in a process that knows nothing of this program."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import hubconf
from models.api import Model
from models.graph import Graph, load_graph
from models.spec import load_spec
from models.table import tabulate_model
from tests.conftest import REPO
from tests.tiny_detector import make_picture, write_picture, write_weights
from utils.errors import ModelError, UsageError

YOLOV5 = [f"yolov5{size}" for size in ("n", "s", "m", "l", "x", "n6", "s6", "m6", "l6", "x6")]
YOLOX = [f"yolox_{size}" for size in ("nano", "tiny", "s", "m", "l", "x", "darknet53")]
YOLOMS = [f"yoloms{size}" for size in ("_xs", "_s", "", "_xs_se", "_s_se", "_se")]
YOLOV6 = [f"yolov6_{size}" for size in ("n", "t", "s", "t_ms")]
YOLOV8 = [f"yolov8_{size}" for size in ("n", "s", "m", "l", "x", "n_ms")]
YOLOS = [f"yolos_{size}" for size in ("ti", "s", "s_dwr", "b", "s_pe")]
MS_DETR = [f"ms_detr_r50_{size}" for size in ("300", "pp_300", "pp_900", "a_300")] + ["deformable_detr_r50"]
FAMILY = YOLOV5 + YOLOX + YOLOMS + YOLOV6 + YOLOV8 + YOLOS + MS_DETR
WITH_HYPHENS = (*YOLOS, *MS_DETR)
OPTIONAL = ("pandas", "supervision")
OTHER_PIP_NAMES = {"pil": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}


def imported_packages(path: Path) -> set[str]:
    """Return the top-level packages that a source file imports and that are neither Python's nor our own."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not any(part in OPTIONAL for part in (node.module or "").split(".")):
            named.add((node.module or "").split(".")[0])
    return named - sys.stdlib_module_names - {"models", "utils", "data"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def nano(tmp_path_factory) -> Path:
    """A checkpoint of YOLOv5n with random weights."""
    from models.checkpoint import Checkpoint, save_checkpoint

    torch.manual_seed(0)
    graph = load_graph("yolov5n")
    path = tmp_path_factory.mktemp("nano") / "yolov5n.safetensors"
    save_checkpoint(path, Checkpoint("yolov5n.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    return path


def run_elsewhere(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder, where nothing but torch.hub leads to this program."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_hub_loads_from_another_folder(weights, tmp_path):
    write_picture(tmp_path / "bus.png")
    # The caller's own packages of the same names are there, but not imported yet.
    for name in ("models", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    code = f"""
import os, sys
import torch
before = set(sys.modules)
assert not {{"models", "utils", "data"}} & before
model = torch.hub.load({str(REPO)!r}, "custom", {str(weights)!r}, source="local", device="cpu", conf=0.3, size=64)
assert {str(REPO)!r} not in sys.path
results = model("bus.png")
results.print()
print(results.save(masks=True), len(results.crop(save=False)), results.to_json()[:1], len(results.render()))
try:
    results.show()
except Exception as error:
    print(type(error).__name__)
files = [getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before]
print(os.pathsep.join(file for file in files if file and file.startswith({str(REPO) + os.sep!r})))
relative = os.path.relpath({str(REPO)!r})
print(type(torch.hub.load(relative, "custom", path={str(weights)!r}, source="local", autoshape=False)).__name__)
os.chdir("/")
print(type(torch.hub.load({str(REPO)!r}, "yolov5n", False, source="local")).__name__)
"""
    done = run_elsewhere(tmp_path, code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("image 1/1 bus.png: 64x64, ")
    assert lines[2].startswith(f"{Path('runs/hub/exp')} ") and lines[2].endswith(" [ 1")
    assert lines[3] == "RunError" and lines[5:] == ["Graph", "Model"]
    assert (tmp_path / "runs" / "hub" / "exp" / "bus.png").is_file()
    files = [Path(line) for line in lines[4].split(os.pathsep)]
    ours = [path for path in files if path.relative_to(REPO).parts[0] in ("models", "utils", "data")]
    assert {"api.py", "detect.py", "letterbox.py"} <= {path.name for path in ours}
    needed = set().union(*map(imported_packages, ours))
    assert {"cv2", "yaml", "torchvision"} <= needed | {"torchvision"} <= set(hubconf.dependencies)


def test_dependencies_are_among_the_requirements():
    lines = (REPO / "requirements.txt").read_text(encoding="utf-8").lower().splitlines()
    required = {match[0] for line in lines if (match := re.match(r"[a-z][\w-]*", line))}
    assert {OTHER_PIP_NAMES.get(name.lower(), name.lower()) for name in hubconf.dependencies} <= required


def test_a_foreign_package_of_our_name_is_one_sentence(weights, tmp_path):
    names = ["models", "utils", "data"]
    for name in names:
        (tmp_path / f"{name}.py").touch()
    code = f"""
import importlib, sys
import torch
for name in {names}:
    importlib.import_module(name)
    try:
        torch.hub.load({str(REPO)!r}, "custom", {str(weights)!r}, source="local")
    except ImportError as error:
        print(error)
    del sys.modules[name]
"""
    done = run_elsewhere(tmp_path, code)
    assert done.returncode == 0, done.stderr
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"yolograph has a package '{name}', but another one of that name is imported already")
        assert str(tmp_path / f"{name}.py") in line


def test_the_entry_points_are_these_and_no_others():
    public = {name for name in vars(hubconf) if not name.startswith("_")}
    assert {name for name in public if callable(getattr(hubconf, name))} == {"custom", *FAMILY}
    assert [getattr(hubconf, name).__name__ for name in FAMILY] == FAMILY
    assert all("Args:" in (getattr(hubconf, name).__doc__ or "") for name in ("custom", *FAMILY))


@pytest.mark.parametrize("name", ["yolov5n", "yolov5s6", "yoloms_xs", "yolov6_t_ms", "yolov8_n", "yolos_ti"])
def test_a_fresh_model_is_the_one_of_its_yaml(name):
    graph = getattr(hubconf, name)(pretrained=False, autoshape=False, device="cpu")
    assert isinstance(graph, Graph) and not graph.training
    config = name.replace("_", "-") if name in WITH_HYPHENS else name
    expected = sum(row.params for row in tabulate_model(load_spec(config)))
    assert sum(parameter.numel() for parameter in graph.parameters()) == expected


@pytest.mark.parametrize("name", FAMILY)
def test_every_model_of_the_family_has_a_yaml(name):
    config = name.replace("_", "-") if name in WITH_HYPHENS else name
    assert load_spec(config).source.startswith(config)


def test_classes_and_channels_are_those_asked_for():
    graph = hubconf.yolov5n(pretrained=False, channels=4, classes=7, autoshape=False, device="cpu")
    raw = graph(torch.zeros(1, 4, 64, 64))["detect"]
    assert raw[0].shape == (1, 3, 8, 8, 12)
    model = hubconf.yolov5n(pretrained=False, classes=7, device="cpu", _verbose=False)
    assert isinstance(model, Model) and len(model.names) == 7
    assert len(model(make_picture(), size=64)) == 1


def test_weights_are_taken_as_they_are(nano):
    graph = hubconf.yolov5n(pretrained=nano, autoshape=False, device="cpu")
    torch.manual_seed(0)
    expected = load_graph("yolov5n").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in graph.state_dict().items())
    assert isinstance(hubconf.yolov5n(str(nano), device="cpu"), Model)


def test_weights_that_do_not_fit_are_named(nano, caplog):
    whole = hubconf.yolov5n(nano, autoshape=False, device="cpu").state_dict()
    graph = hubconf.yolov5n(nano, classes=5, autoshape=False, device="cpu")
    differing = {name for name, value in graph.state_dict().items() if value.shape != whole[name].shape}
    assert all(torch.equal(v, whole[n]) for n, v in graph.state_dict().items() if n not in differing)
    assert len(differing) == 6 and all(name in caplog.text for name in differing)


def test_pretrained_true_says_where_weights_come_from():
    for name in FAMILY:
        with pytest.raises(UsageError) as caught:
            getattr(hubconf, name)()
        file = f"{name}.pt" if name in YOLOV5 else f"{name}.pth"
        assert f"pretrained='path/to/{file}'" in str(caught.value) and "nothing is downloaded" in str(caught.value)


def test_wrong_calls_are_one_sentence(nano, weights):
    with pytest.raises(UsageError, match="pretrained must be the path of weights, or False, but is None"):
        hubconf.yolov5n(pretrained=None)
    with pytest.raises(ModelError, match=r"yolov5n.safetensors: holds another model than yolov5s; load it with custom"):
        hubconf.yolov5s(pretrained=nano, device="cpu")
    with pytest.raises(ModelError, match="holds another model than yolov5n6"):
        hubconf.yolov5n6(pretrained=nano, device="cpu")
    with pytest.raises(UsageError, match="normalised by the mean of 3 channels, so channels cannot be 1"):
        hubconf.yolos_ti(pretrained=False, channels=1, autoshape=False)
    with pytest.raises(UsageError, match="pictures have 3 channels; with channels=1 give autoshape=False too"):
        hubconf.yolov5n(pretrained=False, channels=1)
    with pytest.raises(UsageError, match="bare graph of one checkpoint"):
        hubconf.custom([weights, weights], autoshape=False)
    with pytest.raises(UsageError, match="give no other setting"):
        hubconf.custom(weights, autoshape=False, conf=0.1)
    with pytest.raises(UsageError, match="device tpu"):
        hubconf.yolov5n(pretrained=False, device="tpu")


def test_the_same_size_with_attention_is_another_model(tmp_path):
    from models.checkpoint import Checkpoint, save_checkpoint

    graph = load_graph("yoloms_xs_se")
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, Checkpoint("yoloms_xs_se.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    assert isinstance(hubconf.yoloms_xs_se(path, autoshape=False, device="cpu"), Graph)
    with pytest.raises(ModelError, match="holds another model than yoloms_xs;"):
        hubconf.yoloms_xs(path, autoshape=False, device="cpu")


def test_sizes_of_a_transformer_are_told_apart(tmp_path):
    from models.checkpoint import Checkpoint, save_checkpoint

    spec = load_spec("yolos-ti").with_values(pe_size=[64, 96])
    graph = Graph(spec)
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, Checkpoint("yolos-ti.yaml", spec.text, graph.names, {"model": graph.state_dict()}))
    assert isinstance(hubconf.yolos_ti(path, device="cpu"), Model)
    changed = hubconf.yolos_ti(path, classes=2, autoshape=False, device="cpu")
    assert changed.heads["detect"].num_classes == 2
    assert torch.equal(changed.state_dict()["model.1.3.fc1.weight"], graph.state_dict()["model.1.3.fc1.weight"])
    with pytest.raises(ModelError, match="holds another model than yolos_s;"):
        hubconf.yolos_s(path, device="cpu")


def test_kinds_of_deformable_transformers_are_told_apart_by_what_stays_in_training():
    kinds = {name: hubconf._kind(load_spec(name.replace("_", "-"))) for name in MS_DETR}
    assert len(set(kinds.values())) == len(MS_DETR)
    for name, kind in kinds.items():
        assert hubconf._kind(load_spec(name.replace("_", "-")).with_values(nc=3, dropout=0.3)) == kind


def test_custom_takes_the_settings_of_load(weights):
    model = hubconf.custom(weights, device="cpu", conf=0.6, size=64)
    assert (model.conf, model.size) == (0.6, 64)
    assert isinstance(hubconf.custom([weights, weights], device="cpu"), Model)


def test_own_packages_are_recognised_wherever_they_come_from(monkeypatch):
    hubconf._require_own_packages()
    monkeypatch.setitem(sys.modules, "utils", types.ModuleType("utils"))
    with pytest.raises(ImportError, match=r"another one of that name is imported already \(of no file\)"):
        hubconf._require_own_packages()
