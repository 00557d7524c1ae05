"""export.py as a user calls it: a file that ONNX Runtime runs alone, equal to the model, or no file at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from data.transforms.letterbox import LetterboxRule
from export import export, main, parse_options
from models.checkpoint import Checkpoint, save_checkpoint
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.spec import parse_spec
from models.weights import load_model
from tests.conftest import REPO
from tests.lively import lively
from utils.errors import ExportError, UsageError, run_command
from utils.export.agreement import check_images, compare_onnx, judge
from utils.export.exported_graph import ExportedGraph
from utils.export.onnx_model import build_onnx, require_opset

MODEL = """
nc: 3
n_segcls: 4
width_multiple: 0.125
input: {scale: 255, mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3]}
anchors:
  - [4, 5, 8, 10, 13, 9]
  - [12, 25, 25, 18, 24, 48]
  - [48, 36, 64, 80, 96, 70]
backbone:
  - [-1, 1, Conv, [64, 6, 4, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, SPPF, [128, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [[1, 6, 4], 1, SegMaskPSP, [n_segcls, 1, 64], psp]
  - [[1], 1, SegMaskBase, [n_segcls, 1, 64], base]
  - [[1, 6], 1, SegMaskLab, [n_segcls, 1, 64], lab]
  - [[1, 6, 4], 1, SegMaskBiSe, [n_segcls, 1, 64], bise]
  - [[1, 6, 4], 1, Detect, [nc, anchors], street]
"""
OPEN_SIDES = """
nc: 3
n_segcls: 4
width_multiple: 0.125
input: {scale: 255, mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3]}
anchors:
  - [4, 5, 8, 10, 13, 9]
  - [12, 25, 25, 18, 24, 48]
backbone:
  - [-1, 1, Conv, [64, 6, 8, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[0, 1, 2], 1, SegMaskPSP, [n_segcls, 1, 64], psp]
  - [[0], 1, SegMaskBase, [n_segcls, 1, 64], base]
  - [[0, 1], 1, Detect, [nc, anchors], street]
"""
"""With open sides, every row takes its time; those of a neck are in utils/export/test_yolox_files.py."""
ONE_HEAD = """
nc: 3
width_multiple: 0.125
anchors: [[4, 5, 8, 10, 13, 9]]
backbone:
  - [-1, 1, Conv, [64, 3, 8]]
head:
  - [-1, 1, Detect, [nc, anchors], street]
"""
"""Enough for what goes wrong in any model; the larger one takes thrice as long to be translated."""
LOGITS = ["psp_logits", "base_logits", "lab_logits", "bise_logits"]
OUTPUTS = [*LOGITS, "street_boxes", "street_scores", "street_objectness"]
NAMES = ["car", "person", "traffic sign"]

ALONE = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = json.loads(session.get_modelmeta().custom_metadata_map["names"])
outputs = [output.name for output in session.get_outputs()]
values = session.run(outputs, {"images": np.load(sys.argv[2])})
np.savez(sys.argv[3], **dict(zip(outputs, values)))
print(json.dumps({"torch": "torch" in sys.modules, "names": names["street"]}))
"""


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python command from the project's folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=600, check=False)


def lively_graph(text: str = MODEL) -> Graph:
    """Return a graph whose every output depends on its input, as a trained one's does."""
    torch.manual_seed(0)
    graph = Graph(parse_spec(yaml.safe_load(text), "tiny.yaml")).eval()
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.02, 0.1)
    graph.names["street"] = list(NAMES)
    return graph


def write_weights(folder: Path, graph: Graph) -> Path:
    path = folder / "best.safetensors"
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("model"), lively_graph())


@pytest.fixture(scope="module")
def one_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a model of two rows."""
    return write_weights(tmp_path_factory.mktemp("one_head"), lively_graph(ONE_HEAD))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of another aspect than the network's input."""
    path = tmp_path_factory.mktemp("picture") / "street.png"
    rows, columns = np.mgrid[:90, :70]
    cv2.imwrite(str(path), np.stack((rows * 2, columns * 3, (rows * columns) % 251), -1).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, picture: Path) -> tuple[Path, str]:
    """The file that the command writes beside the checkpoint, and what it prints."""
    done = call("export.py", "--weights", weights, "--img-size", 64, 96, "--batch-size", 2, "--source", picture)
    assert done.returncode == 0, done.stderr
    return weights.with_suffix(".onnx"), done.stdout


def images(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (batch, 3, height, width), np.uint8)


def test_the_difference_of_every_output_is_printed(exported: tuple[Path, str]) -> None:
    path, printed = exported
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.split()[:1]}
    assert [name for name in rows if name in OUTPUTS] == OUTPUTS
    assert rows["street_boxes"][1] == "2x378x4"
    assert rows["psp_logits"][1] == "2x4x64x96"
    assert all(0 < float(rows[name][3]) <= 1e-4 for name in OUTPUTS)
    assert f"wrote {path}" in printed
    assert [file.name for file in sorted(path.parent.iterdir())] == ["best.onnx", "best.safetensors"]


def test_the_file_describes_itself(exported: tuple[Path, str]) -> None:
    import onnx

    model = onnx.load(exported[0])
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["graph"] == load_model(exported[0].with_suffix(".safetensors")).spec.text
    assert told["yolograph"].count(".") == 2
    values = {key: json.loads(value) for key, value in told.items() if key not in ("graph", "yolograph")}
    assert values["stride"] == 32
    assert values["image_size"] == [64, 96]
    assert values["batch_size"] == 2
    assert values["dynamic"] is False
    assert values["opset"] == next(entry.version for entry in model.opset_import if entry.domain == "")
    assert values["names"] == {
        "street": NAMES,
        **{head: ["0", "1", "2", "3"] for head in ("psp", "base", "lab", "bise")},
    }
    assert values["heads"]["street"] == {"task": "detect", "outputs": OUTPUTS[-3:]}
    assert values["heads"]["lab"] == {"task": "segment", "outputs": ["lab_logits"]}
    normalised = {"channels": "RGB", "scale": 255.0, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    assert values["input"]["normalised_inside_by"] == normalised
    usual = {"shrink": "linear", "margin": 0.0, "group": 1, "fit": "longest", "limit": LetterboxRule().limit}
    assert values["input"]["letterbox"] == {"anchor": "center", "square": False, "pad": 114, **usual}
    assert values["deployed"] is False
    assert (values["input"]["colour"], values["input"]["dtype"], values["input"]["multiple_of"]) == ("RGB", "uint8", 32)
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_the_file_tells_nothing_about_the_machine(exported: tuple[Path, str]) -> None:
    content = exported[0].read_bytes()
    assert str(REPO).encode() not in content
    assert sys.prefix.encode() not in content


def test_the_file_runs_without_torch_and_finds_the_same(exported: tuple[Path, str], tmp_path: Path) -> None:
    pixels = images(2, 64, 96)
    np.save(tmp_path / "images.npy", pixels)
    done = call("-c", ALONE, exported[0], tmp_path / "images.npy", tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"torch": False, "names": NAMES}
    graph = load_model(exported[0].with_suffix(".safetensors"))
    with torch.inference_mode():
        raw = graph(torch.from_numpy(pixels))
        expected = {name: head.predict(raw[name], (64, 96)) for name, head in graph.heads.items()}
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["street_boxes"], expected["street"].boxes, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found["street_scores"], expected["street"].scores, atol=1e-5)
    np.testing.assert_allclose(found["street_objectness"], expected["street"].objectness, atol=1e-5)
    for name in LOGITS:
        logits = expected[name.removesuffix("_logits")].logits.numpy()
        assert np.ptp(logits) > 0
        np.testing.assert_allclose(found[name], logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize(("head", "parameter"), [("street", "m.0.weight"), ("base", "m.3.weight")])
def test_a_model_that_is_another_one_is_noticed(exported: tuple[Path, str], head: str, parameter: str) -> None:
    graph = load_model(exported[0].with_suffix(".safetensors"))
    with torch.no_grad():
        graph.heads[head].get_parameter(parameter).mul_(1.01)
    differences = compare_onnx(exported[0], ExportedGraph(graph, graph.heads), {"noise": images(2, 64, 96)})
    assert {name.partition("_")[0] for name, found in differences.items() if found.relative > 1e-4} == {head}
    with pytest.raises(ExportError, match=f"output '{head}_.*on noise, more than --tolerance 0.0001"):
        judge(differences, 1e-4)


def test_a_dynamic_file_takes_any_batch_and_size(picture: Path, tmp_path: Path) -> None:
    import onnxruntime

    weights = write_weights(tmp_path, lively_graph(OPEN_SIDES))
    arguments = ["--weights", str(weights), "--img-size", "60", "--dynamic", "--heads", "street", "psp"]
    [path] = export(parse_options([*arguments, "--source", str(picture), "--output", str(tmp_path / "open.onnx")]))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 4, "height", "width"]
    module = ExportedGraph(load_model(weights), ["psp", "street"])
    for shape in ((1, 32, 32), (3, 160, 96)):
        judge(compare_onnx(path, module, {"noise": images(*shape)}), 1e-4)


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Call the command in this process and return its exit code and its last word."""
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main([str(argument) for argument in arguments]))
    return end.value.code, capsys.readouterr().err


def test_a_file_above_the_tolerance_is_not_left(
    one_head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--img-size", 64, "--tolerance", 0, "--output", tmp_path / "strict.onnx")
    code, said = failure(capsys, "--weights", one_head, *arguments)
    assert code == 5
    assert said.startswith("error: output 'street_")
    assert "more than --tolerance 0;" in said
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_the_models_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = failure(capsys, "--weights", tmp_path / "none.safetensors")
    assert code == 4
    assert "none.safetensors: there is no such checkpoint" in said
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_folding_is_noticed(
    one_head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fold_wrongly(graph: Graph) -> Graph:
        graph = fuse_graph(graph)
        with torch.no_grad():
            graph.model[0].conv.bias.add_(0.01)
        return graph

    monkeypatch.setattr("export.fuse_graph", fold_wrongly)
    code, said = failure(capsys, "--weights", one_head, "--img-size", 64, "--output", tmp_path / "wrong.onnx")
    assert code == 5
    assert "differs from the model" in said
    assert list(tmp_path.iterdir()) == []


def test_a_deployed_file_is_held_against_the_trained_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    torch.manual_seed(0)
    rows = [[-1, 1, "RepVGG", [8, 2]], [-1, 1, "RepVGG", [8]], [-1, 1, "Conv", [16, 3, 4]]]
    values = {"nc": 3, "backbone": rows, "head": [[[-1], 1, "YOLOv6Head", ["nc"]]]}
    graph = lively(Graph(parse_spec(values, "tiny.yaml"))).eval()
    weights = tmp_path / "best.safetensors"
    save_checkpoint(weights, Checkpoint("tiny.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    arguments = ["--weights", str(weights), "--img-size", "64"]
    counts, told = [], []
    for extra in ([], ["--deploy"]):
        main([*arguments, *extra])
        model = onnx.load(weights.with_suffix(".onnx"))
        counts.append(sum(node.op_type == "Conv" for node in model.graph.node))
        told += [json.loads(entry.value) for entry in model.metadata_props if entry.key == "deployed"]
    # Two blocks of two convolutions each become two convolutions; Conv and head have six more.
    assert counts == [10, 8] and told == [False, True]

    def deploy_wrongly(graph: Graph) -> Graph:
        graph = deploy_graph(graph)
        with torch.no_grad():
            graph.model[0].rbr_reparam.bias.add_(0.1)
        return graph

    weights.with_suffix(".onnx").unlink()
    monkeypatch.setattr("export.deploy_graph", deploy_wrongly)
    code, said = failure(capsys, *arguments, "--deploy")
    assert code == 5 and "differs from the model" in said
    assert list(tmp_path.iterdir()) == [weights]


def test_an_opset_that_the_exporter_does_not_know_is_refused_before_the_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--opset 5: the exporter cannot write that opset; take \d+ or leave"):
        main(["--weights", str(tmp_path / "absent.safetensors"), "--opset", "5"])
    require_opset(18)


def test_an_opset_that_cannot_be_written_is_refused(one_head: Path) -> None:
    module = ExportedGraph(load_model(one_head), ["street"])
    with pytest.raises(ExportError, match="--opset 99: the exporter cannot write this model as that opset"):
        build_onnx(module, (1, 64, 64), opset=99)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_its_pip_line(
    weights: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=f"needs the package {package}; run: pip install {package}$"):
        export(parse_options(["--weights", str(weights)]))


def test_what_a_format_needs_is_told_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--weights", "none.safetensors", "--include", "tensorrt"]
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ExportError, match=r"TensorRT export needs the package tensorrt; run: pip install tensorrt$"):
        main(arguments)
    monkeypatch.setattr("export.require_for_export", lambda *_: None)
    with pytest.raises(UsageError, match="an engine is built on the NVIDIA GPU that it shall run on; give --device 0"):
        main(arguments)
    monkeypatch.setattr("export.select_device", torch.device)
    with pytest.raises(UsageError, match="models are checked on the CPU, not on --device cuda:0"):
        main(["--weights", "best.safetensors", "--include", "onnx", "openvino", "--device", "cuda:0"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--img-size", "0"], "--img-size must be 1 to 16,384 pixels, but is 0"),
        (["--img-size", "64", "64", "3"], "--img-size takes one number or height and width, but got 3"),
        (["--batch-size", "0"], "--batch-size must be 1 or more"),
        (["--tolerance", "-1"], "--tolerance must be 0 or more"),
        (["--tolerance", "nan"], "--tolerance must be 0 or more"),
        (["--tolerance", "0.1", "--skip-check"], "--tolerance is about the check that --skip-check leaves out"),
        (["--source", "a.jpg", "--skip-check"], "--source is about the check that --skip-check leaves out"),
        (["--data", "a.yaml", "--skip-check"], "--data is about the check that --skip-check leaves out"),
        (["--passes", "5", "--skip-check"], "--passes is about the check that --skip-check leaves out"),
        (["--conf-thres", "0.3"], "--conf-thres is about the objects that --nms puts into the file"),
        (["--max-det", "5"], "--max-det is about the objects"),
        (["--nms", "--conf-thres", "1.1"], "--conf-thres must be 0 to 1, but is 1.1"),
        (["--nms", "--iou-thres", "nan"], "--iou-thres must be 0 to 1, but is nan"),
        (["--nms", "--max-det", "0"], "--max-det must be 1 to 30,000, but is 0"),
        (
            ["--include", "torchscript", "safetensors", "--opset", "18"],
            "--opset is about ONNX, but --include has torchs",
        ),
        (["--output", "best.safetensors"], "--output best.safetensors: the name must end in .onnx"),
        (["--output", "no/such/folder/a.onnx"], "there is no folder no/such/folder"),
        (["--output", "a.onnx"], "--output a.onnx: that is a folder"),
    ],
)
def test_wrong_usage_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(UsageError, match=sentence):
        parse_options(["--weights", "best.safetensors", *arguments])


def test_a_head_that_is_not_there_is_wrong_usage(weights: Path, picture: Path) -> None:
    options = parse_options(["--weights", str(weights), "--heads", "streat", "--source", str(picture)])
    with pytest.raises(UsageError, match=r"--heads streat: the model has no such head.*Did you mean 'street'"):
        export(options)


def test_every_shape_is_checked_on_the_picture_and_on_noise() -> None:
    picture = np.full((20, 10, 3), (200, 10, 30), np.uint8)
    checks = check_images(picture, [(1, 32, 64), (2, 64, 64)])
    assert [array.shape for array in checks.values()] == [(1, 3, 32, 64)] * 2 + [(2, 3, 64, 64)] * 2
    letterboxed = checks["the picture at 1x3x32x64"][0]
    assert letterboxed[:, 16, 32].tolist() == [200, 10, 30]
    assert letterboxed[:, 16, 0].tolist() == [114, 114, 114]


def test_the_check_letterboxes_as_the_model_wants() -> None:
    picture = np.full((20, 10, 3), (200, 10, 30), np.uint8)
    checks = check_images(picture, [(1, 32, 64)], LetterboxRule("top-left", square=True, pad=9))
    letterboxed = checks["the picture at 1x3x32x64"][0]
    assert letterboxed[:, 31, 15].tolist() == [200, 10, 30]
    assert letterboxed[:, 0, 16].tolist() == [9, 9, 9]


def test_a_model_of_another_input_rule_is_exported_with_it(tmp_path: Path, picture: Path) -> None:
    import onnx

    rule = "input: {channels: BGR, scale: 1, letterbox: top-left, square: true, pad: 100, shrink: area}"
    graph = Graph(parse_spec(yaml.safe_load(f"{ONE_HEAD}{rule}\n"), "model.yaml"))
    saved = tmp_path / "corner.safetensors"
    save_checkpoint(saved, Checkpoint("model.yaml", graph.spec.text, graph.names, {"ema": graph.state_dict()}))
    [path] = export(parse_options(["--weights", str(saved), "--img-size", "64", "--source", str(picture)]))
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    described = json.loads(told["input"])
    corner = {"anchor": "top-left", "square": True, "pad": 100, "shrink": "area"}
    assert described["letterbox"].items() >= corner.items()
    assert described["padding"] == 100 and described["resize"].endswith("at the top left")
    assert described["normalised_inside_by"]["channels"] == "BGR" and described["colour"] == "RGB"
